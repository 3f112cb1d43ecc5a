"""keyturn check: finds mistakes in manifests, and prints them as text, JSON or workflow commands for GitHub Actions."""

import itertools
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import click
import msgspec

from keyturn.cli import COMMANDS
from keyturn.cli.check.findings import CheckFinding, CheckResult, check_files
from keyturn.cli.terminal import echo


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _text(result: CheckResult) -> list[str]:
    # As compilers print it, so that editors find the position.
    return [
        f"{finding.location}{f':{finding.line}:{finding.column}' if finding.line else ''}: {finding.severity}:"
        f" {_sentence(finding)}"
        for finding in result.findings
    ]


def _sentence(finding: CheckFinding) -> str:
    subject = f"{finding.name}: " if finding.name else ""
    path = f" (at {finding.path})" if finding.path else ""
    return f"{subject}{finding.message}{path}"


def _json(result: CheckResult) -> list[str]:
    return json.dumps(msgspec.to_builtins(result), indent=2, ensure_ascii=False).splitlines()


def _github(result: CheckResult) -> list[str]:
    # https://docs.github.com/actions/reference/workflow-commands-for-github-actions
    return [
        f"::{finding.severity} file={_escaped(finding.location, ':,')}"
        + (f",line={finding.line},col={finding.column}" if finding.line else "")
        + f",title=keyturn check::{_escaped(_sentence(finding))}"
        for finding in result.findings
    ]


def _escaped(text: str, more: str = "") -> str:
    return "".join(f"%{ord(character):02X}" if character in f"%\r\n{more}" else character for character in text)


_OUTPUTS: Mapping[str, Callable[[CheckResult], list[str]]] = {"text": _text, "json": _json, "github": _github}


@click.command(help=COMMANDS["check"].summary)
@click.option(
    "--filename",
    "-f",
    "filenames",
    multiple=True,
    metavar="FILE",
    help="File or directory to check, or - for stdin. Repeatable.",
)
@click.argument("more_filenames", nargs=-1, metavar="[FILE]...")
@click.option("--strict", is_flag=True, help="Exit with code 1 even if there are only warnings.")
@click.option(
    "--output",
    "-o",
    type=click.Choice([*_OUTPUTS]),
    default="text",
    show_default=True,
    help="Output format; github annotates the files of a pull request.",
)
def check(filenames: tuple[str, ...], more_filenames: tuple[str, ...], output: str, *, strict: bool) -> None:
    if not (filenames or more_filenames):
        raise click.UsageError("no file to check: use keyturn check -f FILE")
    files = list(itertools.chain(*map(_manifest_files, (*filenames, *more_filenames))))
    result = check_files(files)
    if lines := _OUTPUTS[output](result):
        echo(*lines)
    if output != "json":
        checked = f"{_count(result.token_requests, 'TokenRequest')}, {_count(result.pods, 'Pod')} checked"
        echo(f"{checked}: {_count(result.errors, 'error')}, {_count(result.warnings, 'warning')}", err=True)
    sys.exit(1 if result.errors or (strict and result.findings) else 0)


def _manifest_files(path: str) -> list[str]:
    """Return the files of a directory that `kubectl apply -f` would read; any other path is one file."""
    if not Path(path).is_dir():
        return [path]
    files = sorted(str(file) for file in Path(path).iterdir() if file.suffix in (".json", ".yaml", ".yml"))
    if not files:
        raise click.UsageError(f"{path} contains no .json, .yaml or .yml file")
    return files
