"""The output of keyturn check: lines for people, JSON for programs, workflow commands for GitHub Actions."""

import json
from collections.abc import Callable, Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from keyturn.cli.check.findings import Finding, Report, Severity


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


def summary(report: Report) -> str:
    """Return how much was checked, and how many mistakes there are."""
    checked = f"{_count(report.token_requests, 'TokenRequest')}, {_count(report.pods, 'Pod')} checked"
    return f"{checked}: {_count(report.errors, 'error')}, {_count(report.warnings, 'warning')}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _text(report: Report) -> list[str]:
    # As compilers print it, so that editors find the position.
    return [
        f"{finding.location}{f':{finding.line}:{finding.column}' if finding.line else ''}: {finding.severity}:"
        f" {_sentence(finding)}"
        for finding in report.findings
    ]


def _sentence(finding: Finding) -> str:
    subject = f"{finding.name}: " if finding.name else ""
    path = f" (at {finding.path})" if finding.path else ""
    return f"{subject}{finding.message}{path}"


def _json(report: Report) -> list[str]:
    findings = tuple(CheckFinding(*finding) for finding in report.findings)
    document = CheckResult(report.token_requests, report.pods, report.errors, report.warnings, findings)
    return json.dumps(msgspec.to_builtins(document), indent=2, ensure_ascii=False).splitlines()


def _github(report: Report) -> list[str]:
    # https://docs.github.com/actions/reference/workflow-commands-for-github-actions
    return [
        f"::{finding.severity} file={_escaped(finding.location, ':,')}"
        + (f",line={finding.line},col={finding.column}" if finding.line else "")
        + f",title=keyturn check::{_escaped(_sentence(finding))}"
        for finding in report.findings
    ]


def _escaped(text: str, more: str = "") -> str:
    return "".join(f"%{ord(character):02X}" if character in f"%\r\n{more}" else character for character in text)


REPORT_FORMATS: Mapping[str, Callable[[Report], list[str]]] = {"text": _text, "json": _json, "github": _github}
