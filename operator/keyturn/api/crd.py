"""The CRD, written from the types of the API: inlined, structural, with the rules in CEL."""

import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_type_hints

import msgspec

from keyturn.api.base import GROUP, TEXT, TEXT_IN_RE2, ApiStruct, Rule, api_structs
from keyturn.api.token_request import KIND, PLURAL, VERSION, TokenRequest

_COLUMNS = (
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', 0),
    ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', 0),
    ("Secret", "string", ".status.secretName", 0),
    # Times as strings: a date column shows <invalid> for the future.
    ("Expires", "string", ".status.expirationTime", 0),
    ("Renews", "string", ".status.renewalTime", 0),
    ("Principal", "string", ".status.principal", 1),
    ("Revision", "integer", ".status.revision", 1),
    ("Failures", "integer", ".status.failedAttempts", 1),
    ("Age", "date", ".metadata.creationTimestamp", 0),
)


def crd() -> dict[str, Any]:
    """The CustomResourceDefinition as a manifest."""
    columns: list[dict[str, Any]] = [
        {"name": name, "type": kind, "jsonPath": path} | ({"priority": priority} if priority else {})
        for name, kind, path, priority in _COLUMNS
    ]
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": columns,
        "selectableFields": [{"jsonPath": ".spec.target.secretName"}],
        "schema": {"openAPIV3Schema": schema()},
    }
    names = {"plural": PLURAL, "singular": KIND.lower(), "kind": KIND, "listKind": f"{KIND}List",
             "shortNames": ["treq"], "categories": ["keyturn"]}  # fmt: skip
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def schema() -> dict[str, Any]:
    """The structural schema of a TokenRequest."""
    _, components = msgspec.json.schema_components((TokenRequest,), ref_template="{name}")
    root = _structural(components["TokenRequest"], components)
    root["properties"] |= {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        # The API server has this limit anyway; said here, CEL can tell that rules which read the name are cheap.
        "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 253}}},
    }
    root["required"] = ["spec"]
    return root


def _structural(node: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    """Inline references, turn "X or null" into X, drop what a structural schema may not say."""
    if "$ref" in node:
        name = node["$ref"]
        rest = {key: value for key, value in node.items() if key != "$ref"}
        return _structural(components[name] | rest, components)
    if "anyOf" in node:
        member = next(m for m in node["anyOf"] if m != {"type": "null"})
        rest = {key: value for key, value in node.items() if key not in ("anyOf", "default")}
        return _structural(member | rest, components)
    kept = {key: _child(key, value, components) for key, value in node.items() if key not in ("title", "default")}
    if kept.get("additionalProperties") is False:
        del kept["additionalProperties"]
    if not kept.get("required"):
        kept.pop("required", None)
    part = next((part for part in api_structs() if part.__name__ == node.get("title")), None)
    return _strings(_of_part(part, kept) if part else kept)


def _child(key: str, value: Any, components: dict[str, Any]) -> Any:
    if key == "properties":
        return {name: _structural(child, components) for name, child in value.items()}
    if key in ("items", "additionalProperties") and isinstance(value, dict):
        return _structural(value, components)
    return value


def _of_part(part: type[ApiStruct], node: dict[str, Any]) -> dict[str, Any]:
    """Add what a part says itself: the descriptions of its fields, and its rules."""
    for name, message in _descriptions(part).items():
        node["properties"][name]["description"] = message
    return node | _rules(part)


def _descriptions(part: type[ApiStruct]) -> dict[str, str]:
    """What fields say of themselves: of one that may be left out, msgspec tells only what its type says."""
    hints = get_type_hints(part, include_extras=True)
    told = (
        (field.encode_name, getattr(meta, "description", None))
        for field in msgspec.structs.fields(part)
        for one in (hints[field.name], *get_args(hints[field.name]))
        for meta in getattr(one, "__metadata__", ())
    )
    return {name: message for name, message in told if message}


def _rules(part: type[ApiStruct]) -> dict[str, Any]:
    alone = [{"rule": rule.cel, "message": rule.message} for rule in part.RULES]
    together = [_together(rules, part.SHARED) for rules in part.TOGETHER]
    return {"x-kubernetes-validations": together or alone} if part.RULES else {}


def _together(rules: Sequence[Rule], shared: Mapping[str, str]) -> dict[str, str]:
    """Several rules as one, which says the sentence of the first that is broken.

    The API server evaluates each rule at each write, also of a status, and whenever a rule asks for a member of a
    union it makes a list of all that there may be: what several rules ask is asked once.
    """
    is_met_by, message = " && ".join(f"({rule.cel})" for rule in rules), "''"
    for rule in reversed(rules):
        message = f"!({rule.cel}) ? {json.dumps(rule.message)} : {message}"
    for name, cel in shared.items():
        is_met_by, message = f"[{cel}].all({name}, {is_met_by})", f"[{cel}].map({name}, {message})[0]"
    return {"rule": is_met_by, "messageExpression": message}


def _strings(node: dict[str, Any]) -> dict[str, Any]:
    """Make enums strings (Kubernetes wants a type beside them), write patterns for RE2, unindent docstrings."""
    if "description" in node:
        node["description"] = inspect.cleandoc(node["description"])
    if "enum" in node:
        node["type"] = "string"
    if "pattern" in node:
        node["pattern"] = node["pattern"].replace(r"\Z", "$").replace(TEXT, TEXT_IN_RE2)
    node.pop("propertyNames", None)
    return node
