"""The file of --config."""

from pathlib import Path

import click
import pytest

from keyturn.cli.settings import read_settings
from keyturn.core.settings import Settings


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"aws: {proxy: 'http://u:hunter2@p x'}", "at `$.aws.proxy`", id="a value that cannot be"),
        pytest.param(b'aws:\n  proxy: "http://u:hunter2@p\n', "unexpected end", id="an open quote"),
        pytest.param(b"aws: &hunter2 !!bool hunter2", "is not a valid !!bool", id="not what its tag says"),
        pytest.param(b"# hunter2 \xff", "can't decode byte 0xff", id="no text"),
        pytest.param(b"[" * 5000, "nested too deep", id="nested too deep"),
        pytest.param(b"aws: {}\n---\nx: hunter2", "it holds 2 documents", id="two documents"),
    ],
)
def test_what_is_wrong_is_one_line_without_what_stands_there(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(content)
    with pytest.raises(click.BadParameter) as caught:
        read_settings(str(path))

    told = caught.value.format_message()
    assert (str(path) in told, says in told, "hunter2" in told, "\n" in told) == (True, True, False, False)


@pytest.mark.parametrize("content", ["", "# nothing\n", "---\n"])
def test_nothing_means_the_defaults(tmp_path: Path, content: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(content)

    assert read_settings(str(path)) == Settings()


def test_another_value_than_the_default(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("renewal: {minIntervalSeconds: 7}\n")

    assert read_settings(str(path)).renewal.min_interval_seconds == 7
