"""keyturn check: finds mistakes in manifests before they are applied."""

import json
import sys

import click

from keyturn.cli import COMMANDS
from keyturn.cli.check.findings import Finding, Report, check_files
from keyturn.cli.terminal import echo


@click.command(help=COMMANDS["check"].summary)
@click.option(
    "--filename", "-f", "filenames", multiple=True, metavar="FILE", help="File to check, or - for stdin. Repeatable."
)
@click.argument("more_filenames", nargs=-1, metavar="[FILE]...")
@click.option("--strict", is_flag=True, help="Exit with code 1 even if there are only warnings.")
@click.option(
    "--output", "-o", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Output format."
)
def check(filenames: tuple[str, ...], more_filenames: tuple[str, ...], output: str, *, strict: bool) -> None:
    files = (*filenames, *more_filenames)
    if not files:
        raise click.UsageError("no file to check: use keyturn check -f FILE")
    report = check_files(files)
    if output == "json":
        echo(*json.dumps(_as_json(report), indent=2, ensure_ascii=False).splitlines())
    else:
        for finding in report.findings:
            echo(_as_text(finding))
        echo(_summary(report), err=True)
    sys.exit(1 if report.errors or (strict and report.findings) else 0)


def _as_text(finding: Finding) -> str:
    # As compilers print it, so that editors find the position.
    position = f":{finding.line}:{finding.column}" if finding.line else ""
    subject = f"{finding.name}: " if finding.name else ""
    path = f" (at {finding.path})" if finding.path else ""
    return f"{finding.location}{position}: {finding.severity}: {subject}{finding.message}{path}"


def _as_json(report: Report) -> dict[str, object]:
    return {
        "tokenRequests": report.token_requests,
        "pods": report.pods,
        "errors": report.errors,
        "warnings": report.warnings,
        "findings": [finding._asdict() for finding in report.findings],
    }


def _summary(report: Report) -> str:
    checked = f"{_count(report.token_requests, 'TokenRequest')}, {_count(report.pods, 'Pod')} checked"
    return f"{checked}: {_count(report.errors, 'error')}, {_count(report.warnings, 'warning')}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
