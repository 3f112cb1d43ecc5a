import json
from collections.abc import Iterator
from typing import Any

import pytest

from keyturn.api.base import api_structs
from keyturn.api.crd import crd, schema
from keyturn.api.token_request import TokenRequestSpec

SCHEMA = schema()


def _nodes(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from _nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in node:
            yield from _nodes(node[key], f"{path}.*")


NODES = dict(_nodes(SCHEMA))


@pytest.mark.parametrize(
    "word",
    ["$ref", "default", "nullable", "anyOf", "title", "propertyNames", "$defs"],
)
def test_a_structural_schema_does_not_say(word: str) -> None:
    assert [path for path, node in NODES.items() if word in node] == []


def test_every_node_has_a_type() -> None:
    assert [path for path, node in NODES.items() if "type" not in node] == []


def test_every_field_of_the_spec_is_described() -> None:
    fields = {path for path in NODES if path.startswith(".spec.") and not path.endswith(".*")}

    assert {path for path in fields if not NODES[path].get("description")} == set()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (".spec.source.credentials.secretRef", "Its keys: AWS_ACCESS_KEY_ID"),
        (".spec.source.token.saveTo", "Where a rotated token is kept. Default:"),
        (".spec.exchanges.*.oauthToken.clientSecretFrom", "The client's secret."),
        (".spec.exchanges.*.oauthToken.caBundleFrom", "Certificates (PEM)"),
        (".spec.renewal", "When to renew. Default:"),
    ],
)
def test_a_field_that_may_be_left_out_says_what_it_is_for(path: str, message: str) -> None:
    assert NODES[path]["description"].startswith(message)


def test_patterns_end_as_the_api_server_reads_them() -> None:
    patterns = [node["pattern"] for node in NODES.values() if "pattern" in node]

    assert patterns
    assert all(pattern.startswith("^") and pattern.endswith("$") and r"\Z" not in pattern for pattern in patterns)


def test_every_rule_is_there() -> None:
    written = [rule for node in NODES.values() for rule in node.get("x-kubernetes-validations", [])]
    alone = {(rule["rule"], rule["message"]) for rule in written if "message" in rule}
    together = [rule for rule in written if "message" not in rule]

    assert alone == {(rule.cel, rule.message) for part in api_structs() if not part.TOGETHER for rule in part.RULES}
    assert len(together) == len(TokenRequestSpec.TOGETHER)
    assert [rule for rules in TokenRequestSpec.TOGETHER for rule in rules] == list(TokenRequestSpec.RULES)
    for rules, one in zip(TokenRequestSpec.TOGETHER, together, strict=True):
        for rule in rules:
            assert f"({rule.cel})" in one["rule"]
            assert f"!({rule.cel}) ? {json.dumps(rule.message)} : " in one["messageExpression"]


def test_lists_and_maps_have_a_limit() -> None:
    spec = {path: node for path, node in NODES.items() if path.startswith(".spec")}
    lists = {path for path, node in spec.items() if node["type"] == "array" and "maxItems" not in node}
    maps = {path for path, node in spec.items() if "additionalProperties" in node and "maxProperties" not in node}

    assert (lists, maps) == (set(), set())


def test_conditions_are_a_map_by_type() -> None:
    conditions = NODES[".status.conditions"]

    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]


def test_the_spec_is_required_and_the_status_is_not() -> None:
    assert SCHEMA["required"] == ["spec"]


def test_the_names_by_which_kubectl_knows_it() -> None:
    made = crd()
    version = made["spec"]["versions"][0]

    assert made["metadata"]["name"] == "tokenrequests.keyturn.dev"
    assert (made["spec"]["names"]["shortNames"], made["spec"]["names"]["categories"]) == (["treq"], ["keyturn"])
    assert version["subresources"] == {"status": {}}


def test_the_columns_and_which_are_wide() -> None:
    columns = crd()["spec"]["versions"][0]["additionalPrinterColumns"]
    always = [column["name"] for column in columns if not column.get("priority")]
    wide = [column["name"] for column in columns if column.get("priority")]

    assert always == ["Ready", "Reason", "Secret", "Expires", "Renews", "Age"]
    assert wide == ["Principal", "Revision", "Failures"]
    assert {column["name"] for column in columns if column["type"] == "date"} == {"Age"}
