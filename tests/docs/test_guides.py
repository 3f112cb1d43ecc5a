"""docs/guides.md leads to every example, and tells the same of each flow."""

import re
from pathlib import Path

import pytest
import yaml

from keyturn.api.exchanges.registry import OPERATIONS
from tests.docs.test_links import anchors
from tests.support.flows_page import Page

ROOT = Path(__file__).parents[2]
GUIDES = Page((ROOT / "docs" / "guides.md").read_text())
TOLD = ("When.", "AWS side.", "Manifest.", "What is kept.", "How long.", "When it ends.")
_OTHERS = ("Give it to pods", "What stays alive after deletion")
FLOWS = [heading for heading in GUIDES.headings()[1:] if heading not in _OTHERS]


def examples(text: str) -> set[str]:
    """The examples that a text links to."""
    return set(re.findall(r"\(\.\./examples/([^)#]*\.yaml)\)", text))


@pytest.mark.parametrize("flow", FLOWS)
def test_a_guide_tells_all_that_one_must_know(flow: str) -> None:
    told = re.findall(r"^\*\*([^*]+)\*\*", GUIDES.section(flow), re.MULTILINE)

    assert tuple(told) == TOLD
    assert examples(GUIDES.section(flow).partition("**Manifest.**")[2].partition("**What is kept.**")[0])


def test_each_example_is_linked() -> None:
    assert examples(GUIDES.text) == {path.name for path in (ROOT / "examples").glob("*.yaml")}


def test_each_exchange_is_in_an_example_of_a_guide() -> None:
    used = {
        exchange
        for flow in FLOWS
        for name in examples(GUIDES.section(flow))
        for body in yaml.safe_load_all((ROOT / "examples" / name).read_text())
        if body["kind"] == "TokenRequest"
        for step in body["spec"]["exchanges"]
        for exchange in step
    }

    assert used == set(OPERATIONS)


def test_each_guide_is_in_the_list_at_the_top() -> None:
    top = GUIDES.text.partition("\n## ")[0]

    assert set(re.findall(r"\(#([^)]*)\)", top)) == anchors(GUIDES.text) - {"guides-one-per-flow"}


def test_what_a_deletion_leaves_alive_is_told_of_all_that_is_issued() -> None:
    told = " ".join(row[0] for row in GUIDES.table("What stays alive after deletion", "what"))

    for what in (
        "GetSessionToken",
        "License Manager",
        "Identity Center",
        "OAuth",
        "CodeArtifact",
        "ECR",
        "Cognito",
    ):
        assert what in told
