"""keyturn check."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import click

from keyturn.api.base import GROUP, InvalidSpecError, without_nulls
from keyturn.api.token_request import KIND, Request, parse
from keyturn.cli import COMMANDS
from keyturn.cli.documents import UnreadableError, read_documents
from keyturn.cli.object_meta import refused
from keyturn.core.pods.lint import Trap, traps
from keyturn.core.pods.manifest import ManifestError

# The token subresource of a ServiceAccount, which is no manifest.
_NAMESAKES = ("authentication.k8s.io/v1",)


@dataclass(frozen=True, slots=True)
class _Found:
    """A manifest, and the place that findings in it begin with."""

    place: str
    path: str
    body: dict[str, Any] = field(repr=False)

    @property
    def is_request(self) -> bool:
        """Whether it is a TokenRequest, or was meant to be one: only the API server knows no misspelt kind."""
        version, kind = str(self.body.get("apiVersion")).lower(), str(self.body.get("kind")).lower()
        return version.startswith(f"{GROUP}/") or (kind == KIND.lower() and version not in _NAMESAKES)


@click.command(help=COMMANDS["check"])
@click.option("--filename", "-f", "filenames", multiple=True, metavar="FILE", help="May be repeated; - for stdin.")
@click.argument("more", nargs=-1, metavar="[FILE]...")
@click.option("--strict", is_flag=True, help="Exit with 1 for warnings too.")
def check(filenames: tuple[str, ...], more: tuple[str, ...], *, strict: bool) -> None:
    """Print a line for each finding; exit with 1 if there is an error."""
    files = (*filenames, *more)
    if not files:
        raise click.UsageError("give a file: keyturn check -f FILE")
    found = findings(files)
    for finding in found:
        click.echo(finding.line)
    errors = sum(finding.breaks for finding in found)
    click.echo(f"{_count(errors, 'error')}, {_count(len(found) - errors, 'warning')}", err=True)
    sys.exit(1 if errors or (strict and found) else 0)


class Finding(NamedTuple):
    """A line that begins with its place, and whether it is an error."""

    line: str
    breaks: bool = True


def findings(files: Iterable[str]) -> list[Finding]:
    """Check files together: a pod is held against the TokenRequests of all of them."""
    manifests, unreadable = _read(files)
    requests, wrong = _parsed([one for one in manifests if one.is_request])
    return [*unreadable, *wrong, *(told for one in manifests for told in _traps(one, requests))]


def _read(files: Iterable[str]) -> tuple[list[_Found], list[Finding]]:
    manifests: list[_Found] = []
    told = []
    for file in files:
        try:
            # What comes before the bad document of a file is checked.
            for document in read_documents(file):
                manifests += _each(document.place, "", document.body)
        except UnreadableError as error:
            told.append(Finding(str(error)))
    return manifests, told


def _parsed(manifests: Iterable[_Found]) -> tuple[list[Request], list[Finding]]:
    requests, told = [], []
    for one in manifests:
        try:
            requests.append(_request(without_nulls(one.body)))
        except InvalidSpecError as error:
            told.append(Finding(f"{one.place}{one.path}: error: {error.message}"))
    return requests, told


def _request(body: dict[str, Any]) -> Request:
    """Parse a manifest as kubectl sends it: it may leave its name to the API server, and nothing else."""
    missing = [name for name in ("apiVersion", "kind") if name not in body]
    if says := f"{missing[0]} is missing" if missing else refused(body.get("metadata")):
        raise InvalidSpecError(says)
    about = body["metadata"]
    if not about.get("name") and about.get("generateName"):
        body = body | {"metadata": about | {"name": f"{about['generateName'][:248]}xxxxx"}}
    return parse(body)


def _traps(one: _Found, requests: list[Request]) -> list[Finding]:
    try:
        found = traps(one.body, requests)
    except ManifestError as error:
        return [Finding(f"{one.place}{one.path}: error: {error}")]
    return [Finding(f"{one.place}{one.path}: {_weight(it)}: {it.says} (at {it.path})", it.breaks) for it in found]


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _weight(trap: Trap) -> str:
    return "error" if trap.breaks else "warning"


def _each(place: str, path: str, body: Any) -> Iterator[_Found]:
    if body is None:
        return
    if not isinstance(body, dict):
        raise UnreadableError(f"{place} error: a manifest must be an object")
    items = body.get("items")
    if str(body.get("kind")).endswith("List") and isinstance(items, list):
        for index, item in enumerate(items):
            yield from _each(place, f"{path} items[{index}]", item)
    else:
        yield _Found(f"{place} {_name(body)}", path, body)


def _name(body: dict[str, Any]) -> str:
    meta = body.get("metadata")
    name = meta.get("name") or meta.get("generateName") if isinstance(meta, dict) else ""
    return f"{body.get('kind', '')}/{name or ''}"
