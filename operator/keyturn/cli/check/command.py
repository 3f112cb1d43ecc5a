"""keyturn check: finds mistakes in manifests before they are applied."""

import itertools
import sys
from pathlib import Path

import click

from keyturn.cli import COMMANDS
from keyturn.cli.check.findings import check_files
from keyturn.cli.check.report_formats import REPORT_FORMATS, summary
from keyturn.cli.terminal import echo


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
    type=click.Choice([*REPORT_FORMATS]),
    default="text",
    show_default=True,
    help="Output format; github annotates the files of a pull request.",
)
def check(filenames: tuple[str, ...], more_filenames: tuple[str, ...], output: str, *, strict: bool) -> None:
    if not (filenames or more_filenames):
        raise click.UsageError("no file to check: use keyturn check -f FILE")
    files = list(itertools.chain(*map(_manifest_files, (*filenames, *more_filenames))))
    report = check_files(files)
    if lines := REPORT_FORMATS[output](report):
        echo(*lines)
    if output != "json":
        echo(summary(report), err=True)
    sys.exit(1 if report.errors or (strict and report.findings) else 0)


def _manifest_files(path: str) -> list[str]:
    """Return the files of a directory that `kubectl apply -f` would read; any other path is one file."""
    if not Path(path).is_dir():
        return [path]
    files = sorted(str(file) for file in Path(path).iterdir() if file.suffix in (".json", ".yaml", ".yml"))
    if not files:
        raise click.UsageError(f"{path} contains no .json, .yaml or .yml file")
    return files
