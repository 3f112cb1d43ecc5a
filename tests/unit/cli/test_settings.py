from pathlib import Path

import click
import pytest

from keyturn.cli.settings import read_settings
from keyturn.core.settings import Settings


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"aws: {proxy: 'http://u:hunter2@p x'}", "at `$.aws.proxy`", id="an invalid value"),
        pytest.param(b'aws:\n  proxy: "http://u:hunter2@p\n', "unexpected end", id="an open quote"),
        pytest.param(b"aws: &hunter2 !!bool hunter2", "!!bool", id="a value that does not match its tag"),
        pytest.param(b"# hunter2 \xff", "can't decode byte 0xff", id="not UTF-8"),
        pytest.param(b"[" * 5000, "nested too deeply", id="nested too deeply"),
        pytest.param(b"aws: {}\n---\nx: hunter2", "expected one document, found 2", id="two documents"),
    ],
)
def test_error_is_one_line_without_the_content(tmp_path: Path, content: bytes, message: str) -> None:
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
