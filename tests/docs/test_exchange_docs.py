"""The generated tables of docs/exchanges/, and the manifests in pages about exchanges, issuers, sources and formats."""

import re
from typing import Any

import pytest
import yaml

from keyturn.api.exchanges.registry import EXCHANGES
from keyturn.api.token_request import parse
from keyturn.core.settings import parse_settings
from tests.support.cluster.page import ROOT
from tests.support.dependencies import request
from tools.reference import exchanges

PAGES = [
    *sorted((ROOT / "docs" / "exchanges").glob("*.md")),
    *sorted((ROOT / "docs" / "issuers").glob("*.md")),
    *(ROOT / "docs" / f"{name}.md" for name in ("sources", "formats", "app-token-without-aws")),
]
BLOCKS = {
    f"{page.parent.name}/{page.name} {number}": block
    for page in PAGES
    for number, block in enumerate(re.findall(r"^ *```yaml\n(.*?)```", page.read_text(), re.DOTALL | re.MULTILINE), 1)
}
CLIENT = {"tokenUrl": "https://issuer.example.com/token", "grantType": "client_credentials"}
PRODUCERS: list[dict[str, Any]] = [
    {"oauthToken": CLIENT | {"clientId": "orders", "clientSecretFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}},
    {"assumeRoleWithWebIdentity": {"roleArn": "arn:aws:iam::111122223333:role/Reports"}},
]
PACKAGES = {
    "codeArtifactGetAuthorizationToken": {
        "domain": "acme",
        "repositories": [{"repository": "packages", "formats": ["npm"]}],
    }
}


def spec_of(block: Any) -> dict[str, Any]:
    """Return the spec of which a block is a part: the spec itself, its formats, or the fields of an oauthToken."""
    if isinstance(block, list):
        names = {name for item in block for name in item}
        return {"exchanges": block} if names <= EXCHANGES.keys() else {"target": {"formats": block}}
    if "clientKeyFrom" in block:
        return {"exchanges": [{"oauthToken": CLIENT | {"clientId": "orders"} | block}]}
    return dict(block)


def test_every_exchange_has_its_tables() -> None:
    blocks = exchanges.BLOCK.findall("".join(path.read_text() for path in exchanges.pages()))
    shown = {f"{table} {name}" for _, table, names, _ in blocks for name in names.split()}

    assert {f"{table} {name}" for table in ("fields", "response", "errors") for name in EXCHANGES} <= shown


def test_equal_errors_of_several_operations_are_one_row() -> None:
    table = exchanges.errors("assumeRole", "getSessionToken")

    assert "| `ExpiredToken`, `ExpiredTokenException` | `SourceExpired` |" in table
    assert "| `AccessDenied` of AssumeRole | `AccessDenied` |" in table
    assert "| `AccessDenied` of GetSessionToken | `AccessDenied` |" in table


@pytest.mark.parametrize(
    ("exchange", "row"),
    [
        ("assumeRole", "| `tokenCodeFrom` | `TokenCode` | AWS: 6 characters |"),
        ("cognitoGetCredentials", "| `logins` (required) | `Logins` of GetId and GetCredentialsForIdentity |"),
        ("oauthToken", "| `subjectTokenType` | `subject_token_type` | 1 to 256 characters |"),
    ],
    ids=["another name", "two operations", "snake case"],
)
def test_field_shows_its_parameter(exchange: str, row: str) -> None:
    assert row in exchanges.fields(exchange)


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS.keys())
def test_manifest_in_a_page_is_valid(block: str) -> None:
    content = yaml.safe_load(block)
    if isinstance(content, dict) and content.get("kind") == "TokenRequest":
        assert parse(content)
    elif isinstance(content, dict) and content.keys() == {"config"}:
        assert parse_settings(content["config"])
    elif isinstance(content, list) or "kind" not in content:
        steps = [*PRODUCERS, PACKAGES] if "packageEndpoint" in block else PRODUCERS
        assert request(**{"exchanges": steps} | spec_of(content))


@pytest.mark.parametrize("name", ["auth0", "okta"])
def test_manifest_in_the_page_of_an_issuer_is_the_example(name: str) -> None:
    page = (ROOT / "docs" / "issuers" / f"{name}.md").read_text()
    manifest = re.search(r"```yaml\n(apiVersion.*?)```", page, re.DOTALL)[1]  # type: ignore[index]

    assert yaml.safe_load(manifest) == yaml.safe_load((ROOT / "examples" / f"{name}.yaml").read_text())
