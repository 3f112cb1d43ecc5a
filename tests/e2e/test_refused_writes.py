"""An admission policy or a quota refuses writes: its message is reported, and no token is consumed or lost."""

from datetime import datetime
from typing import Any

import pytest

from tests.support.cases import cases
from tests.support.cluster.namespace import Namespace, count_exchanges, token_request
from tests.support.cluster.operator import Operator
from tests.support.cluster.policy import POLICY_MESSAGE, allow_secrets, refusing
from tests.support.cluster.rotating_source import issue_rotating, rotating_request, sign_in
from tests.support.emulator.client import Emulator
from tests.support.processes import until

pytestmark = pytest.mark.usefixtures("loopback_operator", "aws")
QUOTA = "exceeded quota: few, requested: count/secrets=1"
TOKEN_SECRET = "source-keyturn"


def wait_until_denied(namespace: Namespace, text: str) -> None:
    """Wait until WriteDenied is reported with the text of the policy or quota."""
    message = namespace.wait_for_condition("acme", "Stalled", "WriteDenied")

    assert text in message
    assert namespace.condition("acme", "Renewed")[:2] == ("False", "WriteDenied")
    assert namespace.events("acme")[-1] == "WriteDenied"


def try_again(namespace: Namespace) -> None:
    """Cause a second failed attempt."""
    namespace.request_renewal("acme", "again")
    until(lambda: namespace.status("acme").get("failedAttempts", 0) >= 2, seconds=60)


def renew(namespace: Namespace) -> None:
    """Renew now, rather than at the end of the backoff."""
    namespace.request_renewal("acme", "after the policy was deleted")
    namespace.wait_until_ready("acme")


def test_policy_at_the_first_issue_costs_no_aws_call(aws: Emulator, namespace: Namespace) -> None:
    namespace.put_token(aws.refresh_token())
    with refusing(namespace, "acme"):
        namespace.apply(token_request())
        wait_until_denied(namespace, POLICY_MESSAGE)
        try_again(namespace)

        assert namespace.condition("acme", "Ready")[:2] == ("False", "WriteDenied")
        assert count_exchanges(aws) == 0

    namespace.wait_until_ready("acme")
    assert namespace.condition("acme", "Stalled") == ("", "", "")
    assert namespace.events("acme") == ["WriteDenied", "Issued"]
    assert count_exchanges(aws) == 2


def test_policy_at_a_renewal_keeps_the_valid_secret(aws: Emulator, namespace: Namespace) -> None:
    namespace.issue(aws)
    before = namespace.get("secret", "acme")
    with refusing(namespace, "acme"):
        namespace.request_renewal("acme", "1")
        wait_until_denied(namespace, POLICY_MESSAGE)
        try_again(namespace)

        status = namespace.status("acme")
        assert count_exchanges(aws) <= 2 + 2 * (status["failedAttempts"] + 1)
        assert datetime.fromisoformat(status["nextAttemptTime"]) > datetime.fromisoformat(status["lastAttemptTime"])
        assert namespace.condition("acme", "Ready")[:2] == ("True", "Issued")
        assert namespace.get("secret", "acme") == before
        assert namespace.events("acme") == ["Issued", "WriteDenied"]

    renew(namespace)
    namespace.wait_for_revision(2)
    assert namespace.condition("acme", "Renewed")[:2] == ("True", "Renewed")


def test_policy_on_the_status_does_not_stop_renewal(
    loopback_operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    namespace.put_token(aws.refresh_token())
    aws.settings(session_seconds=8)
    with refusing(namespace, "acme", kinds=("tokenrequests/status",)):
        namespace.apply(token_request(secret="other"))
        first = until(lambda: namespace.get("secret", "other"))["data"]

        until(lambda: namespace.get("secret", "other")["data"] != first, seconds=30)
        assert namespace.status("acme") == {}
        assert f"the status of {namespace.name}/acme" in loopback_operator.log()
        aws.settings(session_seconds=3600)
    consumed = until(lambda: "revision" in namespace.status("acme") and count_exchanges(aws), seconds=20)

    namespace.wait_until_ready("acme")
    assert consumed <= 2 * namespace.status("acme")["revision"]


def test_policy_on_the_token_secret_at_the_first_issue(aws: Emulator, namespace: Namespace) -> None:
    seed = sign_in(namespace, aws)
    with refusing(namespace, TOKEN_SECRET):
        namespace.apply(rotating_request(aws))
        wait_until_denied(namespace, POLICY_MESSAGE)
        try_again(namespace)

        assert (aws.calls("oauth:token"), namespace.get("secret", TOKEN_SECRET)) == (0, {})

    namespace.wait_until_ready("acme")
    assert (aws.family(seed).consumed, aws.family(seed).reuses) == ([0], 0)


def test_policy_on_the_token_secret_at_a_renewal(aws: Emulator, namespace: Namespace) -> None:
    seed = issue_rotating(namespace, aws)
    before = namespace.get("secret", TOKEN_SECRET)
    with refusing(namespace, TOKEN_SECRET):
        namespace.request_renewal("acme", "1")
        wait_until_denied(namespace, POLICY_MESSAGE)
        try_again(namespace)

        assert namespace.get("secret", TOKEN_SECRET) == before
        assert namespace.condition("acme", "Ready")[0] == "True"
        assert aws.calls("oauth:token") == 1

    renew(namespace)
    namespace.wait_for_revision(2)
    assert (aws.family(seed).consumed, aws.family(seed).reuses) == ([0, 1], 0)


def test_policy_on_the_target_loses_no_token(aws: Emulator, namespace: Namespace) -> None:
    seed = issue_rotating(namespace, aws)
    with refusing(namespace, "acme"):
        namespace.request_renewal("acme", "1")
        wait_until_denied(namespace, POLICY_MESSAGE)
        try_again(namespace)

    renew(namespace)
    namespace.wait_for_revision(2)
    family = aws.family(seed)
    assert (family.consumed, family.reuses) == ([*range(len(family.consumed))], 0)


def test_full_quota_costs_no_aws_call(aws: Emulator, namespace: Namespace) -> None:
    namespace.put_token(aws.refresh_token())
    allow_secrets(namespace, 0)

    namespace.apply(token_request())
    wait_until_denied(namespace, QUOTA)
    try_again(namespace)

    assert count_exchanges(aws) == 0
    allow_secrets(namespace, 1)
    namespace.wait_until_ready("acme")
    assert namespace.events("acme") == ["WriteDenied", "Issued"]


QUOTAS = {
    "none left": (0, False, []),
    "none left for the token Secret": (0, True, []),
    "one left, which the token Secret takes": (1, False, [0]),
}


@cases("more, adopted, consumes", QUOTAS)
def test_full_quota_loses_no_token(
    aws: Emulator, namespace: Namespace, *, more: int, adopted: bool, consumes: list[int]
) -> None:
    seed = sign_in(namespace, aws)
    if adopted:
        metadata: dict[str, Any] = {"name": "acme", "annotations": {"keyturn.dev/adoptable-by": "acme"}}
        namespace.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})
    allow_secrets(namespace, more)

    namespace.apply(rotating_request(aws))
    wait_until_denied(namespace, QUOTA)
    try_again(namespace)

    assert (aws.family(seed).consumed, aws.family(seed).reuses) == (consumes, 0)
    allow_secrets(namespace, 2)
    namespace.wait_until_ready("acme")
    assert aws.family(seed).reuses == 0
