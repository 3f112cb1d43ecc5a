"""The output of keyturn check: lines for people, JSON for programs, workflow commands for GitHub Actions."""

import json
from collections.abc import Callable, Mapping

from keyturn.cli.check.findings import Finding, Report


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
    document = {
        "tokenRequests": report.token_requests,
        "pods": report.pods,
        "errors": report.errors,
        "warnings": report.warnings,
        "findings": [finding._asdict() for finding in report.findings],
    }
    return json.dumps(document, indent=2, ensure_ascii=False).splitlines()


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
