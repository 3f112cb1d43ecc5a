"""docs/reference tells all that there is."""

from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from keyturn.api.base import parts
from keyturn.api.crd import schema
from tests.support.flows_page import Page
from tests.unit.test_metrics import ONE, exported
from tools.reference import PAGES, anchor, fields, sections

ROOT = Path(__file__).parents[2]
API = Page((ROOT / "docs" / "reference" / "api.md").read_text())
METRICS = Page((ROOT / "docs" / "reference" / "metrics.md").read_text())


def _told(section: str) -> set[str]:
    """The whole paths of the fields in the table of a section."""
    at = "" if section == "TokenRequest" else f"{section}."
    return {at + row[0] for row in API.table(section, "field")}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_what_make_generate_writes(page: str) -> None:
    assert (ROOT / "docs" / "reference" / f"{page}.md").read_text() == PAGES[page]()


def test_each_field_is_told_once() -> None:
    told = [path for section in sections() for path in _told(section)]

    assert sorted(told) == sorted(path for path, *_ in fields(schema()))


def test_each_rule_is_told() -> None:
    lines = {
        line.rpartition("`: ")[2].removeprefix("- ") for line in API.text.splitlines() if line.startswith("- ")
    }

    assert {" ".join(rule.says.split()) for part in parts() for rule in part.RULES} == lines


@pytest.mark.parametrize(
    ("path", "row"),
    [
        pytest.param(
            "spec.exchanges[].assumeRole.durationSeconds", ["integer", "900 to 43200"], id="a number's limits"
        ),
        pytest.param("spec.target.deletionPolicy", ["string", "one of `Delete`, `Retain`"], id="its values"),
        pytest.param("spec.source.token.secretKeyRef.key", ["string, required", "1 to 253"], id="that it must be"),
        pytest.param("spec.suspend", ["boolean", "", "Default: false."], id="a default"),
        pytest.param("spec.exchanges[].assumeRole.tags[]", ["array of object", "up to 50 items"], id="of a list"),
    ],
)
def test_a_row_says(path: str, row: list[str]) -> None:
    section = max((it for it in sections() if path.startswith(f"{it}.")), key=len)
    found = next(it for it in API.table(section, "field") if f"{section}.{it[0]}" == path)

    assert [said for said, cell in zip(row, found[1:], strict=False) if said not in cell] == []


def test_a_heading_has_the_anchor_of_github() -> None:
    assert anchor("spec.target.formats[].awsConfig") == "spectargetformatsawsconfig"


def test_each_metric_that_is_exposed_is_told_with_its_labels() -> None:
    metrics, _ = exported(ONE)
    metrics.throttled.labels("sts").inc()
    families = text_string_to_metric_families(generate_latest(metrics.registry).decode())
    rows = {row[0]: row[2] for row in METRICS.table("Operator", "name")}

    for family in (it for it in families if it.name.startswith("keyturn_")):
        for sample in family.samples:
            name = next(it for it in (sample.name, sample.name.rpartition("_")[0], family.name) if it in rows)

            assert set(sample.labels) - {"le"} == set(rows[name].replace("`", "").replace(",", "").split())
