"""A rotating source on the real control plane: every token is spent once, in order, and the newest is kept."""

import functools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster.namespace import Namespace, token_request
from tests.support.cluster.operator import LOOPBACK, Operator, running_operator
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import CLIENT_ID, CLIENT_SECRET, OIDC_ROLE_ARN
from tests.support.processes import until


@pytest.fixture
def rotating_operator(
    installed: ControlPlane, aws: Emulator, namespace: Namespace, tmp_path: Path
) -> Iterator[Operator]:
    """An operator that may speak to issuers on loopback."""
    with running_operator(installed, aws, tmp_path, namespace=namespace.name, settings=LOOPBACK) as operator:
        yield operator


def refresh(aws: Emulator, **more: Any) -> dict[str, Any]:
    """The oauthToken step for the emulator's issuer."""
    return {
        "oauthToken": {
            "tokenUrl": f"{aws.issuer_url}/token",
            "grantType": "refresh_token",
            "clientId": CLIENT_ID,
            "clientSecretFrom": {"secretKeyRef": {"name": "client", "key": "secret"}},
            "caBundleFrom": {"secretKeyRef": {"name": "client", "key": "ca"}},
            **more,
        }
    }


def rotating_request(aws: Emulator, name: str = "acme", **spec: Any) -> dict[str, Any]:
    """A request whose token is for nobody else: its format is the token itself."""
    source = {"token": {"secretKeyRef": {"name": "source", "key": "refresh_token"}}}
    given = {
        "source": source,
        "exchanges": [refresh(aws)],
        "target": {"formats": [{"token": {}}], "secretName": name},
    }
    return token_request(name, **(given | spec))


def sign_in(namespace: Namespace, aws: Emulator) -> str:
    """Put a first refresh token and the client's secret in their Secrets."""
    token = aws.oauth_refresh_token()
    namespace.token(token, name="source", key="refresh_token")
    namespace.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "client"},
            "stringData": {"secret": CLIENT_SECRET, "ca": aws.ca},
        }
    )
    return token


def reached(namespace: Namespace, revision: int) -> bool:
    """Whether the request has been renewed so often."""
    return bool(namespace.status("acme").get("revision") == revision)


def test_three_requests_spend_sixty_tokens_in_order(
    rotating_operator: Operator, namespace: Namespace, aws: Emulator
) -> None:
    aws.settings(oauth_access_seconds=3)
    seed = sign_in(namespace, aws)
    names = ("a", "b", "c")
    namespace.apply(*(rotating_request(aws, name) for name in names))

    def revisions() -> list[int]:
        found = json.loads(namespace.kubectl("get", "treq", "-o", "json"))
        return [item.get("status", {}).get("revision", 0) for item in found["items"]]

    until(lambda: min(revisions()) >= 20, seconds=120)
    namespace.kubectl("patch", "treq", *names, "--type=merge", '--patch={"spec":{"suspend":true}}')
    until(lambda: all(namespace.condition(name, "Ready")[1] == "Suspended" for name in names))
    family = aws.family(seed)

    assert family.reuses == 0
    assert family.consumed == list(range(sum(revisions())))
    assert len(family.consumed) >= 60
    assert not family.revoked


def test_the_source_is_never_written_and_gitops_may_put_it_back(
    rotating_operator: Operator, namespace: Namespace, aws: Emulator
) -> None:
    seed = sign_in(namespace, aws)
    before = namespace.read("secret", "source")["metadata"]["resourceVersion"]
    namespace.apply(rotating_request(aws))
    namespace.is_ready("acme")
    for revision in range(2, 6):
        namespace.kubectl("annotate", "treq/acme", "--overwrite", f"keyturn.dev/renew-requested-at=n{revision}")
        until(functools.partial(reached, namespace, revision))
    assert namespace.read("secret", "source")["metadata"]["resourceVersion"] == before

    namespace.kubectl("label", "secret/source", "keyturn.dev/source=true")
    namespace.token(seed, name="source", key="refresh_token")
    time.sleep(2)

    assert aws.family(seed).consumed == list(range(5))
    assert namespace.status("acme")["revision"] == 5


def test_delete_and_create_goes_on_with_the_live_token(
    rotating_operator: Operator, namespace: Namespace, aws: Emulator
) -> None:
    seed = sign_in(namespace, aws)
    for revision in (1, 2):
        namespace.apply(rotating_request(aws))
        namespace.is_ready("acme")
        namespace.kubectl("delete", "treq/acme", "secret/acme", "--ignore-not-found")
        assert len(aws.family(seed).consumed) == revision

    assert aws.family(seed).reuses == 0


def test_a_rotated_token_becomes_the_credentials_of_a_role(
    rotating_operator: Operator, namespace: Namespace, aws: Emulator
) -> None:
    sign_in(namespace, aws)
    role = {"assumeRoleWithWebIdentity": {"roleArn": OIDC_ROLE_ARN}}
    namespace.apply(rotating_request(aws, exchanges=[refresh(aws), role], target={}))
    namespace.is_ready("acme")

    assert "OidcConsumer" in namespace.status("acme")["principal"]


def test_a_lost_answer_is_a_doubt_and_then_a_persons_business(
    rotating_operator: Operator, namespace: Namespace, aws: Emulator
) -> None:
    seed = sign_in(namespace, aws)
    namespace.apply(rotating_request(aws))
    namespace.is_ready("acme")
    aws.fault("oauth:token", drop="after")
    namespace.kubectl("annotate", "treq/acme", "--overwrite", "keyturn.dev/renew-requested-at=now")

    until(lambda: namespace.condition("acme", "Renewed")[:2] == ("Unknown", "RefreshInDoubt"))
    assert namespace.condition("acme", "Ready")[0] == "True"
    until(lambda: namespace.condition("acme", "Stalled")[1] == "RefreshInDoubt", seconds=90)
    assert aws.family(seed).reuses == 1
    assert "RefreshInDoubt" in namespace.events("acme")

    fresh = aws.oauth_refresh_token()
    namespace.kubectl("label", "secret/source", "keyturn.dev/source=true")
    namespace.token(fresh, name="source", key="refresh_token")
    until(lambda: namespace.condition("acme", "Renewed")[0] == "True", seconds=70)
    assert aws.family(fresh).consumed == [0]


def test_kill_during_the_exchange_leaves_a_doubt_that_one_careful_try_ends(
    rotating_operator: Operator, namespace: Namespace, aws: Emulator
) -> None:
    seed = sign_in(namespace, aws)
    namespace.apply(rotating_request(aws))
    namespace.is_ready("acme")
    aws.fault("oauth:token", delay_seconds=8, drop="before")
    namespace.kubectl("annotate", "treq/acme", "--overwrite", "keyturn.dev/renew-requested-at=now")
    until(lambda: aws.calls("oauth:token") == 2)
    rotating_operator.kill()
    rotating_operator.start()

    until(lambda: namespace.condition("acme", "Renewed")[1] == "RefreshInDoubt")
    until(lambda: namespace.status("acme").get("revision") == 2, seconds=90)
    assert aws.family(seed).reuses == 0
