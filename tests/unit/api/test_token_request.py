from datetime import timedelta
from typing import Any

import pytest

from keyturn.api.base import InvalidSpecError
from keyturn.api.exchanges.registry import EXCHANGES
from keyturn.api.status import Condition, Status, read_status
from keyturn.api.token_request import RENEW_REQUESTED, Request, parse
from tests.support.dependencies import ACCESS_TOKEN, ASSUME_ROLE, manifest, request
from tests.support.manifests import MANIFESTS, NAMES

_READY = Condition(type="Ready", status="True", reason="Issued", message="", last_transition_time="")


def _error(body: dict[str, Any]) -> str:
    with pytest.raises(InvalidSpecError) as error:
        parse(body)
    return error.value.message


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param(
            {"suspend": "yes"}, "suspend must be of type boolean, not string (at spec.suspend)", id="wrong type"
        ),
        pytest.param({"sources": {}}, "unknown field `sources` (at spec)", id="unknown field"),
        pytest.param(
            {"exchanges": [ACCESS_TOKEN, {}]},
            f"exactly one of {', '.join(EXCHANGES)} must be set (at spec.exchanges[1])",
            id="rule, with the index in the list",
        ),
        pytest.param(
            {"target": {"secretName": "license"}},
            "the target must not be a Secret that the spec reads or stores a token in",
            id="rule of the whole object",
        ),
    ],
)
def test_error_message_ends_with_the_path(spec: dict[str, Any], message: str) -> None:
    assert _error(manifest(**spec)) == message


def test_spec_that_takes_too_much_memory_is_refused() -> None:
    templates = [{"template": {"key": f"k{number}", "text": "\u00df\U0001f511" * 8000}} for number in range(8)]

    assert "KiB of memory, but at most 192 KiB are allowed: shorten" in _error(
        manifest(target={"formats": [{"env": {}}, *templates[1:]]})
    )


def test_secret_name_defaults_to_the_name_of_the_request() -> None:
    assert (request().secret_name, request(target={"secretName": "other"}).secret_name) == ("acme", "other")


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        pytest.param({}, ["env", "credentialProcess"], id="credentials"),
        pytest.param({"exchanges": [ASSUME_ROLE, ACCESS_TOKEN]}, ["token"], id="a token after credentials"),
        pytest.param({"target": {"formats": [{"credentialsFile": {}}]}}, ["credentialsFile"], id="explicit"),
        pytest.param(
            {"target": {"formats": [{"token": {}}]}}, ["token"], id="explicit token in addition to credentials"
        ),
    ],
)
def test_formats_default_to_the_produced_kind(spec: dict[str, Any], names: list[str]) -> None:
    assert [choice.name for choice in request(**spec).spec.formats] == names


def test_exchange_is_the_member_that_is_set() -> None:
    first, second = request().spec.exchanges

    assert first.exchange == first.license_manager_get_access_token
    assert second.exchange == second.assume_role_with_web_identity


def test_renew_before_is_a_timedelta() -> None:
    spec = request(renewal={"renewBefore": "1h1m1s"}, exchanges=[ACCESS_TOKEN]).spec

    assert spec.renewal
    assert spec.renewal.before == timedelta(seconds=3661)


def test_request_has_the_metadata() -> None:
    body = manifest()
    body["metadata"] |= {"annotations": {RENEW_REQUESTED: "now"}, "creationTimestamp": "2026-01-02T03:04:05Z"}
    parsed = parse(body)

    assert (parsed.namespace, parsed.name, parsed.uid, parsed.generation) == ("billing", "acme", "acme-0001", 1)
    assert (parsed.renew_requested, parsed.created_at and parsed.created_at.minute) == ("now", 4)


def test_renew_requested_is_truncated() -> None:
    body = manifest()
    body["metadata"]["annotations"] = {RENEW_REQUESTED: "x" * 200_000}

    assert parse(body).renew_requested == "x" * 128


def test_unknown_metadata_is_ignored() -> None:
    body = manifest()
    body["metadata"]["somethingNew"] = {"deep": []}

    assert parse(body).name == "acme"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param({}, Status(), id="no status"),
        pytest.param({"status": None}, Status(), id="empty status"),
        pytest.param({"status": {"revision": "three"}}, Status(), id="invalid status"),
        pytest.param({"status": {"revision": 2**63 - 1}}, Status(), id="revision that no record can have"),
        pytest.param({"status": {"revision": -1}}, Status(), id="negative revision"),
        pytest.param({"status": {"revision": 3, "new": 1}}, Status(revision=3), id="field of a newer release"),
        pytest.param({"status": {"secretName": "x" * 33_000}}, Status(), id="large status"),
    ],
)
def test_read_status_ignores_invalid_and_unknown_fields(body: dict[str, Any], status: Status) -> None:
    assert read_status(body) == status


def test_status_has_conditions_by_type() -> None:
    status = Status(conditions=(_READY,))

    assert (status.condition("Ready"), status.condition("Stalled")) == (_READY, None)


@pytest.mark.parametrize(
    ("spec", "changed"),
    [
        pytest.param({"region": "eu-west-1"}, "exchange", id="region"),
        pytest.param({"exchanges": [ACCESS_TOKEN]}, "exchange", id="exchanges"),
        pytest.param({"target": {"secretName": "other"}}, "request", id="secretName"),
        pytest.param({"target": {"formats": [{"env": {}}]}}, "request", id="formats"),
        pytest.param({"renewal": {"renewBefore": "5m"}}, "metadata", id="renewal"),
        pytest.param({"target": {"metadata": {"labels": {"a": "b"}}}}, "metadata", id="labels"),
        pytest.param({"target": {"deletionPolicy": "Retain"}}, "metadata", id="deletionPolicy"),
        pytest.param({"suspend": True}, "", id="suspend"),
        pytest.param({"target": {}}, "", id="empty target"),
        pytest.param({"target": {"secretName": "acme"}}, "", id="explicit default name"),
    ],
)
def test_spec_change_changes_its_hash_only(spec: dict[str, Any], changed: str) -> None:
    before, after = request(), request(**spec)

    assert (before.request_hash != after.request_hash) == (changed in ("exchange", "request"))
    assert (before.exchange_hash != after.exchange_hash) == (changed == "exchange")
    assert (before.metadata_hash != after.metadata_hash) == (changed == "metadata")


@pytest.mark.parametrize(
    "metadata",
    [{"uid": "\ud800"}, {"namespace": "\ud800"}, {"annotations": {RENEW_REQUESTED: "\ud800"}}],
    ids=["uid", "namespace", "annotation"],
)
def test_lone_surrogate_in_metadata_is_refused(metadata: dict[str, Any]) -> None:
    body = manifest()
    with pytest.raises(InvalidSpecError, match="half of a Unicode surrogate pair"):
        parse(body | {"metadata": body["metadata"] | metadata})


def test_metadata_of_the_token_secret_changes_no_hash() -> None:
    def moved(**save_to: Any) -> Request:
        ref = {"name": "license", "key": "license_token"}
        return request(source={"token": {"secretKeyRef": ref, "saveTo": {"secretName": "live", **save_to}}})

    before, after = moved(), moved(metadata={"labels": {"team": "blue"}})

    assert (before.request_hash, before.exchange_hash) == (after.request_hash, after.exchange_hash)
    assert before.metadata_hash == after.metadata_hash
    assert before.request_hash != request().request_hash


def test_hash_ignores_the_order_of_fields() -> None:
    body = manifest()
    body["spec"] = dict(reversed(body["spec"].items()))

    assert parse(body).request_hash == request().request_hash


_GOOD = {name: body for name, (body, message) in MANIFESTS.items() if message is None}
_BAD = {name: (body, message) for name, (body, message) in MANIFESTS.items() if message}


def test_manifest_names_are_unique() -> None:
    assert len(NAMES) == len(MANIFESTS)


@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in _GOOD.items()])
def test_good_manifest_is_accepted(body: dict[str, Any]) -> None:
    assert parse(body).name == body["metadata"]["name"]


@pytest.mark.parametrize(("body", "message"), [pytest.param(*bad, id=name) for name, bad in _BAD.items()])
def test_bad_manifest_is_rejected_with_a_message(body: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpecError) as error:
        parse(body)

    assert message in error.value.message
