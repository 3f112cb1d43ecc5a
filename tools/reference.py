"""The reference pages, written from the API's types and the metrics: `python -m tools.reference PAGE`."""

import asyncio
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from keyturn.api.crd import schema
from keyturn.api.token_request import TokenRequestSpec
from keyturn.metrics import Metrics
from keyturn.sidecar.credential_cache import CredentialCache, ServedCredentials
from keyturn.sidecar.endpoint import ListenAddresses, serve_endpoint

Node = Mapping[str, Any]
Field = tuple[str, Node, bool]
_EXCHANGES, _FORMATS = "spec.exchanges[]", "spec.target.formats[]"
_NAMES = {"string": " characters", "array": " items", "object": " entries"}
_LIMITS = {
    "string": ("minLength", "maxLength"),
    "array": ("minItems", "maxItems"),
    "object": ("minProperties", "maxProperties"),
    "integer": ("minimum", "maximum"),
}
_API = """# The API

`keyturn.dev/v1alpha1`, kind `TokenRequest`: every field, as the API server has it. Written by `make generate`
from [keyturn/api](../../operator/keyturn/api); `kubectl explain tokenrequest.spec --recursive` tells
the same. There are no defaults in the CRD: what holds where a field is not given stands after "Default". `[]`
marks each member of a list. What each field becomes in a call to AWS is in [flows.md](../exchanges/flows.md).
"""
_METRICS = """# Metrics

Written by `make generate` from [metrics.py](../../operator/keyturn/metrics.py) and the sidecar's endpoint. A
series of a TokenRequest goes with it. Names of counters end in `_total`; a histogram has `_bucket`, `_sum`
and `_count`. What to watch is in [monitoring.md](../operations/monitoring.md).
"""


def api() -> str:
    """Tell every field of a TokenRequest, a section for each part, exchange and format."""
    return _API + "".join(_section(path, node) for path, node in sections().items())


@cache
def sections() -> dict[str, Node]:
    """The parts that have a section of their own, by their paths."""
    root = schema()
    own = {"spec.source", "spec.renewal", "spec.target", _EXCHANGES, _FORMATS}
    found = {path: _inner(node) for path, node, _ in fields(root["properties"]["spec"], "spec")}
    unions = [path for path in found if path.rpartition(".")[0] in (_EXCHANGES, _FORMATS)]
    chosen = [path for path in found if path in own or path in unions]
    api_structs = {"spec": root["properties"]["spec"]} | {path: found[path] for path in chosen}
    return {"TokenRequest": root} | api_structs | {"status": root["properties"]["status"]}


def fields(node: Node, at: str = "") -> Iterator[Field]:
    """All fields below a node: path, schema, whether it must be given."""
    for name, child in node.get("properties", {}).items():
        path = f"{at}.{name}".lstrip(".") + ("[]" if child.get("items", {}).get("properties") else "")
        yield path, child, name in node.get("required", ())
        yield from fields(_inner(child), path)


def _inner(node: Node) -> Node:
    inner: Node = node.get("items", node)
    return inner


def _section(path: str, node: Node) -> str:
    at = "" if path == "TokenRequest" else path
    rows = [row for row in fields(node, at) if _home(row[0]) == path]
    held = {at: node} | {row[0]: _inner(row[1]) for row in rows if row[0] not in sections()}
    lines = [_row(row, path) for row in rows]
    table = ["| field | type | limits | what it says |", "|---|---|---|---|", *lines, ""] if lines else []
    return "\n".join([f"\n## {path}\n", _line(node.get("description", "")), "", *table, *_rules(held, at)])


def _home(path: str) -> str:
    """The section where a field is told."""
    above = [section for section in sections() if path.startswith(f"{section}.")]
    return max(above, key=len, default="TokenRequest")


def _row(field: Field, section: str) -> str:
    path, node, required = field
    name = path.removeprefix(f"{section}.")
    link = f" See [`{path}`](#{anchor(path)})." if path in sections() else ""
    kind = node["type"] + (f" of {node['items']['type']}" if "items" in node else "")
    text = _line(node.get("description", "") or _inner(node).get("description", ""))
    return f"| `{name}` | {kind}{', required' if required else ''} | {_limits(node)} | {text}{link} |"


def anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    kept = (it for it in heading.lower().replace(" ", "-") if it.isalnum() or it in "-_")
    return "".join(kept)


def _limits(node: Node) -> str:
    inner = _inner(node)
    told = [_range(node)] + ([_range(inner)] if inner is not node else [])
    told += ["one of " + ", ".join(f"`{value}`" for value in inner["enum"])] if "enum" in inner else []
    told += ["`" + inner["pattern"].replace("|", "\\|") + "`"] if "pattern" in inner else []
    return ", ".join(it for it in told if it)


def _range(node: Node) -> str:
    low, high = (node.get(name) for name in _LIMITS.get(node["type"], ("", "")))
    unit = _NAMES.get(node["type"], "")
    if high is None:
        return f"at least {low}{unit}" if low is not None else ""
    return f"{low} to {high}{unit}" if low is not None else f"up to {high}{unit}"


def _rules(held: Mapping[str, Node], section: str) -> Iterator[str]:
    for path, node in held.items():
        where = f"`{path.removeprefix(section).lstrip('.')}`: " if path != section else ""
        for message in (rule.message for rule in TokenRequestSpec.RULES) if path == "spec" else _messages(node):
            yield f"- {where}{_line(message)}"
    yield ""


def _messages(node: Node) -> Iterator[str]:
    return (rule["message"] for rule in node.get("x-kubernetes-validations", ()))


def _line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def metrics() -> str:
    """Tell every metric of the operator and of the sidecar."""
    head = "\n| name | type | labels | what it tells |\n|---|---|---|---|\n"
    found = Metrics()
    found.leader.set(1)
    found.export(tuple, dict)
    return f"{_METRICS}\n## Operator\n{head}{_rows(_operator(found))}\n## Sidecar\n{head}{_rows(_sidecar())}"


def _rows(found: Iterator[tuple[str, str, tuple[str, ...], str]]) -> str:
    rows = [
        f"| `{name}` | {kind} | {', '.join(f'`{it}`' for it in labels)} | {_line(text)} |\n"
        for name, kind, labels, text in sorted(found)
        if name.startswith("keyturn_")
    ]
    return "".join(rows)


def _operator(found: Metrics) -> Iterator[tuple[str, str, tuple[str, ...], str]]:
    ends = {"counter": "_total", "info": "_info"}
    for collector in vars(found.registry)["_collector_to_names"]:
        own = isinstance(collector, MetricWrapperBase)
        for family in collector.collect():
            told = [label for sample in family.samples for label in sample.labels] if family.type == "info" else []
            labels = vars(collector if own else family).get("_labelnames") or told
            yield family.name + ends.get(family.type, ""), family.type, tuple(labels), family.documentation


def _sidecar() -> Iterator[tuple[str, str, tuple[str, ...], str]]:
    for family in text_string_to_metric_families(asyncio.run(_exposed())):
        labels = sorted({label for sample in family.samples for label in sample.labels})
        name = family.name + ("_total" if family.type == "counter" else "")
        yield name, family.type, tuple(labels), family.documentation


async def _exposed() -> str:
    """What a sidecar exposes that was asked once."""
    now = datetime.now(UTC)  # noqa: TID251 - a moment, whichever
    cache = CredentialCache(lambda: now, ServedCredentials("", now, b""))
    async with serve_endpoint(ListenAddresses("127.0.0.1:0", "127.0.0.1:0"), cache, "any") as listening:
        await _get(listening.credentials)
        return (await _get(listening.probes)).partition("\r\n\r\n")[2]


async def _get(address: str) -> str:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"GET /metrics HTTP/1.1\r\nHost: {address}\r\nAuthorization: any\r\nConnection: close\r\n\r\n"
    writer.write(head.encode())
    text = (await reader.read()).decode()
    writer.close()
    return text


PAGES = {"api": api, "metrics": metrics}

if __name__ == "__main__":
    sys.stdout.write(PAGES[sys.argv[1]]())
