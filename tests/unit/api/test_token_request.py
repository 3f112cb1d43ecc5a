from datetime import timedelta
from typing import Any

import pytest

from keyturn.api.exchanges.registry import EXCHANGES
from keyturn.api.status import Condition, Status, read_status
from keyturn.api.token_request import RENEW_REQUESTED, parse
from keyturn.core.errors import RefusedError
from tests.support.dependencies import ACCESS_TOKEN, manifest, request

_READY = Condition(type="Ready", status="True", reason="Issued", message="", last_transition_time="")


def _refusal(body: dict[str, Any]) -> str:
    with pytest.raises(RefusedError) as refused:
        parse(body)
    return refused.value.message


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param({"suspend": "yes"}, "Expected `bool | null`, got `str` (at spec.suspend)", id="a wrong type"),
        pytest.param(
            {"sources": {}}, "Object contains unknown field `sources` (at spec)", id="a field that is not there"
        ),
        pytest.param(
            {"exchanges": [ACCESS_TOKEN, {}]},
            f"give exactly one of {', '.join(EXCHANGES)} (at spec.exchanges[1])",
            id="a rule, with the place in the list",
        ),
        pytest.param(
            {"target": {"secretName": "license"}},
            "the target must not be a Secret that the spec reads or keeps a token in",
            id="a rule of the whole",
        ),
    ],
)
def test_an_error_is_one_sentence_with_the_path(spec: dict[str, Any], message: str) -> None:
    assert _refusal(manifest(**spec)) == message


def test_a_secret_is_named_like_the_request_by_default() -> None:
    assert (request().secret_name, request(target={"secretName": "other"}).secret_name) == ("acme", "other")


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        pytest.param({}, ["env", "credentialProcess"], id="credentials"),
        pytest.param({"exchanges": [ACCESS_TOKEN]}, ["token"], id="a token"),
        pytest.param({"target": {"formats": [{"credentialsFile": {}}]}}, ["credentialsFile"], id="as asked for"),
        pytest.param({"target": {"formats": [{"token": {}}]}}, ["token"], id="a token beside credentials"),
    ],
)
def test_formats(spec: dict[str, Any], names: list[str]) -> None:
    assert [one.name for one in request(**spec).spec.formats] == names


def test_an_operation_is_the_one_that_is_given() -> None:
    first, second = request().spec.exchanges

    assert first.exchange == first.license_manager_get_access_token
    assert second.exchange == second.assume_role_with_web_identity


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        pytest.param("20m", 1200, id="minutes"),
        pytest.param("1h1m1s", 3661, id="all units"),
        pytest.param("0h5s", 5, id="no hours"),
    ],
)
def test_a_duration(text: str, seconds: int) -> None:
    spec = request(renewal={"renewBefore": text}, exchanges=[ACCESS_TOKEN]).spec

    assert spec.renewal
    assert spec.renewal.before == timedelta(seconds=seconds)


def test_what_a_request_takes_from_its_metadata() -> None:
    body = manifest()
    body["metadata"] |= {"annotations": {RENEW_REQUESTED: "now"}, "creationTimestamp": "2026-01-02T03:04:05Z"}
    made = parse(body)

    assert (made.namespace, made.name, made.uid, made.generation) == ("billing", "acme", "acme-0001", 1)
    assert (made.renew_requested, made.created_at and made.created_at.minute) == ("now", 4)


def test_a_long_request_for_a_renewal_is_cut() -> None:
    body = manifest()
    body["metadata"]["annotations"] = {RENEW_REQUESTED: "x" * 200_000}

    assert parse(body).renew_requested == "x" * 128


def test_metadata_of_a_newer_kubernetes_is_taken() -> None:
    body = manifest()
    body["metadata"]["somethingNew"] = {"deep": []}

    assert parse(body).name == "acme"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param({}, Status(), id="no status"),
        pytest.param({"status": None}, Status(), id="an empty status"),
        pytest.param({"status": {"revision": "three"}}, Status(), id="what does not fit counts as not told"),
        pytest.param({"status": {"revision": 3, "new": 1}}, Status(revision=3), id="a field of a newer release"),
    ],
)
def test_read_status(body: dict[str, Any], status: Status) -> None:
    assert read_status(body) == status


def test_a_condition_is_found_by_its_type() -> None:
    status = Status(conditions=(_READY,))

    assert (status.condition("Ready"), status.condition("Stalled")) == (_READY, None)


@pytest.mark.parametrize(
    ("spec", "changes"),
    [
        pytest.param({"region": "eu-west-1"}, "exchange", id="a region"),
        pytest.param({"exchanges": [ACCESS_TOKEN]}, "exchange", id="exchanges"),
        pytest.param({"target": {"secretName": "other"}}, "request", id="the Secret"),
        pytest.param({"target": {"formats": [{"env": {}}]}}, "request", id="formats"),
        pytest.param({"renewal": {"renewBefore": "5m"}}, "dress", id="when to renew"),
        pytest.param({"target": {"metadata": {"labels": {"a": "b"}}}}, "dress", id="metadata"),
        pytest.param({"target": {"deletionPolicy": "Retain"}}, "dress", id="the deletion policy"),
        pytest.param({"suspend": True}, "", id="suspend"),
        pytest.param({"target": {}}, "", id="an empty target"),
        pytest.param({"target": {"secretName": "acme"}}, "", id="the default name, written out"),
    ],
)
def test_what_a_change_of_the_spec_changes(spec: dict[str, Any], changes: str) -> None:
    before, after = request(), request(**spec)

    assert (before.request_hash != after.request_hash) == (changes in ("exchange", "request"))
    assert (before.exchange_hash != after.exchange_hash) == (changes == "exchange")
    assert (before.metadata_hash != after.metadata_hash) == (changes == "dress")


def test_the_order_of_fields_changes_no_hash() -> None:
    body = manifest()
    body["spec"] = dict(reversed(body["spec"].items()))

    assert parse(body).request_hash == request().request_hash
