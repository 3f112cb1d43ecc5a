"""keyturn check: finds mistakes in manifests before they are applied."""

import sys

import click

from keyturn.cli import COMMANDS
from keyturn.cli.check.findings import check_files
from keyturn.cli.check.report_formats import REPORT_FORMATS, summary
from keyturn.cli.terminal import echo


@click.command(help=COMMANDS["check"].summary)
@click.option(
    "--filename", "-f", "filenames", multiple=True, metavar="FILE", help="File to check, or - for stdin. Repeatable."
)
@click.argument("more_filenames", nargs=-1, metavar="[FILE]...")
@click.option("--strict", is_flag=True, help="Exit with code 1 even if there are only warnings.")
@click.option(
    "--output",
    "-o",
    type=click.Choice([*REPORT_FORMATS]),
    default="text",
    show_default=True,
    help="Output format; github annotates the files of a pull request.",
)
def check(filenames: tuple[str, ...], more_filenames: tuple[str, ...], output: str, *, strict: bool) -> None:
    files = (*filenames, *more_filenames)
    if not files:
        raise click.UsageError("no file to check: use keyturn check -f FILE")
    report = check_files(files)
    if lines := REPORT_FORMATS[output](report):
        echo(*lines)
    if output != "json":
        echo(summary(report), err=True)
    sys.exit(1 if report.errors or (strict and report.findings) else 0)
