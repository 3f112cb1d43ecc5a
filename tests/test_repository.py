"""Rules of the repository that no other tool checks."""

import ast
import importlib
import pkgutil
import re
import subprocess
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

import keyturn

ROOT = Path(__file__).parents[1]
OPERATOR = ROOT / "operator"
SOURCES = sorted(OPERATOR.rglob("*.py"))
# Fields with secrets have these names. API types use some of them for references, never for the text itself.
SECRET = {
    *("secret", "token", "password", "value", "assertion", "private_key", "secret_access_key", "session_token"),
    *("members", "body", "data"),
}


def test_nothing_shadows_the_standard_module_operator() -> None:
    assert not (OPERATOR / "__init__.py").exists()


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(OPERATOR)))
def test_file_has_at_most_400_lines(source: Path) -> None:
    assert len(source.read_text().splitlines()) <= 400


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(OPERATOR)))
def test_function_has_at_most_40_lines(source: Path) -> None:
    functions = [node for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, FUNCTIONS)]

    assert [f.name for f in functions if (f.end_lineno or 0) - f.lineno > 40] == []


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def _tracked(*patterns: str) -> list[Path]:
    """Return the files under version control that exist and match these git patterns."""
    listed = subprocess.check_output(["git", "ls-files", "--", *patterns], cwd=ROOT, text=True).splitlines()
    return [ROOT / name for name in listed if (ROOT / name).is_file()]


TREES = {path: ast.parse(path.read_text()) for path in _tracked("operator/*.py", "tests/*.py", "tools/*.py")}
TESTS = {path: tree for path, tree in TREES.items() if path.is_relative_to(ROOT / "tests")}


def _location(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def test_no_test_module_is_imported() -> None:
    modules = re.compile(r"tests\..*\b(test_\w+|conftest)$")
    imports = [
        f"{_location(path, node.lineno)}: {node.module}"
        for path, tree in TESTS.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and modules.match(node.module or "")
    ]

    assert not imports, "move what is shared to tests/support:\n" + "\n".join(imports)


def test_test_names_have_at_most_70_characters() -> None:
    names = [
        f"{_location(path, node.lineno)}: {node.name}"
        for path, tree in TESTS.items()
        for node in ast.walk(tree)
        if isinstance(node, FUNCTIONS) and node.name.startswith("test_") and len(node.name) > 70
    ]

    assert not names, "\n".join(names)


# Words and phrases that this project no longer uses, in prose and in identifiers.
RETIRED = (
    r"a look|agendas?|anew|careful tr(y|ies)|dice|doubt(s|ed)?|dress(es|ed)?|for ever|hand(s|ed|ing)? in"
    r"|heal(s|ed|ing)?|hurr(y|ies|ied)|in hand|in vain|interposer|is no news|kept tokens?|lends?|lent|lineages?"
    r"|look(s|ed|ing)? at|marks(?!=)|mend(s|ed|ing)?|of ours|rehears\w+|setbacks?|spen[dt]s?|spending|spine"
    r"|takes? turns|tells?|told|undressed|us(e|es|ed|ing) up|vanish(es|ed)|verdicts?|whoever|works? once|world"
)
# The same for words that prose may use.
RETIRED_IN_IDENTIFIERS = (
    r"answer(s|ed|ing)?|chance|gives?(?! up)|holding|leaving|look(s|ed|ing)?|news|outages|pace(s|d)?|permits?"
    r"|proofs?|says|seeds|traps?|turns"
)
# Former names of types, functions, fields and constants.
RETIRED_NAMES = {
    *("ADOPT_BY", "ApiAnswer", "FoundSecret", "GIVES", "GIVES_ID_TOKEN", "Ground", "HEALED", "Holding", "KeptToken"),
    *("Kube", "LeavingError", "MARKS_FILE", "NEEDS_IF", "OneFile", "OneFormat", "Pace", "REACTIONS", "Reaction"),
    *("SPENDING_RULES", "SPEND_SECONDS", "SeenSecrets", "Shell", "Spending", "Systems", "Turns", "USES_UP"),
    *("WebAnswer", "WebSettings", "World", "clock_set_back", "concerned", "found_secret", "handled_refresh", "in_hand"),
    *("is_overtaken", "is_spent", "last_attempt_at", "least_interval_seconds", "next_attempt_at", "next_look"),
    *("probes_listen", "put_unreadable", "reason_to_renew", "renew_at", "request_seen", "requests_listed"),
    *("secret_seen", "source_expires_at", "source_seen", "too_soon", "uses_up", "uses_up_token", "when_over"),
    # They do not name a thing. `given` is missing because Hypothesis has it.
    *("asked", "found", "held", "of", "wanted"),
}
# Former public names. `expiresAt` alone is a field of AWS too.
RETIRED_PUBLIC_NAMES = (
    r"status\.(issued|expires|renew)At|(lastAttempt|nextAttempt|sourceExpires)At|handledRefresh"
    r"|revokeSuperseded\.after|keyturn\.dev/(marks|lineage|adopt-by)"
    r"|SourceMissing|SpecInvalid|SourceSpent|SourceReverted|RefreshInDoubt|WriteRefused|IdentityForbidden"
    r"|MarksUnreadable|RenewalAsked|Drifted|KeyturnRefreshInDoubt|KeyturnSourceEnds|in_doubt"
    r"|keyturn_(agenda_requests|clock_offset_seconds|source_warning_timestamp_seconds|throttled_total)"
    r"|--(workers|probes-listen|sources|write|state|service-account-token)|renew --once"
    r"|leastIntervalSeconds|sources\.labelled|issuers\.hosts|privateNetworks|scopedNamespaces|leaderElectionID"
)


def _identifiers(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the names that a module defines or uses, without pytest's parameter `marks`."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield node.lineno, name
            case ast.ClassDef(name=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield node.lineno, name
            case ast.keyword(arg=str(name)) if name != "marks":
                yield node.lineno, name


def _as_prose(identifier: str) -> str:
    """Return the words of an identifier, separated by spaces."""
    return re.sub(r"([a-z])([A-Z])", r"\1 \2", identifier).replace("_", " ")


def test_no_retired_identifiers() -> None:
    retired = re.compile(rf"\b({RETIRED}|{RETIRED_IN_IDENTIFIERS})\b", re.IGNORECASE)
    hits = {
        f"{_location(path, line)}: {name}": None
        for path, tree in TREES.items()
        if path != Path(__file__)
        for line, name in _identifiers(tree)
        if name.lstrip("_") in RETIRED_NAMES or retired.search(_as_prose(name))
    }

    assert not hits, f"{len(hits)} identifiers:\n" + "\n".join(hits)


def _lines_with(pattern: re.Pattern[str], exempt: str) -> list[str]:
    """Return the lines under version control that match, except in this file and in exempt paths."""
    return [
        f"{_location(path, number)}: {match[0]}: {line.strip()[:120]}"
        for path in _tracked()
        if path != Path(__file__) and not re.match(exempt, str(path.relative_to(ROOT)))
        for number, line in enumerate(path.read_text(errors="ignore").splitlines(), 1)
        if (match := pattern.search(line))
    ]


def test_no_retired_words() -> None:
    # The changelog quotes former names.
    exempt = r"CHANGELOG|LICENSE|requirements/|.*package-lock\.json$"
    # An underscore ends a word here, as in the names of metrics.
    hits = _lines_with(re.compile(rf"(?<![a-z])({RETIRED})(?![a-z])", re.IGNORECASE), exempt)

    assert not hits, f"{len(hits)} lines:\n" + "\n".join(hits)


def test_no_retired_public_names() -> None:
    hits = _lines_with(re.compile(rf"(?<![\w-])({RETIRED_PUBLIC_NAMES})(?![\w-])"), r"CHANGELOG")

    assert not hits, f"{len(hits)} lines:\n" + "\n".join(hits)


def _values() -> Iterator[type]:
    """Yield every dataclass and Struct of the package."""
    for info in pkgutil.walk_packages(keyturn.__path__, "keyturn."):
        # Importing keyturn.__main__ would run it.
        members = vars(importlib.import_module(info.name)).values() if info.name != "keyturn.__main__" else ()
        for kind in members:
            if isinstance(kind, type) and kind.__module__ == info.name and (_is_struct(kind) or is_dataclass(kind)):
                yield kind


def _is_struct(kind: type) -> bool:
    return issubclass(kind, msgspec.Struct)


# The keys include the module, because two modules may have a class of the same name.
VALUES = {f"{kind.__module__}.{kind.__qualname__}": kind for kind in _values()}
STRUCTS = {name: kind for name, kind in VALUES.items() if _is_struct(kind)}
DATACLASSES = {name: kind for name, kind in VALUES.items() if is_dataclass(kind)}


def test_values_are_found() -> None:
    assert {"Credentials", "Token", "PipelineValues", "AwsResponse", "ApiResponse"} <= {
        kind.__name__ for kind in DATACLASSES.values()
    }
    assert {"Issuance", "TokenRequestSpec", "SecretMeta"} <= {kind.__name__ for kind in STRUCTS.values()}


@pytest.mark.parametrize("kind", DATACLASSES.values(), ids=DATACLASSES.keys())
def test_repr_of_a_dataclass_contains_no_secret(kind: type[Any]) -> None:
    instance, names = object.__new__(kind), [field.name for field in fields(kind)]
    for name in names:
        object.__setattr__(instance, name, f"planted-{name}")

    assert [name for name in names if name in SECRET and f"planted-{name}" in repr(instance)] == []


@pytest.mark.parametrize("kind", STRUCTS.values(), ids=STRUCTS.keys())
def test_struct_has_no_secret_because_its_repr_shows_all(kind: type[msgspec.Struct]) -> None:
    assert [field.name for field in msgspec.structs.fields(kind) if field.name in SECRET and field.type is str] == []
