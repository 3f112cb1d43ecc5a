"""The API server refuses our writes, by a policy or a quota: its words are told, and nothing is spent in vain."""

from datetime import datetime
from typing import Any

import pytest

from tests.e2e.test_rotation import rotating_request, sign_in
from tests.support.cluster.namespace import Namespace, exchanges, token_request
from tests.support.cluster.operator import Operator
from tests.support.cluster.policy import WORDS, allow_secrets, refusing
from tests.support.emulator.client import Emulator
from tests.support.processes import until

QUOTA = "exceeded quota: few, requested: count/secrets=1"
TOKEN_SECRET = "source-keyturn"


@pytest.fixture(scope="module")
def shared_operator(loopback_operator: Operator) -> Operator:
    """One that may speak to issuers on loopback."""
    return loopback_operator


def refused(namespace: Namespace, words: str) -> None:
    """Wait until the refusal is told, with the words of whoever refused."""
    message = namespace.turns("acme", "Stalled", "WriteRefused")

    assert words in message
    assert namespace.condition("acme", "Renewed")[:2] == ("False", "WriteRefused")
    assert namespace.events("acme")[-1] == "WriteRefused"


def has_tried_again(namespace: Namespace) -> None:
    until(lambda: namespace.status("acme").get("failedAttempts", 0) >= 2, seconds=60)


def test_policy_at_the_first_issue_costs_no_aws_call(
    operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    namespace.token(aws.refresh_token())
    with refusing(namespace, "acme"):
        namespace.apply(token_request())
        refused(namespace, WORDS)
        has_tried_again(namespace)

        assert namespace.condition("acme", "Ready")[:2] == ("False", "WriteRefused")
        assert exchanges(aws) == 0

    namespace.is_ready("acme")
    assert namespace.condition("acme", "Stalled") == ("", "", "")
    assert namespace.events("acme") == ["WriteRefused", "Issued"]
    assert exchanges(aws) == 2


def test_policy_after_the_first_issue_leaves_the_valid_secret(
    operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    namespace.issued(aws)
    before = namespace.read("secret", "acme")
    with refusing(namespace, "acme"):
        namespace.ask("acme", "1")
        refused(namespace, WORDS)
        has_tried_again(namespace)

        status = namespace.status("acme")
        assert exchanges(aws) <= 2 + 2 * (status["failedAttempts"] + 1)
        assert datetime.fromisoformat(status["nextAttemptTime"]) > datetime.fromisoformat(
            status["lastAttemptTime"]
        )
        assert namespace.condition("acme", "Ready")[:2] == ("True", "Issued")
        assert namespace.read("secret", "acme") == before
        assert namespace.events("acme") == ["Issued", "WriteRefused"]

    until(lambda: namespace.status("acme")["revision"] == 2, seconds=70)
    assert namespace.condition("acme", "Renewed")[:2] == ("True", "Renewed")


def test_policy_on_the_status_stops_no_renewal(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.token(aws.refresh_token())
    aws.settings(session_seconds=8)
    with refusing(namespace, "acme", kinds=("tokenrequests/status",)):
        namespace.apply(token_request(secret="other"))
        first = until(lambda: namespace.read("secret", "other"))["data"]

        until(lambda: namespace.read("secret", "other")["data"] != first, seconds=30)
        assert namespace.status("acme") == {}
        assert f"not told: the status of {namespace.name}/acme" in operator.log()
        aws.settings(session_seconds=3600)
    spent = until(lambda: "revision" in namespace.status("acme") and exchanges(aws), seconds=20)

    namespace.is_ready("acme")
    assert spent <= 2 * namespace.status("acme")["revision"]


def test_policy_on_the_token_secret_spends_no_token_at_the_first_issue(
    operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    seed = sign_in(namespace, aws)
    with refusing(namespace, TOKEN_SECRET):
        namespace.apply(rotating_request(aws))
        refused(namespace, WORDS)
        has_tried_again(namespace)

        assert (aws.calls("oauth:token"), namespace.read("secret", TOKEN_SECRET)) == (0, {})

    namespace.is_ready("acme")
    assert (aws.family(seed).consumed, aws.family(seed).reuses) == ([0], 0)


def test_policy_on_the_token_secret_spends_no_token_at_a_renewal(
    operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    seed = sign_in(namespace, aws)
    namespace.apply(rotating_request(aws))
    namespace.is_ready("acme")
    before = namespace.read("secret", TOKEN_SECRET)
    with refusing(namespace, TOKEN_SECRET):
        namespace.ask("acme", "1")
        refused(namespace, WORDS)
        has_tried_again(namespace)

        assert namespace.read("secret", TOKEN_SECRET) == before
        assert namespace.condition("acme", "Ready")[0] == "True"
        assert aws.calls("oauth:token") == 1

    until(lambda: namespace.status("acme")["revision"] == 2, seconds=70)
    assert (aws.family(seed).consumed, aws.family(seed).reuses) == ([0, 1], 0)


def test_policy_on_the_target_loses_no_token_at_a_renewal(
    operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    seed = sign_in(namespace, aws)
    namespace.apply(rotating_request(aws))
    namespace.is_ready("acme")
    with refusing(namespace, "acme"):
        namespace.ask("acme", "1")
        refused(namespace, WORDS)
        has_tried_again(namespace)

    until(lambda: namespace.status("acme")["revision"] == 2, seconds=70)
    family = aws.family(seed)
    assert (family.consumed, family.reuses) == ([*range(len(family.consumed))], 0)


def test_full_quota_costs_no_aws_call(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.token(aws.refresh_token())
    allow_secrets(namespace, 0)

    namespace.apply(token_request())
    refused(namespace, QUOTA)
    has_tried_again(namespace)

    assert exchanges(aws) == 0
    allow_secrets(namespace, 1)
    namespace.is_ready("acme")
    assert namespace.events("acme") == ["WriteRefused", "Issued"]


@pytest.mark.parametrize(
    ("more", "adopted", "spends"),
    [
        pytest.param(0, False, [], id="none left"),
        pytest.param(0, True, [], id="none left for the token Secret"),
        pytest.param(1, False, [0], id="one left, which the token Secret takes"),
    ],
)
def test_full_quota_spends_and_loses_no_token(
    operator: Operator, aws: Emulator, namespace: Namespace, *, more: int, adopted: bool, spends: list[int]
) -> None:
    seed = sign_in(namespace, aws)
    if adopted:
        about: dict[str, Any] = {"name": "acme", "annotations": {"keyturn.dev/adopt-by": "acme"}}
        namespace.apply({"apiVersion": "v1", "kind": "Secret", "metadata": about})
    allow_secrets(namespace, more)

    namespace.apply(rotating_request(aws))
    refused(namespace, QUOTA)
    has_tried_again(namespace)

    assert (aws.family(seed).consumed, aws.family(seed).reuses) == (spends, 0)
    allow_secrets(namespace, 2)
    namespace.is_ready("acme")
    assert aws.family(seed).reuses == 0
