"""A source with rotating refresh tokens: each token is consumed once, in order, and the newest one is stored."""

import json

import pytest

from tests.support.cluster.namespace import Namespace
from tests.support.cluster.operator import Operator
from tests.support.cluster.rotating_source import issue_rotating, prevent_save, rotating_request, sign_in
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import CLIENT_SECRET
from tests.support.processes import until

pytestmark = pytest.mark.usefixtures("own_operator")


def test_three_requests_consume_the_tokens_in_order(namespace: Namespace, aws: Emulator) -> None:
    aws.settings(oauth_access_seconds=3)
    seed = sign_in(namespace, aws)
    names = ("a", "b", "c")
    namespace.apply(*(rotating_request(aws, name) for name in names))

    def revisions() -> list[int]:
        requests = json.loads(namespace.kubectl("get", "treq", "-o", "json"))["items"]
        return [request.get("status", {}).get("revision", 0) for request in requests]

    until(lambda: min(revisions()) >= 10, seconds=120)
    namespace.kubectl("patch", "treq", *names, "--type=merge", '--patch={"spec":{"suspend":true}}')
    until(lambda: all(namespace.condition(name, "Ready")[1] == "Suspended" for name in names))
    family = aws.family(seed)

    assert family.reuses == 0
    assert family.consumed == list(range(sum(revisions())))
    assert len(family.consumed) >= 30
    assert not family.revoked


def test_source_restored_by_gitops_is_ignored(namespace: Namespace, aws: Emulator) -> None:
    seed = sign_in(namespace, aws)
    before = namespace.get("secret", "source")["metadata"]["resourceVersion"]
    namespace.apply(rotating_request(aws))
    namespace.wait_until_ready("acme")
    for revision in range(2, 6):
        namespace.renew(revision)
    assert namespace.get("secret", "source")["metadata"]["resourceVersion"] == before

    namespace.kubectl("label", "secret/source", "keyturn.dev/source=true")
    namespace.put_token(seed, name="source", key="refresh_token")
    namespace.renew(6)

    assert (aws.family(seed).consumed, aws.family(seed).reuses) == (list(range(6)), 0)


def test_lost_response_needs_a_new_token(namespace: Namespace, aws: Emulator) -> None:
    seed = issue_rotating(namespace, aws)
    aws.fault("oauth:token", drop="after")
    namespace.request_renewal("acme", "now")

    until(lambda: namespace.condition("acme", "Renewed")[:2] == ("Unknown", "RefreshOutcomeUnknown"))
    assert namespace.condition("acme", "Ready")[0] == "True"
    # Otherwise, the final attempt is made after half of the remaining lifetime.
    namespace.apply(rotating_request(aws, "without-credentials"))
    namespace.wait_for_condition("acme", "Stalled", "RefreshOutcomeUnknown", seconds=90)
    assert aws.family(seed).reuses == 1
    assert "RefreshOutcomeUnknown" in namespace.events("acme")
    namespace.kubectl("delete", "treq", "without-credentials")

    # Nothing but a new token leads to another request.
    calls = aws.calls("oauth:token")
    namespace.put_secret(
        "client", {"secret": CLIENT_SECRET, "ca": f"{aws.ca}\n"}, labels={"keyturn.dev/source": "true"}
    )
    namespace.patch("treq", "acme", {"spec": {"region": "eu-west-1"}})
    namespace.request_renewal("acme", "again")
    until(lambda: namespace.status("acme").get("lastHandledRenewRequest") == "again")
    assert (namespace.status("acme")["observedGeneration"], aws.calls("oauth:token")) == (2, calls)

    new_token = aws.oauth_refresh_token()
    namespace.kubectl("label", "secret/source", "keyturn.dev/source=true")
    namespace.put_token(new_token, name="source", key="refresh_token")
    until(lambda: namespace.condition("acme", "Renewed")[0] == "True", seconds=70)
    assert aws.family(new_token).consumed == [0]


def test_kill_during_the_exchange_causes_one_final_attempt(
    own_operator: Operator, namespace: Namespace, aws: Emulator
) -> None:
    seed = issue_rotating(namespace, aws)
    aws.fault("oauth:token", delay_seconds=8, drop="before")
    namespace.request_renewal("acme", "now")
    until(lambda: aws.calls("oauth:token") == 2)
    own_operator.kill()
    own_operator.start()

    namespace.wait_for_condition("acme", "Renewed", "RefreshOutcomeUnknown")
    namespace.wait_for_revision(2, seconds=90)
    assert aws.family(seed).reuses == 0


def test_token_that_cannot_be_saved_is_reported(namespace: Namespace, aws: Emulator) -> None:
    seed = prevent_save(namespace, aws)

    message = namespace.wait_for_condition("acme", "Stalled", "TokenUnsaved")
    assert "Secret source-keyturn, key refresh_token: the API server refused to write" in message
    assert "immutable" in message
    assert namespace.condition("acme", "Renewed") == ("False", "TokenUnsaved", message)
    assert namespace.condition("acme", "Ready")[:2] == ("True", "Issued")
    assert namespace.status("acme")["lastError"]["reason"] == "TokenUnsaved"
    assert namespace.events("acme") == ["Issued", "TokenUnsaved"]

    namespace.kubectl("delete", "secret", "source-keyturn")
    namespace.wait_for_revision(2)
    assert namespace.condition("acme", "Renewed")[:2] == ("True", "Renewed")
    assert namespace.condition("acme", "Stalled") == ("", "", "")
    assert "lastError" not in namespace.status("acme")
    assert namespace.events("acme") == ["Issued", "TokenUnsaved", "Recovered"]
    assert (aws.family(seed).consumed, aws.family(seed).reuses) == ([0, 1], 0)
