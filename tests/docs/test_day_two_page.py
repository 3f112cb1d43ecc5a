"""docs/day-two.md, and its neighbours of the first days: what they name exists, here and at the peer."""

import re
from pathlib import Path

import pytest

from keyturn.api.exchanges.registry import OPERATIONS
from keyturn.api.formats.base import RESERVED_KEYS
from keyturn.api.formats.registry import FORMATS
from tests.support.flows_page import ROOT, SCHEMA, Page, quoted, walk

PAGES = {
    name: Page((ROOT / "docs" / name).read_text()) for name in ("day-two.md", "troubleshooting.md", "kubectl.md")
}
DAY_TWO = PAGES["day-two.md"]
FROM_ESO = DAY_TWO.section("Moving from External Secrets")
ROWS = [
    [cell.strip() for cell in line.strip().strip("|").split("|")]
    for line in FROM_ESO.splitlines()
    if line.startswith("|") and not line.startswith(("|---", "| External"))
]
# The types of External Secrets 2.9: apis/generators/v1alpha1, types_sts.go, types_ecr.go.
ESO_FIELDS = {
    *(
        "spec.region",
        "spec.auth.secretRef",
        "spec.auth.jwt",
        "spec.role",
        "spec.scope: public",
        "spec.scope: private",
    ),
    *(f"spec.auth.secretRef.{key}SecretRef" for key in ("accessKeyID", "secretAccessKey", "sessionToken")),
    "spec.auth.jwt.serviceAccountRef",
    *(f"spec.requestParameters.{name}" for name in ("sessionDuration", "serialNumber", "tokenCode")),
}
ESO_KEYS = {
    *("access_key_id", "secret_access_key", "session_token", "expiration"),
    *("username", "password", "proxy_endpoint", "expires_at"),
}
# Words between backticks that are neither fields, exchanges, formats nor keys.
OTHERS = {".dockerconfigjson", "keyturn.dev/adopt-by", "formats", "kubectl keyturn renew", "region"}


def anchors(page: Page) -> set[str]:
    """The anchors that GitHub makes of headings."""
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in page.headings()}


def is_ours(word: str) -> bool:
    """Whether a field, an exchange, a format or a key of that name exists."""
    name, _, value = word.partition(":")
    if name.startswith("spec."):
        node = walk(name, SCHEMA)
        return node is not None and (not value or value.strip() in node["enum"])
    known = {*OPERATIONS, *FORMATS, *RESERVED_KEYS, *OTHERS}
    return name in known or any(name in of.__struct_encode_fields__ for of in OPERATIONS.values())


def test_every_field_of_the_generators_is_told() -> None:
    told = {word for left, _ in ROWS for word in quoted(left)}

    assert told >= ESO_FIELDS | ESO_KEYS


def test_every_name_of_ours_exists() -> None:
    assert [word for _, right in ROWS for word in quoted(right) if not is_ours(word)] == []


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    links = re.findall(r"\]\(([^)]+)\)", PAGES[name].text)
    broken = []
    for link in links:
        path, _, anchor = link.partition("#")
        there = ROOT / "docs" / path if path else ROOT / "docs" / name
        if not there.exists() or (anchor and anchor not in anchors(Page(there.read_text()))):
            broken.append(link)

    assert links
    assert broken == []


def test_every_paragraph_has_its_test() -> None:
    untried = [heading for heading in DAY_TWO.headings()[1:] if "\nTried by: " not in DAY_TWO.section(heading)]

    assert untried == []


def test_every_test_that_is_named_exists() -> None:
    tests = "".join(path.read_text() for path in Path(ROOT / "tests").rglob("test_*.py"))

    assert [name for name in re.findall(r"`(test_\w+)`", DAY_TWO.text) if f"def {name}(" not in tests] == []
