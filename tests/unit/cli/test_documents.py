"""Manifests in files."""

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from keyturn.cli.documents import UnreadableError, read_documents, written

STRINGS = ["y", "N", "yes", "Off", "1e3", "0x1f", "012", "+1", ".5", "1_0", "~", "", "null", "<<", "2024-01-01"]
STRINGS += [
    "12:30",
    "true",
    "a\n b\n",
    "# x",
    "a: b",
    "- a",
    "22",
    "*a",
    "&a",
    "!a",
    "%a",
    "@a",
    "'",
    '"',
    "a ",
    "é",
]


@pytest.fixture(autouse=True)
def _usual_recursion_limit() -> Iterator[None]:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)  # of a process of its own: the operator's is far higher
    yield
    sys.setrecursionlimit(before)


def read(text: str, tmp_path: Path) -> list[object]:
    (tmp_path / "file").write_text(text)
    return [document.body for document in read_documents(str(tmp_path / "file"))]


@pytest.mark.parametrize("text", STRINGS, ids=repr)
def test_a_string_is_written_as_one(text: str, tmp_path: Path) -> None:
    assert read(written({"value": text}), tmp_path) == [{"value": text}]
    assert yaml.safe_load(written({"value": text})) == {"value": text}


@pytest.mark.parametrize(
    ("text", "bodies"),
    [
        pytest.param("a: 1\n---\na: 2\n", [{"a": 1}, {"a": 2}], id="two"),
        pytest.param("# x\n---\na: 1\n--- # y\n---\n\n---\na: 2", [{"a": 1}, {"a": 2}], id="empty ones"),
        pytest.param("a: |\n  x\n  --- y\n---\n- 1", [{"a": "x\n--- y\n"}, [1]], id="dashes in a text"),
        pytest.param('{"a": {"b": [1]}}', [{"a": {"b": [1]}}], id="JSON"),
        pytest.param("a: &x {b: 1}\nc: {<<: *x}", [{"a": {"b": 1}, "c": {"b": 1}}], id="anchors"),
        pytest.param("", [], id="nothing"),
    ],
)
def test_documents(text: str, bodies: list[object], tmp_path: Path) -> None:
    assert read(text, tmp_path) == bodies


def test_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("a: 1"))

    assert [(document.file, document.number, document.body) for document in read_documents("-")] == [("-", 1, {"a": 1})]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"a: 1\n---\n{", ", document 2: error: not valid YAML: ", id="no YAML"),
        pytest.param(b"a: {b: 1, b: 2}", "not valid YAML: duplicate key 'b' (line 1", id="a name twice"),
        pytest.param(b"a: !!int ''", "the value is not a valid !!int", id="not what its tag says"),
        pytest.param(b"a: " + b"9" * 5000, "or is too long (line 1", id="a number of 5000 digits"),
        pytest.param(b"[" * 5000, ", document 1: error: nested too deep", id="nested too deep"),
        pytest.param(
            b"a: &a\n  b: [*a]\n", "an alias refers to a collection that contains it (line 2", id="a list in itself"
        ),
        pytest.param(b"\xff", ": error: 'utf-8' codec can't decode", id="no text"),
        pytest.param(b"!!python/object/apply:os.getcwd []", "could not determine a constructor", id="a Python object"),
    ],
)
def test_what_is_unreadable_is_told_in_a_line(content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UnreadableError) as caught:
        list(read_documents(str(tmp_path / "file")))

    assert says in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path}/file")
    assert "\n" not in str(caught.value)


def test_the_line_that_is_no_yaml_is_not_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a:\n  password: hunter2: [\n")
    with pytest.raises(UnreadableError) as caught:
        list(read_documents(str(tmp_path / "file")))

    assert "hunter2" not in str(caught.value)
    assert "(line 2, column " in str(caught.value)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(UnreadableError, match=r"^/not/there: error: No such file or directory$"):
        list(read_documents("/not/there"))
