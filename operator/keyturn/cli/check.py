"""keyturn check: finds mistakes in manifests before they are applied."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple

import click
import msgspec

from keyturn.api.base import GROUP, InvalidSpecError, matching, without_nulls
from keyturn.api.metadata import LABEL_NAME, LABEL_WORDS, LabelValue
from keyturn.api.token_request import KIND, Request, parse
from keyturn.api.validation import validation_message
from keyturn.cli import COMMANDS
from keyturn.cli.documents import UnreadableError, read_documents
from keyturn.cli.terminal import echo
from keyturn.core.pods.lint import lint_pod
from keyturn.core.pods.manifest import ManifestError

# Kubernetes' own TokenRequest, the token subresource of a ServiceAccount.
_OTHER_TOKEN_REQUESTS = ("authentication.k8s.io/v1",)


@dataclass(frozen=True, slots=True)
class _Manifest:
    """A manifest, and the location that its findings start with."""

    location: str
    body: dict[str, Any] = field(repr=False)

    @property
    def is_token_request(self) -> bool:
        """Whether it is a TokenRequest, even a misspelled one such as kind `Tokenrequest`."""
        version, kind = str(self.body.get("apiVersion")).lower(), str(self.body.get("kind")).lower()
        return version.startswith(f"{GROUP}/") or (kind == KIND.lower() and version not in _OTHER_TOKEN_REQUESTS)


class Diagnostic(NamedTuple):
    """A line that starts with its location, and whether it is an error or a warning."""

    line: str
    is_error: bool = True


_Name = Annotated[str, matching(LABEL_NAME, LABEL_WORDS, max_length=317)]


class _ObjectMeta(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """The metadata that the API server accepts."""

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    labels: dict[_Name, LabelValue] = {}
    annotations: dict[_Name, str] = {}
    finalizers: list[str] = []
    owner_references: list[dict[str, Any]] = []
    # The API server writes these, and `kubectl get -o yaml` shows them.
    self_link: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str = ""
    deletion_grace_period_seconds: int = 0
    managed_fields: list[dict[str, Any]] = []


class _Object(msgspec.Struct):
    metadata: _ObjectMeta


@click.command(help=COMMANDS["check"].summary)
@click.option(
    "--filename", "-f", "filenames", multiple=True, metavar="FILE", help="File to check, or - for stdin. Repeatable."
)
@click.argument("more_filenames", nargs=-1, metavar="[FILE]...")
@click.option("--strict", is_flag=True, help="Exit with code 1 even if there are only warnings.")
def check(filenames: tuple[str, ...], more_filenames: tuple[str, ...], *, strict: bool) -> None:
    files = (*filenames, *more_filenames)
    if not files:
        raise click.UsageError("no file to check: use keyturn check -f FILE")
    diagnostics = check_files(files)
    for diagnostic in diagnostics:
        echo(diagnostic.line)
    errors = sum(diagnostic.is_error for diagnostic in diagnostics)
    echo(f"{_count(errors, 'error')}, {_count(len(diagnostics) - errors, 'warning')}", err=True)
    sys.exit(1 if errors or (strict and diagnostics) else 0)


def check_files(files: Iterable[str]) -> list[Diagnostic]:
    """Check files together: a pod is checked against the TokenRequests in all of them."""
    manifests: list[_Manifest] = []
    diagnostics: list[Diagnostic] = []
    for file in files:
        try:
            # The documents before an unreadable one are still checked.
            for document in read_documents(file):
                manifests += _manifests(document.location, "", document.body)
        except UnreadableError as error:
            diagnostics.append(Diagnostic(str(error)))
    requests: list[Request] = []
    for manifest in manifests:
        if manifest.is_token_request:
            try:
                requests.append(_parse_request(without_nulls(manifest.body)))
            except InvalidSpecError as error:
                diagnostics.append(Diagnostic(f"{manifest.location}: error: {error.message}"))
    for manifest in manifests:
        diagnostics += _lint(manifest, requests)
    return diagnostics


def _manifests(location: str, path: str, body: Any) -> Iterator[_Manifest]:
    if body is None:
        return
    if not isinstance(body, dict):
        raise UnreadableError(f"{location} error: a manifest must be an object")
    items = body.get("items")
    if str(body.get("kind")).endswith("List") and isinstance(items, list):
        for index, item in enumerate(items):
            yield from _manifests(location, f"{path} items[{index}]", item)
    else:
        meta = body.get("metadata")
        name = meta.get("name") or meta.get("generateName") if isinstance(meta, dict) else ""
        yield _Manifest(f"{location} {body.get('kind', '')}/{name or ''}{path}", body)


def _parse_request(body: dict[str, Any]) -> Request:
    """Parse a manifest as the API server does, which generates a name from metadata.generateName."""
    missing = [name for name in ("apiVersion", "kind") if name not in body]
    if missing:
        raise InvalidSpecError(f"{missing[0]} is missing")
    try:
        msgspec.convert({"metadata": body.get("metadata")}, _Object)
    except msgspec.ValidationError as error:
        raise InvalidSpecError(validation_message(error, _Object)) from None
    meta = body["metadata"]
    if not meta.get("name") and meta.get("generateName"):
        body = body | {"metadata": meta | {"name": f"{meta['generateName'][:248]}xxxxx"}}
    return parse(body)


def _lint(manifest: _Manifest, requests: list[Request]) -> Iterator[Diagnostic]:
    try:
        findings = lint_pod(manifest.body, requests)
    except ManifestError as error:
        yield Diagnostic(f"{manifest.location}: error: {error}")
        return
    for finding in findings:
        severity = "error" if finding.is_error else "warning"
        yield Diagnostic(f"{manifest.location}: {severity}: {finding.message} (at {finding.path})", finding.is_error)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
