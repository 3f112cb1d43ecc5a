import io
from pathlib import Path

import click
import pytest
import yaml

from keyturn.cli.documents import UnreadableError, dump_document, read_documents, read_settings
from keyturn.core.settings import Settings
from tests.support.irregular_files import put_irregular_file

STRINGS = [
    *("y", "N", "yes", "Off", "1e3", "0x1f", "012", "+1", ".5", "1_0", "~", "", "null", "<<", "2024-01-01", "12:30"),
    *("true", "a\n b\n", "# x", "a: b", "- a", "22", "*a", "&a", "!a", "%a", "@a", "'", '"', "a ", "é"),
]


def read(text: str, tmp_path: Path) -> list[object]:
    (tmp_path / "file").write_text(text)
    return [document.body for document in read_documents(str(tmp_path / "file"))]


@pytest.mark.parametrize("text", STRINGS, ids=repr)
def test_string_is_dumped_as_a_string(text: str, tmp_path: Path) -> None:
    assert read(dump_document({"value": text}), tmp_path) == [{"value": text}]
    assert yaml.safe_load(dump_document({"value": text})) == {"value": text}


@pytest.mark.parametrize(
    ("text", "bodies"),
    [
        pytest.param("a: 1\n---\na: 2\n", [{"a": 1}, {"a": 2}], id="two documents"),
        pytest.param("# x\n---\na: 1\n--- # y\n---\n\n---\na: 2", [{"a": 1}, {"a": 2}], id="empty documents"),
        pytest.param("a: |\n  x\n  --- y\n---\n- 1", [{"a": "x\n--- y\n"}, [1]], id="dashes in a block scalar"),
        pytest.param('{"a": {"b": [1]}}', [{"a": {"b": [1]}}], id="JSON"),
        pytest.param("a: &x {b: 1}\nc: {<<: *x}", [{"a": {"b": 1}, "c": {"b": 1}}], id="anchors"),
        pytest.param("", [], id="an empty file"),
    ],
)
def test_file_is_split_into_documents(text: str, bodies: list[object], tmp_path: Path) -> None:
    assert read(text, tmp_path) == bodies


def test_dash_reads_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("a: 1"))

    assert [(document.file, document.number, document.body) for document in read_documents("-")] == [("-", 1, {"a": 1})]


def test_endless_file_is_refused() -> None:
    with pytest.raises(UnreadableError, match="/dev/zero: error: larger than 16777216 characters"):
        list(read_documents("/dev/zero"))


@pytest.mark.parametrize("kind", ["pipe", "sparse file"])
def test_irregular_settings_file_is_refused(kind: str, tmp_path: Path) -> None:
    put_irregular_file(tmp_path / "settings.yaml", kind)

    with pytest.raises(click.BadParameter, match=r"not a regular file|larger than 1048576 bytes"):
        read_settings(str(tmp_path / "settings.yaml"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"a: 1\n---\n{", ", document 2: error: not valid YAML: ", id="not YAML"),
        pytest.param(b"[" * 5000, ", document 1: error: nested too deeply", id="nested too deeply"),
        pytest.param(b"\xff", ": error: not text in UTF-8", id="not UTF-8"),
        pytest.param(b"!!python/object/apply:os.getcwd []", "could not determine a constructor", id="a Python object"),
    ],
)
def test_error_is_one_line_with_the_location(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UnreadableError) as caught:
        list(read_documents(str(tmp_path / "file")))

    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path}/file")
    assert "\n" not in str(caught.value)


def test_error_does_not_quote_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a:\n  password: hunter2: [\n")
    with pytest.raises(UnreadableError) as caught:
        list(read_documents(str(tmp_path / "file")))

    assert "hunter2" not in str(caught.value)
    assert "(line 2, column " in str(caught.value)


def test_missing_file_is_an_error() -> None:
    with pytest.raises(UnreadableError, match=r"^/not/there: error: No such file or directory$"):
        list(read_documents("/not/there"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"aws: {proxy: 'http://u:hunter2@p x'}", "proxy is not an http:// or", id="an invalid value"),
        pytest.param(b'aws:\n  proxy: "http://u:hunter2@p\n', "unexpected end", id="an open quote"),
        pytest.param(b"aws: &hunter2 !!bool hunter2", "!!bool", id="a value that does not match its tag"),
        pytest.param(b"# hunter2 \xff", "not text in UTF-8", id="not UTF-8"),
        pytest.param(b"[" * 5000, "nested too deeply", id="nested too deeply"),
        pytest.param(b"aws: {}\n---\nx: hunter2", "expected one document, found 2", id="two documents"),
    ],
)
def test_settings_error_is_one_line_without_the_content(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(content)
    with pytest.raises(click.BadParameter) as caught:
        read_settings(str(path))

    text = caught.value.format_message()
    assert (str(path) in text, message in text, "hunter2" in text, "\n" in text) == (True, True, False, False)


@pytest.mark.parametrize(
    ("content", "seconds"),
    [
        pytest.param("", Settings().renewal.min_interval_seconds, id="an empty file"),
        pytest.param("# nothing\n", Settings().renewal.min_interval_seconds, id="a comment"),
        pytest.param("---\n", Settings().renewal.min_interval_seconds, id="an empty document"),
        pytest.param("renewal: {minIntervalSeconds: 7}\n", 7, id="another value"),
    ],
)
def test_settings_replace_the_defaults(tmp_path: Path, content: str, seconds: int) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(content)

    assert read_settings(str(path)).renewal.min_interval_seconds == seconds
