"""docs/flows.md tells of every exchange, and of every field, limit and error of what it calls."""

import re

import pytest
import yaml

from keyturn.api.exchanges import oauth_rules
from keyturn.api.exchanges.base import PROOFS
from keyturn.api.exchanges.registry import OPERATIONS, OauthToken, Operation
from keyturn.api.formats.base import RESERVED_KEYS
from keyturn.api.formats.registry import FORMATS, NAMES
from keyturn.api.token_request import parse
from keyturn.core.errors import REACTIONS
from keyturn.core.issuance import Marks
from keyturn.exchanges import aws_errors
from keyturn.exchanges.aws_errors import Operation as Call
from keyturn.exchanges.oauth import token
from tests.support.flows_page import (
    ROOT,
    SCHEMA,
    Limits,
    Page,
    error_code,
    error_members,
    exchange_node,
    leaves,
    model,
    of_node,
    operations,
    quoted,
    walk,
)

FLOWS = Page((ROOT / "docs" / "flows.md").read_text())
CALLS = operations()
# Where a value can be found at the end: keys of the Secret, names in a template, and marks.
KEYS = {*RESERVED_KEYS, *(one.KEY for one in FORMATS.values())}
PLACES = {
    *KEYS,
    *(f"{{{{ {name} }}}}" for name in NAMES),
    *(f"marks.{name}" for name in Marks.__struct_encode_fields__),
}
NOWHERE = "—"
EXAMPLES = {
    path.name: [body for body in yaml.safe_load_all(path.read_text()) if body["kind"] == "TokenRequest"]
    for path in sorted((ROOT / "examples").glob("*.yaml"))
}
each_call = pytest.mark.parametrize("title", CALLS)


def told(operation: type[Operation]) -> tuple[str, str, str]:
    """What the table of exchanges says of one: needs, gives, kind."""
    needs = [f"{kind} (by grant)" if kind in operation.NEEDS_IF else kind for kind in operation.NEEDS]
    gives = [*operation.GIVES, *(["ID token"] if operation.GIVES_ID_TOKEN else [])]
    proofs = [name for name in operation.__struct_encode_fields__ if name in PROOFS]
    kinds = ["repeatable"]
    if "assertionFrom" in proofs:
        proofs.append("a source token that is an assertion")
    if operation.USES_UP:
        proofs.append("a refresh token as requestedTokenType")
    if operation.CONSUMES:
        kinds.append("consuming with refresh_token")
    if proofs:
        kinds.append(f"once with {' or '.join(proofs)}")
    return ", ".join(needs), ", ".join(gives), "; ".join(kinds)


def _exchanges(title: str) -> list[str]:
    """The exchanges that make this call."""
    return quoted(FLOWS.section(title).strip().partition(". ")[0])


def _field(exchanges: list[str], path: str) -> Limits | None:
    """The limits of a field of one of the exchanges, None where there is no such field."""
    for name in exchanges:
        if walk(path.removesuffix("[]"), exchange_node(name)):
            return of_node(path, exchange_node(name))
    return None


def limit_here(exchanges: list[str], where: str) -> str:
    """The limits of what a cell names first, if it is a field of the exchange."""
    return str(_field(exchanges, quoted(where)[0]) or "") if quoted(where) else ""


def _exists(exchanges: list[str], name: str) -> bool:
    return name in PLACES or walk(name, SCHEMA) is not None or _field(exchanges, name) is not None


def errors(call: Call) -> dict[str, list[str]]:
    """What each error that the model or the table of its module knows means: reason and hint."""
    modelled = [error_code(shape) for shape in model(call).error_shapes]
    known = {**vars(aws_errors)["_COMMON"], **call.verdicts}
    codes = sorted({*call.verdicts, *modelled})
    return {code: [known[code].reason, known[code].hint] for code in codes if code in known}


def reactions() -> dict[str, list[str]]:
    """What each reason leads to: event, stalled, next try."""
    waits = {name: it.wait.total_seconds() / 60 if it.wait else 0 for name, it in REACTIONS.items()}
    return {
        name: [it.event, "yes" if it.stalled else "no", f"in {waits[name]:.0f} min" if waits[name] else "backoff"]
        for name, it in REACTIONS.items()
    }


def test_the_table_of_exchanges_is_the_model() -> None:
    rows = {name: tuple(row[1:4]) for name, *row in FLOWS.table("The exchanges", "exchange")}

    assert rows == {name: told(operation) for name, operation in OPERATIONS.items()}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_exchange_has_its_operation_and_an_example(name: str) -> None:
    row = next(row for row in FLOWS.table("The exchanges", "exchange") if row[0] == name)
    linked = re.findall(r"\(\.\./examples/([^)]*)\)", row[5])
    anchor = re.findall(r"\(#([^)]*)\)", row[1])

    assert [re.sub(r"[^a-z0-9 -]", "", it.lower()).replace(" ", "-") for it in FLOWS.headings()].count(
        *anchor
    ) == 1
    assert [it for it in linked if not _uses(it, name)] == []
    assert linked != []


def _uses(example: str, exchange: str) -> bool:
    steps = [step for body in EXAMPLES.get(example, []) for step in body["spec"]["exchanges"]]
    return any(exchange in step for step in steps)


def test_each_example_is_told_of() -> None:
    of_requests = [name for name, bodies in EXAMPLES.items() if bodies]

    assert [name for name in of_requests if f"(../examples/{name})" not in FLOWS.text] == []


@pytest.mark.parametrize("name", [name for name, bodies in EXAMPLES.items() if bodies])
def test_an_example_is_what_the_types_take(name: str) -> None:
    assert [parse(body).name for body in EXAMPLES[name]] == [body["metadata"]["name"] for body in EXAMPLES[name]]


def test_each_operation_has_a_section_and_each_section_an_operation() -> None:
    sections = FLOWS.text.partition("## Operations of AWS\n")[2].partition("\n## ")[0]

    assert Page(sections).headings() == list(dict.fromkeys(Page(sections).headings()))
    assert set(Page(sections).headings()) == set(CALLS)


@each_call
def test_a_section_names_the_exchanges_that_make_the_call(title: str) -> None:
    exchanges, own = _exchanges(title), CALLS[title].exchange

    assert exchanges != []
    assert {*exchanges, *({own} & OPERATIONS.keys())} <= OPERATIONS.keys() & {*exchanges}


@each_call
def test_every_request_field_has_its_row(title: str) -> None:
    rows, exchanges = FLOWS.table(title, "request field"), _exchanges(title)
    modelled = dict(leaves(model(CALLS[title]).input_shape))

    assert {name: limit for name, _, _, limit, _ in rows} == {name: str(it) for name, it in modelled.items()}
    assert {name: limit for name, _, limit, _, _ in rows} == {
        name: limit_here(exchanges, where) for name, where, *_ in rows
    }


@each_call
def test_every_response_field_has_its_row(title: str) -> None:
    rows = FLOWS.table(title, "response field")
    modelled = dict(leaves(model(CALLS[title]).output_shape))

    assert {name: limit for name, _, limit, _ in rows} == {name: str(it) for name, it in modelled.items()}


@each_call
def test_every_error_has_its_row(title: str) -> None:
    rows = {code: [reason.strip("`"), hint] for code, reason, hint in FLOWS.table(title, "error")}
    modelled = {error_code(shape) for shape in model(CALLS[title]).error_shapes}

    assert rows == errors(CALLS[title])
    assert modelled <= rows.keys()
    assert {reason for reason, _ in rows.values()} <= REACTIONS.keys()


@each_call
def test_a_row_names_what_exists_or_says_why_not(title: str) -> None:
    exchanges = _exchanges(title)
    for name, where, *_, remark in FLOWS.table(title, "request field") + FLOWS.table(title, "response field"):
        absent = [it for it in quoted(where) if not _exists(exchanges, it)]

        assert absent == [], name
        assert quoted(where) or (where == NOWHERE and remark), name


@each_call
def test_a_limit_that_is_not_the_models_has_a_remark(title: str) -> None:
    exchanges, modelled = _exchanges(title), dict(leaves(model(CALLS[title]).input_shape))
    for name, where, here, _, remark in FLOWS.table(title, "request field"):
        ours = _field(exchanges, quoted(where)[0]) if quoted(where) else None

        assert (ours and ours.numbers == modelled[name].numbers) or remark, f"{name}: {here}"


@pytest.mark.parametrize("exchange", OPERATIONS)
def test_each_field_of_an_exchange_is_told_of(exchange: str) -> None:
    titles = [title for title in CALLS if exchange in _exchanges(title)] or ["OAuth"]
    text = "".join(FLOWS.section(title) for title in titles)
    fields = [name for name in OPERATIONS[exchange].__struct_encode_fields__ if name != "region"]

    assert [name for name in fields if f"`{name}" not in text] == []


def test_every_parameter_of_oauth_has_its_row() -> None:
    rows = FLOWS.table("OAuth", "parameter")
    fields = {name for _, where, _ in rows for name in quoted(where)}

    assert {name for name, *_ in rows} == {*vars(oauth_rules)["_PROTOCOL"], "(any other)"}
    assert [name for name in fields if not _exists(["oauthToken"], name)] == []
    assert [name for name, where, why in rows if not quoted(where) and not (where == NOWHERE and why)] == []
    assert set(OauthToken.__struct_encode_fields__) - {"tokenUrl", "caBundleFrom", "keyId", "algorithm"} <= fields


def test_every_error_of_oauth_has_its_row() -> None:
    rows = {code: (reason.strip("`"), hint) for code, reason, hint in FLOWS.table("OAuth", "OAuth error")}

    assert rows == vars(token)["_ERRORS"]


def test_what_any_service_may_answer_has_its_row() -> None:
    rows = {code: reason.strip("`") for code, reason in FLOWS.table("Any service", "code")}

    assert rows == {code: verdict.reason for code, verdict in vars(aws_errors)["_COMMON"].items()}


def test_every_member_of_an_error_has_its_row() -> None:
    rows = FLOWS.table("Any service", "member of an error")

    assert {name.lower() for name, _ in rows} == set().union(*map(error_members, CALLS.values()))


def test_every_reason_has_its_row() -> None:
    assert {name: row for name, *row in FLOWS.table("Reasons", "reason")} == reactions()
