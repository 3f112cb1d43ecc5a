import re

import pytest
from click.testing import CliRunner, Result

from keyturn.cli.kubectl import plugin
from keyturn.core.errors import REASONS


def explain(*words: str) -> Result:
    return CliRunner().invoke(plugin, ["explain", *words])


@pytest.mark.parametrize("reason", sorted(REASONS))
def test_every_reason_is_explained(reason: str) -> None:
    result = explain(reason.lower())

    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"{reason}\n\nWhat it means. ")


def test_entry_is_plain_text() -> None:
    text = "".join(explain(reason).output for reason in explain().output.split())

    assert not re.findall(r"\]\(|\*\*|```", text)
    assert "kubectl keyturn status" in text


def test_alert_is_explained() -> None:
    assert "KeyturnTokenUnsaved" in explain().output.split()
    assert "SIGKILL" in explain("KeyturnTokenUnsaved").output


def test_similar_reason_is_suggested() -> None:
    result = explain("SourceInvald")

    assert (result.exit_code, result.output) == (
        1, "Error: there is no reason or alert SourceInvald; did you mean SourceInvalid?\n",
    )  # fmt: skip
