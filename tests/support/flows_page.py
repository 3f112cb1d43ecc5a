"""Reads docs/flows.md, and tells what botocore's models and our schema have to say to it."""

import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import botocore.loaders
from botocore import xform_name
from botocore.model import ListShape, MapShape, OperationModel, ServiceModel, Shape, StructureShape

import keyturn.exchanges
from keyturn.api.crd import schema
from keyturn.exchanges.aws_errors import Operation

ROOT = Path(__file__).parents[2]
SCHEMA = schema()
Node = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """A file of Markdown. A section is what stands between its heading and the next one."""

    text: str

    def section(self, heading: str) -> str:
        """The text below a heading, empty where there is none."""
        found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", self.text, re.DOTALL | re.MULTILINE)
        return found[1] if found else ""

    def headings(self) -> list[str]:
        return re.findall(r"^#+ (.*)$", self.text, re.MULTILINE)

    def table(self, heading: str, first: str) -> list[list[str]]:
        """The rows of the table in a section whose first column has this title; backticks of that column go."""
        for table in re.findall(r"(?:^\|.*\n)+", self.section(heading), re.MULTILINE):
            rows = [re.split(r"(?<!\\)\|", line.strip())[1:-1] for line in table.splitlines()]
            cells = [[cell.strip() for cell in row] for row in rows]
            if cells[0][0] == first:
                return [[row[0].strip("`"), *row[1:]] for row in cells[2:]]
        return []


def quoted(cell: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`]*)`", cell)


def operations() -> dict[str, Operation]:
    """The operations of AWS that Keyturn calls, by their titles."""
    modules = [
        importlib.import_module(info.name)
        for info in pkgutil.walk_packages(keyturn.exchanges.__path__, "keyturn.exchanges.")
    ]
    return {it.title: it for module in modules for it in vars(module).values() if isinstance(it, Operation)}


@cache
def _service(name: str) -> ServiceModel:
    return ServiceModel(botocore.loaders.Loader().load_service_model(name, "service-2"), name)


def model(operation: Operation) -> OperationModel:
    """What botocore knows of an operation."""
    service = _service(operation.service)
    return service.operation_model(
        next(name for name in service.operation_names if xform_name(name) == operation.name)
    )


def error_code(shape: Shape) -> str:
    """The code of an error: of some it is not the name of its shape."""
    return str(shape.metadata.get("error", {}).get("code", shape.name))


def error_members(operation: Operation) -> set[str]:
    """The members of all its errors, in lower case: services write `message` in two ways."""
    shapes = (shape for shape in model(operation).error_shapes if isinstance(shape, StructureShape))
    return {name.lower() for shape in shapes for name in shape.members}


def leaves(shape: Shape | None, at: str = "") -> Iterator[tuple[str, "Limits"]]:
    """The members of a structure that are no structures themselves, and lists (`[]`), with their limits."""
    for name, member in shape.members.items() if isinstance(shape, StructureShape) else ():
        inner = member.member if isinstance(member, ListShape) else member
        path = f"{at}{name}" + ("[]" if isinstance(member, ListShape) else "")
        if isinstance(inner, StructureShape):
            if isinstance(member, ListShape):
                yield path, _of_shape(member, inner)
            yield from leaves(inner, f"{path}.")
        else:
            yield path, _of_shape(member, inner)


@dataclass(frozen=True, slots=True)
class Limits:
    """How many items, how long or large one is (None: no limit), and how many values there are to choose from."""

    items: tuple[int | None, int | None] = (None, None)
    each: tuple[int | None, int | None] = (None, None)
    unit: str = ""
    values: int = 0
    pattern: bool = False

    def __str__(self) -> str:
        """Say it in a cell of a table."""
        told = [
            _range(self.items, " items"),
            _range(self.each, self.unit),
            f"one of {self.values}" if self.values > 1 else "one value" * self.values,
            "pattern" if self.pattern else "",
        ]
        return ", ".join(one for one in told if one)

    @property
    def numbers(self) -> tuple[Any, ...]:
        """What a remark must explain where it is another."""
        least = tuple((low or 0, high) for low, high in (self.items, self.each))
        return (*least, self.values)


def _range(limits: tuple[int | None, int | None], unit: str) -> str:
    low, high = limits
    if low == high is not None:
        return f"{low}{unit}"
    if high is None:
        return f"at least {low}{unit}" if low else ""
    return f"{low} to {high}{unit}" if low else f"up to {high}{unit}"


def _of_shape(outer: Shape, shape: Shape) -> Limits:
    many = isinstance(outer, ListShape | MapShape)
    of, own = outer.metadata, shape.metadata
    return Limits(
        items=(of.get("min"), of.get("max")) if many else (None, None),
        each=(None, None) if isinstance(shape, MapShape) else (own.get("min"), own.get("max")),
        unit=" characters" if shape.type_name == "string" else "",
        values=len(own.get("enum", ())),
        pattern="pattern" in own,
    )


def of_node(path: str, node: Node) -> Limits:
    """The limits of our own schema, for what `node` leads to by `path`."""
    outer = walk(path.removesuffix("[]"), node) or {}
    inner = outer.get("items", outer)
    is_map = "additionalProperties" in outer
    return Limits(
        items=(outer.get("minProperties"), outer.get("maxProperties"))
        if is_map
        else (outer.get("minItems"), outer.get("maxItems")),
        each=(inner.get("minLength", inner.get("minimum")), inner.get("maxLength", inner.get("maximum"))),
        unit=" characters" if inner.get("type") == "string" else "",
        values=len(inner.get("enum", ())),
        pattern="pattern" in inner,
    )


def walk(path: str, node: Node) -> Node | None:
    """Follow a path such as `tags[].key` through a schema; None where there is no such field."""
    at: Any = node
    for part in path.split("."):
        at = (at or {}).get("properties", {}).get(part.removesuffix("[]"))
        at = at.get("items") if at and part.endswith("[]") else at
    return at if at is None else dict(at)


def exchange_node(name: str) -> Node:
    """The schema of an exchange."""
    found = walk(f"spec.exchanges[].{name}", SCHEMA)
    if found is None:
        raise KeyError(name)
    return found
