"""Generates the CRD from the API types: a structural schema without references, with the rules in CEL."""

import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_type_hints

import msgspec

from keyturn.api.base import EXPECTATION, GROUP, ApiStruct, Rule, api_structs, in_re2
from keyturn.api.token_request import KIND, PLURAL, SHORT_NAME, VERSION, TokenRequest

_COLUMNS = (
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', 0),
    ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', 0),
    ("Renewed", "string", '.status.conditions[?(@.type=="Renewed")].reason', 0),
    ("Secret", "string", ".status.secretName", 0),
    # Strings, because a column of type date shows <invalid> for times in the future.
    ("Expires", "string", ".status.expirationTime", 0),
    ("Renews", "string", ".status.renewalTime", 0),
    ("Next attempt", "string", ".status.nextAttemptTime", 1),
    ("Failures", "integer", ".status.failedAttempts", 1),
    ("Principal", "string", ".status.principal", 1),
    ("Revision", "integer", ".status.revision", 1),
    ("Age", "date", ".metadata.creationTimestamp", 0),
)


def crd() -> dict[str, Any]:
    """Return the manifest of the CustomResourceDefinition."""
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
             "shortNames": [SHORT_NAME], "categories": ["keyturn"]}  # fmt: skip
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def schema() -> dict[str, Any]:
    """Return the structural schema of a TokenRequest."""
    _, components = msgspec.json.schema_components((TokenRequest,), ref_template="{name}")
    root = structural_schema(components["TokenRequest"], components)
    root["properties"] |= {
        "apiVersion": {"type": "string", "description": "Version of the schema: keyturn.dev/v1alpha1."},
        "kind": {"type": "string", "description": "Kind of the object: TokenRequest."},
        # Without a description: the API server does not allow one here, and publishes its own.
        "metadata": {
            "type": "object",
            # The API server enforces this limit anyway, but needs it here to estimate the cost of rules with the name.
            "properties": {"name": {"type": "string", "maxLength": 253, "description": "Name of the TokenRequest."}},
        },
    }
    root["required"] = ["spec"]
    return root


def structural_schema(node: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    """Inline references, turn "X or null" into X, and drop keywords that a structural schema must not contain."""
    if "$ref" in node:
        name = node["$ref"]
        rest = {key: value for key, value in node.items() if key != "$ref"}
        return structural_schema(components[name] | rest, components)
    if "anyOf" in node:
        member = next(option for option in node["anyOf"] if option != {"type": "null"})
        rest = {key: value for key, value in node.items() if key not in ("anyOf", "default")}
        return structural_schema(member | rest, components)
    structural = {key: _child(key, value, components) for key, value in node.items() if key not in ("title", "default")}
    if structural.get("additionalProperties") is False:
        del structural["additionalProperties"]
    # The API server drops these if they are empty, so that an installed CRD would differ from ours.
    structural = {key: value for key, value in structural.items() if value or key not in ("properties", "required")}
    struct = next((struct for struct in api_structs() if struct.__name__ == node.get("title")), None)
    if struct:
        for name, description in _descriptions(struct).items():
            structural["properties"][name]["description"] = description
        rules = [_merged(group, struct.CEL_VARIABLES) for group in struct.RULE_GROUPS]
        rules = rules or [{"rule": one_line(rule.cel), "message": rule.message} for rule in struct.RULES]
        if rules:
            structural["x-kubernetes-validations"] = rules
    return _strings(structural)


def _child(key: str, value: Any, components: dict[str, Any]) -> Any:
    if key == "properties":
        return {name: structural_schema(child, components) for name, child in value.items()}
    if key in ("items", "additionalProperties") and isinstance(value, dict):
        return structural_schema(value, components)
    return value


def _descriptions(struct: type[ApiStruct]) -> dict[str, str]:
    """Return the descriptions of fields. For optional ones msgspec has only the description of the type."""
    hints = get_type_hints(struct, include_extras=True)
    descriptions = (
        (field.encode_name, getattr(meta, "description", None))
        for field in msgspec.structs.fields(struct)
        for hint in (hints[field.name], *get_args(hints[field.name]))
        for meta in getattr(hint, "__metadata__", ())
    )
    return {name: description for name, description in descriptions if description}


def one_line(cel: str) -> str:
    """Return a CEL expression on one line. Its string literals must contain no two spaces in a row."""
    return " ".join(cel.split())


def _merged(rules: Sequence[Rule], variables: Mapping[str, str]) -> dict[str, str]:
    """Merge several rules into one that reports the message of the first broken rule.

    The API server evaluates each rule at each write, including status writes, and whenever a rule accesses a member of
    a union, it copies the list of all members. Within one rule, shared expressions are evaluated once.
    """
    conditions = [(one_line(rule.cel), json.dumps(rule.message)) for rule in rules]
    rule, message = " && ".join(f"({cel})" for cel, _ in conditions), "''"
    for cel, text in reversed(conditions):
        message = f"!({cel}) ? {text} : {message}"
    for name, value in variables.items():
        rule, message = f"[{one_line(value)}].all({name}, {rule})", f"[{one_line(value)}].map({name}, {message})[0]"
    return {"rule": rule, "messageExpression": message}


def _strings(node: dict[str, Any]) -> dict[str, Any]:
    """Add the type to enums, turn patterns into rules, and dedent docstrings."""
    if "description" in node:
        node["description"] = inspect.cleandoc(node["description"])
    if "enum" in node:
        node["type"] = "string"
    if isinstance(node.get("pattern"), str):
        # For a pattern, the API server would show the regular expression to the user; for a rule, it shows the message.
        pattern, expectation = in_re2(node.pop("pattern")), node.pop(EXPECTATION)
        rule = {"rule": f"self.matches(r'{pattern}')", "message": f"must be {expectation}"}
        node["x-kubernetes-validations"] = [rule]
    node.pop("propertyNames", None)
    return node
