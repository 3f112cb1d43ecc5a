"""What no other tool keeps."""

import ast
import importlib
import pkgutil
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
# The names that secrets have here. The API has a part of some of these names, never the text itself.
SECRET = {
    *("secret", "token", "password", "value", "assertion", "private_key", "secret_access_key", "session_token"),
    *("members", "body", "data"),
}


def test_nothing_shadows_the_standard_module_operator() -> None:
    assert not (OPERATOR / "__init__.py").exists()


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(OPERATOR)))
def test_a_file_tells_one_thing(source: Path) -> None:
    assert len(source.read_text().splitlines()) <= 400


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(OPERATOR)))
def test_a_function_fits_a_screen(source: Path) -> None:
    functions = [
        node for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]  # fmt: skip

    assert [f.name for f in functions if (f.end_lineno or 0) - f.lineno > 40] == []


def _values() -> Iterator[type]:
    """Every dataclass and Struct of the package."""
    for info in pkgutil.walk_packages(keyturn.__path__, "keyturn."):
        # To import keyturn.__main__ is to run it.
        own = vars(importlib.import_module(info.name)).values() if info.name != "keyturn.__main__" else ()
        for kind in own:
            if isinstance(kind, type) and kind.__module__ == info.name and (_is_struct(kind) or is_dataclass(kind)):
                yield kind


def _is_struct(kind: type) -> bool:
    return issubclass(kind, msgspec.Struct)


# By module too: two parts may have a value of the same name, and each must be looked at.
VALUES = {f"{kind.__module__}.{kind.__qualname__}": kind for kind in _values()}
STRUCTS = {name: kind for name, kind in VALUES.items() if _is_struct(kind)}
DATACLASSES = {name: kind for name, kind in VALUES.items() if is_dataclass(kind)}


def test_the_values_are_found() -> None:
    assert {"Credentials", "Token", "PipelineValues", "AwsResponse", "ApiResponse"} <= {
        it.__name__ for it in DATACLASSES.values()
    }
    assert {"Issuance", "TokenRequestSpec", "Meta"} <= {it.__name__ for it in STRUCTS.values()}


@pytest.mark.parametrize("kind", DATACLASSES.values(), ids=DATACLASSES.keys())
def test_a_secret_is_not_in_a_repr(kind: type[Any]) -> None:
    made, names = object.__new__(kind), [field.name for field in fields(kind)]
    for name in names:
        object.__setattr__(made, name, f"planted-{name}")

    assert [name for name in names if name in SECRET and f"planted-{name}" in repr(made)] == []


@pytest.mark.parametrize("kind", STRUCTS.values(), ids=STRUCTS.keys())
def test_no_struct_holds_a_secret_for_its_repr_shows_all(kind: type[msgspec.Struct]) -> None:
    assert [field.name for field in msgspec.structs.fields(kind) if field.name in SECRET and field.type is str] == []
