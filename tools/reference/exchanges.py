"""The tables of docs/exchanges/, from the code and the AWS SDK's models.

A table stands between the comments `<!-- TABLE EXCHANGE... -->` and `<!-- end -->`, where TABLE is a key of `TABLES`.
exchanges.yaml contains what cannot be derived.
"""

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from botocore import xform_name
from botocore.session import Session

import keyturn.exchanges
from keyturn.api.crd import schema
from keyturn.api.exchanges.oauth import PROTOCOL_PARAMETERS
from keyturn.api.exchanges.registry import EXCHANGES
from keyturn.exchanges import aws_errors, token_response
from keyturn.exchanges.aws_errors import AwsOperation, ErrorClassification
from tools.reference.api import bounds, length
from tools.reference.markdown import code, plain, table

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "exchanges"
DATA: Mapping[str, Any] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
BLOCK = re.compile(r"(<!-- (\w+)((?: \w+)*) -->\n).*?(<!-- end -->)", re.DOTALL)
_MEANING = ("reason", "hint in the message")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A member of the request or the response of an operation; `name` is its path, such as `Tags[].Key`."""

    operation: str
    name: str
    limits: str = ""
    is_leaf: bool = True


@cache
def operations() -> dict[str, AwsOperation]:
    """Return all operations of AWS, by title."""
    names = [module.name for module in pkgutil.iter_modules(keyturn.exchanges.__path__)]
    values = [value for name in names for value in vars(importlib.import_module(f"keyturn.exchanges.{name}")).values()]
    return {value.title: value for value in values if isinstance(value, AwsOperation)}


def fields(exchange: str) -> str:
    """Return the table of the fields of an exchange with the parameters that they become, then the other parameters."""
    data = DATA[exchange]
    aliases, notes, others = (data.get(name) or {} for name in ("fields", "notes", "parameters"))
    known = _parameters(exchange, "input")
    rows, used = [], set[str]()
    for path, node, required in _fields(exchange):
        name = aliases.get(path, path)
        matching = _matching(known, name, path)
        used |= {it.name for it in matching} | set(re.findall(r"`([^`]+)`", name))
        _require(matching or path in aliases, f"{exchange}.fields lacks {path}")
        field = f"`{path}`{' (required)' if required else ''}"
        text = " ".join(filter(None, (plain(_description(node)), notes.get(path))))
        rows.append((field, _shown(matching, exchange) or aliases.get(path, "none"), _limits(node, matching), text))
    for name in {it.name: None for it in known if it.name not in used and it.is_leaf} | others:
        _require(name in others, f"{exchange}.parameters lacks {name}")
        matching = [it for it in known if it.name == name]
        _require(bool(matching), f"{exchange}.parameters has {name}, which is not a parameter")
        rows.append(("—", _shown(matching, exchange), _limits({}, matching), others[name]))
    return table(("field", "parameter", "limits", "description"), rows)


def response(exchange: str) -> str:
    """Return the table of the members of a response."""
    members: Mapping[str, str] = DATA[exchange]["response"]
    leaves = {it.name: it.limits for it in _parameters(exchange, "output") if it.is_leaf}
    _require(not leaves or leaves.keys() == members.keys(), f"{exchange}.response: {leaves.keys() ^ members.keys()}")
    if not leaves:
        return table(
            ("response", "where it goes"), [(_codes(name.split(", ")), text) for name, text in members.items()]
        )
    rows = [(f"`{name}`", leaves[name], text) for name, text in members.items()]
    return table(("response", "limits of AWS", "where it goes"), rows)


def errors(*exchanges: str) -> str:
    """Return the table of the error codes of the exchanges' operations. Equal rows of several operations are one."""
    if exchanges == ("oauthToken",):
        codes = token_response._ERRORS
        return table(("code", *_MEANING), [(code(name), code(it[0]), it[1]) for name, it in codes.items()])
    titles = list(dict.fromkeys(title for name in exchanges for title in DATA[name]["operations"]))
    by_code: dict[str, dict[tuple[str, str], list[str]]] = {}
    for title in titles:
        for name, it in operations()[title].classifications.items():
            by_code.setdefault(name, {}).setdefault((_reason(it), _hint(it)), []).append(title)
    rows: dict[tuple[str, ...], list[str]] = {}
    for name, meanings in sorted(by_code.items()):
        for meaning, where in meanings.items():
            only = "" if where == titles else f" of {' and '.join(_short(title) for title in where)}"
            rows.setdefault((only, *meaning), []).append(code(name))
    return table(("code", *_MEANING), [(", ".join(codes) + only, *meaning) for (only, *meaning), codes in rows.items()])


def common() -> str:
    """Return the table of the error codes that any AWS service may return."""
    throttled, clock = _codes(aws_errors._COMMON), _codes(sorted(aws_errors._CLOCK_CODES))
    rows = [(throttled, "`Throttled`"), (clock, "`ClockSkew`")]
    return table(("code", "reason"), rows)


def overview() -> str:
    """Return the table of all exchanges, with the page that describes each, and examples."""
    rows = []
    for name, exchange in EXCHANGES.items():
        page = next(page.name for page in pages() if f"<!-- fields {name} -->" in page.read_text())
        needed = [*exchange.REQUIRES] + (["token (by grant)"] if exchange.CEL_REQUIRES_TOKEN else [])
        produced = [*exchange.PRODUCES] + (["ID token"] if exchange.PRODUCES_ID_TOKEN else [])
        examples = [f"[{path.stem}](../../examples/{path.name})" for path in _examples(name)]
        rows.append((f"[`{name}`]({page})", _kinds(needed) or "—", _kinds(produced), ", ".join(examples)))
    return table(("exchange", "requires", "produces", "examples"), rows)


TABLES: Mapping[str, Callable[..., str]] = {it.__name__: it for it in (fields, response, errors, common, overview)}


def pages() -> list[Path]:
    """Return the pages whose tables are generated."""
    return sorted(DOCS.glob("*.md"))


def page(path: Path) -> str:
    """Return a page with current tables."""
    return BLOCK.sub(lambda it: f"{it[1]}\n{TABLES[it[2]](*it[3].split())}\n{it[4]}", path.read_text())


def _fields(exchange: str) -> Iterator[tuple[str, Mapping[str, Any], bool]]:
    """Yield path, schema and whether it is required for the fields of an exchange and of the objects in its lists."""
    node = schema()["properties"]["spec"]["properties"]["exchanges"]["items"]["properties"][exchange]
    for name, child in node["properties"].items():
        if name == "region":  # the same for all exchanges of AWS
            continue
        yield name, child, name in node.get("required", ())
        inner = child.get("items", {})
        for inner_name, inner_child in inner.get("properties", {}).items():
            yield f"{name}[].{inner_name}", inner_child, inner_name in inner.get("required", ())


@cache
def _parameters(exchange: str, side: str) -> tuple[Parameter, ...]:
    """Return the parameters of an exchange's operations, or the members of their responses."""
    if exchange == "oauthToken":
        return tuple(Parameter("", name) for name in PROTOCOL_PARAMETERS) if side == "input" else ()
    parameters: list[Parameter] = []
    for title in DATA[exchange]["operations"]:
        operation = operations()[title]
        model = Session().get_service_model(operation.service)
        name = next(name for name in model.operation_names if xform_name(name) == operation.name)
        parameters += _members(title, getattr(model.operation_model(name), f"{side}_shape"))
    return tuple(parameters)


def _members(title: str, shape: Any, at: str = "") -> Iterator[Parameter]:
    for name, member in getattr(shape, "members", {}).items():
        element = getattr(member, "member", None)
        inner = element if element is not None and element.type_name == "structure" else member
        is_leaf = inner.type_name != "structure"
        ranges = [
            length(it.type_name, it.metadata.get("min"), it.metadata.get("max")) for it in (member, element) if it
        ]
        yield Parameter(title, f"{at}{name}", ", ".join(filter(None, ranges)), is_leaf)
        yield from _members(title, inner, f"{at}{name}{'.' if inner is member else '[].'}")


def _matching(known: Iterable[Parameter], name: str, path: str) -> list[Parameter]:
    """Return the parameters of this name, in camel case or snake case, or else of its last part."""
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)
    for candidate in (name, snake, path.rpartition(".")[2]):
        if matching := [it for it in known if it.name.lower() == candidate.lower()]:
            return matching
    return []


def _shown(matching: Sequence[Parameter], exchange: str) -> str:
    if not matching:
        return ""
    several = len(DATA[exchange]["operations"]) > 1
    return f"`{matching[0].name}`" + (f" of {' and '.join(_short(it.operation) for it in matching)}" if several else "")


def _limits(node: Mapping[str, Any], matching: Sequence[Parameter]) -> str:
    """Describe the limits that the API server enforces, and those of AWS's model if they differ."""
    own, model = bounds(node) if node else "", matching[0].limits if matching else ""
    return own if model in own else f"{own}{'; ' if own else ''}AWS: {model}"


def _description(node: Mapping[str, Any]) -> str:
    return str(node.get("description") or node.get("items", {}).get("description", ""))


def _reason(classification: ErrorClassification) -> str:
    return f"`{classification.reason}`{', transient' if classification.transient else ''}"


def _hint(classification: ErrorClassification) -> str:
    special = [f"If AWS's message contains “{words}”: {hint}" for words, hint in classification.hints.items()]
    return ". ".join(filter(None, (classification.hint, *special)))


def _short(title: str) -> str:
    """Return the name of an operation without its service."""
    return re.sub(r"^(Identity Center|License Manager|STS|Cognito|CodeArtifact|ECR(?= Get)) ", "", title)


def _examples(exchange: str) -> list[Path]:
    return [path for path in sorted((ROOT / "examples").glob("*.yaml")) if f"- {exchange}:" in path.read_text()]


def _kinds(kinds: Iterable[str]) -> str:
    return re.sub(r"(?<=[a-z])[A-Z]", lambda it: f" {it[0].lower()}", ", ".join(kinds))


def _codes(words: Iterable[str]) -> str:
    return ", ".join(map(code, words))


def _require(condition: object, problem: str) -> None:
    if not condition:
        raise SystemExit(f"tools/reference/exchanges.yaml: {problem}")
