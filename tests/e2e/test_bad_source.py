"""A source that is missing, wrong or ends: it is named, nothing is hammered, and it goes on by itself."""

import json
import time
from typing import Any

import pytest

from tests.support.cluster.namespace import Namespace, token_request
from tests.support.cluster.operator import Operator
from tests.support.controlplane import KubectlError
from tests.support.emulator.client import Emulator
from tests.support.processes import until

EVERY_MINUTE = 75
WRONG = "not.a.token"
LABELLED = {"keyturn.dev/source": "true"}


def source(name: str, key: str = "license_token") -> dict[str, Any]:
    return {"token": {"secretKeyRef": {"name": name, "key": key}}}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        pytest.param({"region": None}, "region is missing: give spec.region", id="region"),
        pytest.param({"exchanges": [{}]}, "give exactly one of licenseManagerGetAccessToken", id="exchange"),
        pytest.param(
            {"target": {"secretName": "license"}},
            "the target must not be a Secret that the spec reads",
            id="target is source",
        ),
    ],
)
def test_refused_manifest_shows_our_sentence(namespace: Namespace, wrong: dict[str, Any], says: str) -> None:
    manifest = token_request(**wrong)

    with pytest.raises(KubectlError, match=says):
        namespace.apply(manifest)


@pytest.mark.parametrize(
    ("of", "says"),
    [
        pytest.param(source("nowhere"), "Secret nowhere does not exist", id="Secret"),
        pytest.param(source("license", "nothing"), "Secret license has no key nothing", id="key"),
        pytest.param(
            source("license", "empty"), "Secret license has no key empty, or an empty one", id="empty key"
        ),
    ],
)
def test_missing_source_is_named(
    operator: Operator, aws: Emulator, namespace: Namespace, of: dict[str, Any], says: str
) -> None:
    namespace.token(aws.refresh_token())
    namespace.patch("secret", "license", {"data": {"empty": ""}})

    namespace.apply(token_request(source=of))

    message = namespace.turns("acme", "Renewed", "SourceMissing")
    assert says in message
    assert "; next try at 2" in message
    assert namespace.condition("acme", "Ready")[:2] == ("False", "SourceMissing")
    assert says in namespace.kubectl("get", "events", "--field-selector=reason=SourceMissing")
    assert namespace.events("acme") == ["SourceMissing"]
    assert aws.calls("GetAccessToken") == 0


def test_labelled_source_is_seen_at_once(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.apply(token_request())
    namespace.turns("acme", "Renewed", "SourceMissing")

    namespace.token(aws.refresh_token(), labels=LABELLED)
    namespace.is_ready("acme")
    namespace.token(aws.refresh_token(), labels=LABELLED)

    until(lambda: namespace.status("acme")["revision"] == 2)
    assert "because of SourceChanged" in namespace.condition("acme", "Renewed")[2]


def test_labelled_source_that_says_the_same_causes_nothing(
    operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    namespace.token(aws.refresh_token(), labels=LABELLED)
    namespace.apply(token_request())
    namespace.is_ready("acme")

    namespace.kubectl("annotate", "secret", "license", "note=1")
    namespace.apply(token_request("later"))
    namespace.is_ready("later")

    assert aws.calls("GetAccessToken") == 2


def test_nothing_is_hammered_and_all_go_on_within_a_minute(
    operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    namespace.token(aws.refresh_token())
    namespace.token(WRONG, name="wrong")
    foreign = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "foreign"}}
    namespace.apply(
        foreign,
        token_request("no-secret", source=source("later")),
        token_request("no-key", source=source("license", "later")),
        token_request("invalid", source=source("wrong")),
        token_request("conflict", secret="foreign"),
    )
    for name, reason in (
        ("no-secret", "SourceMissing"),
        ("no-key", "SourceMissing"),
        ("invalid", "SourceInvalid"),
        ("conflict", "TargetConflict"),
    ):
        namespace.turns(name, "Renewed", reason)
    time.sleep(10)  # nothing to wait for: that nothing is tried again is the point
    # That of "invalid"; and one of "conflict", where the write found out what no rehearsal had.
    assert aws.calls("GetAccessToken") in (1, 2)

    namespace.token(aws.refresh_token(), name="later")
    namespace.patch("secret", "license", {"stringData": {"later": aws.refresh_token()}})
    namespace.token(aws.refresh_token(), name="wrong")
    namespace.kubectl("annotate", "secret", "foreign", "keyturn.dev/adopt-by=conflict")

    namespace.kubectl("wait", "--for=condition=Ready", "treq", "--all", f"--timeout={EVERY_MINUTE}s")


@pytest.mark.parametrize("wrap", ["{}\n", '"{}"', "'{}'\n", "  {}\r\n", '"{}"\n'], ids=repr)
def test_token_as_people_store_it(operator: Operator, aws: Emulator, namespace: Namespace, wrap: str) -> None:
    namespace.token(wrap.format(aws.refresh_token()))

    namespace.apply(token_request())

    namespace.is_ready("acme")


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("a b", id="space"),
        pytest.param("a\nb", id="two lines"),
        pytest.param('""', id="only quotes"),
        pytest.param('a"b\\c', id="quote and backslash"),
        pytest.param("tök", id="not ASCII"),
        pytest.param("x" * 500_000, id="huge"),
        pytest.param("e30." + "W1tb" * 50_000 + ".e30", id="JSON too deep"),
        pytest.param(WRONG, id="no JWT"),
    ],
)
def test_wrong_token_is_refused_without_harm(
    operator: Operator, aws: Emulator, namespace: Namespace, token: str
) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "license"}}
    namespace.kubectl("create", "-f", "-", stdin=json.dumps(secret | {"stringData": {"license_token": token}}))

    namespace.apply(token_request())

    namespace.turns("acme", "Stalled", "SourceInvalid")
    assert namespace.events("acme") == ["Stalled"]


def test_refused_token_leaves_the_secret_valid(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.token(aws.refresh_token(), labels=LABELLED)
    namespace.apply(token_request())
    namespace.is_ready("acme")
    before = namespace.read("secret", "acme")

    namespace.token(aws.refresh_token(expires_in=-1).replace("e", "f", 1), labels=LABELLED)
    assert "License Manager GetAccessToken: ValidationException" in namespace.turns(
        "acme", "Stalled", "SourceInvalid"
    )
    assert namespace.condition("acme", "Ready")[:2] == ("True", "Issued")
    assert namespace.read("secret", "acme") == before
    assert namespace.events("acme") == ["Issued", "Stalled"]
    namespace.token(aws.refresh_token(), labels=LABELLED)
    until(lambda: namespace.status("acme")["revision"] == 2)
    assert namespace.condition("acme", "Stalled") == ("", "", "")
    assert namespace.status("acme")["failedAttempts"] == 0


def test_expired_token_is_not_even_sent(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.token(aws.refresh_token(expires_in=-60))

    namespace.apply(token_request())

    assert "the source token expired at 2" in namespace.turns("acme", "Stalled", "SourceExpired")
    assert aws.calls("GetAccessToken") == 0


def test_end_of_the_source_is_told_ahead_once(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.token(aws.refresh_token(expires_in=10))

    namespace.apply(token_request())

    ends = namespace.turns("acme", "Ready", "SourceExpiring")
    assert f"the source ends at {namespace.status('acme')['sourceExpirationTime']}" in ends
    assert namespace.events("acme") == ["Issued", "SourceExpiring"]
