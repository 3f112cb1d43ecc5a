"""The tables of README.md are what the emulator serves."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.support.emulator import control
from tests.support.emulator.app import SERVICES
from tests.support.emulator.faults import Fault
from tests.support.emulator.oauth.grants import GRANTS
from tests.support.emulator.service import Service

HERE = Path(__file__).parents[2] / "support" / "emulator"
README = (HERE / "README.md").read_text()


def _table(first: str) -> list[list[str]]:
    """The rows below the heading row that begins with this title, without backticks in the first column."""
    found = re.search(rf"^\| {first} \|.*\n\|[-|]+\n((?:\|.*\n)+)", README, re.MULTILINE)
    lines = found[1].splitlines() if found else []
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [[first.strip("`"), *rest] for first, *rest in rows]


def _signed(service: Service, operation: str) -> str:
    if service.operation(operation).auth_type == "none":
        return "no"
    return "or not" if operation in service.may_be_unsigned else "yes"


def _sources(service: Service) -> set[Path]:
    """The files of a service: those of its operations, with their folder where they have one."""
    files = {Path(handler.__code__.co_filename) for handler in service.operations.values()}
    return {source for file in files for source in ([file] if file.parent == HERE else file.parent.glob("*.py"))}


def _refused(source: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "AwsError":
            code = node.args[0]
            assert isinstance(code, ast.Constant)
            yield str(code.value)


def test_every_operation_has_its_row() -> None:
    rows = [(service, operation.strip("`"), signed) for service, operation, signed, _ in _table("service")]

    assert sorted(rows) == sorted(
        (service.name, name, _signed(service, name)) for service in SERVICES for name in service.operations
    )


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_every_code_that_a_service_refuses_with_is_told(service: Service) -> None:
    told = re.search(rf"^\| (?:[a-z-]+, )?{service.name}(?:, [a-z-]+)? \| ([^|]*) \|$", README, re.MULTILINE)

    assert told is not None
    assert re.findall(r"`(\w+)`", told[1]) == sorted(
        {code for source in _sources(service) for code in _refused(source)}
    )


def test_every_grant_of_the_issuer_has_its_row() -> None:
    assert {name for name, _ in _table("grant")} == set(GRANTS)


def test_every_route_of_the_side_door_has_its_row() -> None:
    app = web.Application()
    control.add_routes(app, frozenset())
    served = {f"{route.method} {route.resource.canonical}" for route in app.router.routes() if route.resource}

    assert {route for route, _ in _table("route")} == served


def test_every_field_of_a_fault_has_its_row() -> None:
    assert {name for name, _ in _table("field")} == set(Fault.__struct_fields__)
