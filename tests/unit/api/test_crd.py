import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from keyturn.api.base import EXPECTATION, api_structs
from keyturn.api.crd import crd, one_line, schema
from keyturn.api.token_request import TokenRequestSpec
from keyturn.cli.manifests import crd as crd_command

SCHEMA = schema()
# The API server allows no description of metadata.
METADATA = {".metadata"}


def _nodes(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from _nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in node:
            yield from _nodes(node[key], f"{path}.*")


NODES = dict(_nodes(SCHEMA))
STRINGS = [node for node in NODES.values() if node.get("type") == "string"]


@pytest.mark.parametrize(
    "keyword", ["$ref", "default", "nullable", "anyOf", "title", "propertyNames", "$defs", "pattern", EXPECTATION]
)
def test_schema_has_no_keyword(keyword: str) -> None:
    assert [path for path, node in NODES.items() if keyword in node] == []


def test_every_node_has_a_type() -> None:
    assert [path for path, node in NODES.items() if "type" not in node] == []


def test_every_field_has_a_description() -> None:
    fields = {path for path in NODES if path and not path.endswith(".*")} - METADATA

    assert {path for path in fields if not NODES[path].get("description")} == set()


@pytest.mark.parametrize(
    ("path", "start"),
    [
        (".spec.source.credentials.secretRef", "Secret with the keys AWS_ACCESS_KEY_ID"),
        (".spec.source.token.saveTo", "Where to store refresh tokens"),
        (".spec.exchanges.*.oauthToken.clientSecretFrom", "Client secret."),
        (".spec.exchanges.*.oauthToken.caBundleFrom", "CA certificates (PEM)"),
        (".spec.renewal", "When to renew. Default:"),
    ],
)
def test_optional_field_has_its_own_description(path: str, start: str) -> None:
    assert NODES[path]["description"].startswith(start)


def test_pattern_becomes_a_rule_with_a_message_in_words() -> None:
    assert NODES[".spec.region"]["x-kubernetes-validations"] == [
        {
            "rule": "self.matches(r'^[a-z0-9]+(-[a-z0-9]+)*$')",
            "message": "must be the name of a region, such as us-east-1: lower-case letters and digits, with '-'"
            " between them",
        }
    ]


def test_rules_for_patterns_are_anchored_for_re2() -> None:
    rules = [rule["rule"] for node in STRINGS for rule in node.get("x-kubernetes-validations", [])]

    assert len(rules) > 50
    assert all(re.fullmatch(r"self\.matches\(r'\^[^']*\$'\)", rule) and r"\Z" not in rule for rule in rules)


def test_crd_contains_every_rule() -> None:
    objects = [node for node in NODES.values() if node not in STRINGS]
    rules = [rule for node in objects for rule in node.get("x-kubernetes-validations", [])]
    single = {(rule["rule"], rule["message"]) for rule in rules if "message" in rule}
    merged = [rule for rule in rules if "message" not in rule]

    assert single == {
        (one_line(rule.cel), rule.message)
        for struct in api_structs()
        if not struct.RULE_GROUPS
        for rule in struct.RULES
    }
    assert len(merged) == len(TokenRequestSpec.RULE_GROUPS)
    assert [rule for group in TokenRequestSpec.RULE_GROUPS for rule in group] == list(TokenRequestSpec.RULES)
    for group, one in zip(TokenRequestSpec.RULE_GROUPS, merged, strict=True):
        for rule in group:
            assert f"({one_line(rule.cel)})" in one["rule"]
            assert f"!({one_line(rule.cel)}) ? {json.dumps(rule.message)} : " in one["messageExpression"]


def test_lists_and_maps_in_the_spec_are_bounded() -> None:
    spec = {path: node for path, node in NODES.items() if path.startswith(".spec")}
    lists = {path for path, node in spec.items() if node["type"] == "array" and "maxItems" not in node}
    maps = {path for path, node in spec.items() if "additionalProperties" in node and "maxProperties" not in node}

    assert (lists, maps) == (set(), set())


def test_conditions_are_a_map_with_key_type() -> None:
    conditions = NODES[".status.conditions"]

    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]


def test_only_the_spec_is_required() -> None:
    assert SCHEMA["required"] == ["spec"]


def test_crd_has_short_name_category_and_status_subresource() -> None:
    manifest = crd()
    version = manifest["spec"]["versions"][0]

    assert manifest["metadata"]["name"] == "tokenrequests.keyturn.dev"
    assert (manifest["spec"]["names"]["shortNames"], manifest["spec"]["names"]["categories"]) == (["treq"], ["keyturn"])
    assert version["subresources"] == {"status": {}}


def test_printer_columns_are_narrow_by_default() -> None:
    columns = crd()["spec"]["versions"][0]["additionalPrinterColumns"]
    always = [column["name"] for column in columns if not column.get("priority")]
    wide = [column["name"] for column in columns if column.get("priority")]

    assert always == ["Ready", "Reason", "Renewed", "Secret", "Expires", "Renews", "Age"]
    assert wide == ["Next attempt", "Failures", "Principal", "Revision"]
    assert {column["name"] for column in columns if column["type"] == "date"} == {"Age"}


def test_manifest_has_no_yaml_aliases() -> None:
    output = CliRunner().invoke(crd_command).output

    assert yaml.safe_load(output) == crd()
    assert "&id" not in output
