"""Checks files together, and gives each finding its position."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from keyturn.api.token_request import Request
from keyturn.api.validation import VALUE_PLACEHOLDER, Problem
from keyturn.cli.check.conflicts import CheckedRequest, conflicts
from keyturn.cli.check.field_errors import child_path
from keyturn.cli.check.objects import Manifest, manifests, parse_request, pod_problems, problem_of
from keyturn.cli.documents import UnreadableError, read_documents
from keyturn.core.pods.lint import lint_pod
from keyturn.core.pods.manifest import ManifestError
from keyturn.strict_yaml import Position, compose, locate

_LONGEST_QUOTED = 40

Severity = Literal["error", "warning"]


class CheckFinding(msgspec.Struct, frozen=True):
    """A mistake in a manifest."""

    location: Annotated[str, Meta(description="The file, as on the command line.")]
    line: Annotated[
        int, Meta(ge=0, description="Line of the field's name or of the item of a list, from 1; 0 if it is not known.")
    ]
    column: Annotated[int, Meta(ge=0, description="Column, from 1; 0 if it is not known.")]
    name: Annotated[
        str,
        Meta(description="Kind and name, such as TokenRequest/billing; empty if the file cannot be read."),
    ]
    path: Annotated[
        str,
        Meta(description="Path of the field in the document, such as spec.target.secretName; empty for the whole."),
    ]
    severity: Annotated[Severity, Meta(description="error or warning.")]
    message: Annotated[str, Meta(description="What is wrong. It never contains a value of a Pod.")]


class CheckResult(msgspec.Struct, frozen=True, rename="camel"):
    """The result of `keyturn check`."""

    token_requests: Annotated[int, Meta(description="Number of TokenRequests checked.")]
    pods: Annotated[int, Meta(description="Number of Pods, and of the Deployments, Jobs and so on that create them.")]
    errors: Annotated[int, Meta(description="Number of errors.")]
    warnings: Annotated[int, Meta(description="Number of warnings.")]
    findings: Annotated[tuple[CheckFinding, ...], Meta(description="The mistakes, by file and line.")]


class _Positions:
    """The positions in documents, each of which is parsed again for its first finding."""

    def __init__(self) -> None:
        self._roots: dict[tuple[str, int], Any] = {}

    def locate(self, manifest: Manifest, path: str) -> Position:
        """Return the position of a path in a manifest, with its line in the file."""
        document = manifest.document
        key = document.file, document.number
        if key not in self._roots:
            self._roots[key] = compose(document.text)
        position = locate(self._roots[key], _in_document(manifest, path))
        return position._replace(line=document.line + position.line)

    def describe(self, manifest: Manifest, path: str) -> str:
        """Return the position as FILE:LINE."""
        return f"{manifest.document.file}:{self.locate(manifest, path).line}"

    def finding(self, manifest: Manifest, problem: Problem, severity: Severity = "error") -> CheckFinding:
        """Return the finding for a problem of a manifest."""
        position = self.locate(manifest, problem.path)
        message, text = problem.message, position.text
        # The values of Pods may be secret.
        if manifest.is_token_request and 0 < len(text) <= _LONGEST_QUOTED and message.endswith(VALUE_PLACEHOLDER):
            message = message.removesuffix(VALUE_PLACEHOLDER) + text
        file, path = manifest.document.file, _in_document(manifest, problem.path)
        return CheckFinding(file, position.line, position.column, manifest.name, path, severity, message)


def check_files(files: Sequence[str]) -> CheckResult:
    """Check files together: a Pod is checked against the TokenRequests in all of them."""
    read: list[Manifest] = []
    findings: list[CheckFinding] = []
    for file in files:
        try:
            # The documents before an unreadable one are still checked.
            for document in read_documents(file):
                read += manifests(document)
        except UnreadableError as error:
            findings.append(CheckFinding(file, error.line, error.column, "", "", "error", error.problem))
    positions, requests = _Positions(), []
    for manifest in read:
        if manifest.is_token_request:
            request, problems = parse_request(manifest)
            requests.append(CheckedRequest(manifest, request))
            findings += [positions.finding(manifest, problem) for problem in problems]
    findings += [positions.finding(*conflict) for conflict in conflicts(requests, positions.describe)]
    valid = [checked.request for checked in requests if checked.request]
    pods = [manifest for manifest in read if manifest.has_pod]
    for manifest in pods:
        findings += _lint(manifest, valid, positions)
    findings.sort(key=lambda finding: (files.index(finding.location), finding.line, finding.column))
    errors = sum(finding.severity == "error" for finding in findings)
    return CheckResult(len(requests), len(pods), errors, len(findings) - errors, tuple(findings))


def _lint(manifest: Manifest, requests: Sequence[Request], positions: _Positions) -> Iterator[CheckFinding]:
    try:
        for finding in lint_pod(manifest.body, requests):
            severity: Severity = "error" if finding.is_error else "warning"
            yield positions.finding(manifest, Problem(finding.message, finding.path), severity)
    except ManifestError as error:
        for problem in pod_problems(manifest) or [problem_of(str(error))]:
            yield positions.finding(manifest, problem)


def _in_document(manifest: Manifest, path: str) -> str:
    return child_path(manifest.path, path) if manifest.path and path else manifest.path or path
