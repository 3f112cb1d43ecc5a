"""Operations of docs/operations: restore, several regions, replaced sources, an operator that does not run."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster.namespace import Namespace, count_exchanges, token_request
from tests.support.cluster.operator import Operator, running_operator
from tests.support.cluster.plugin import Plugin
from tests.support.cluster.rotating_source import rotating_request, sign_in
from tests.support.cluster.sources import KEYS_SOURCE, USER_KEYS
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator, endpoints, running_emulator
from tests.support.processes import until

BACKED_UP = ("name", "labels", "annotations")


@pytest.fixture
def plugin(namespace: Namespace, tmp_path: Path) -> Plugin:
    return Plugin(namespace, tmp_path, namespace.plane.kubeconfig)


def backup(namespace: Namespace) -> list[dict[str, Any]]:
    """Return Secrets and TokenRequests as backup tools do: without uid, owner and status, the Secrets first."""
    items = json.loads(namespace.kubectl("get", "secrets,tokenrequests", "-o", "json"))["items"]
    for item in items:
        item["metadata"] = {key: item["metadata"][key] for key in BACKED_UP if key in item["metadata"]}
        item.pop("status", None)
    return sorted(items, key=lambda item: str(item["kind"]))


def test_restore_into_a_new_cluster(own_operator: Operator, namespace: Namespace, aws: Emulator) -> None:
    seed = sign_in(namespace, aws)
    namespace.apply(rotating_request(aws, "rotating"))
    namespace.issue(aws)
    namespace.wait_until_ready("rotating")
    before = [namespace.secret_data(name) for name in ("acme", "rotating", "source-keyturn")]
    uid_before = uid(namespace)

    own_operator.kill()
    restore(namespace, backup(namespace))
    own_operator.start()
    namespace.wait_until_ready("acme")
    namespace.wait_until_ready("rotating")

    owners = namespace.get("secret", "acme")["metadata"]["ownerReferences"]
    assert uid_before != uid(namespace) == owners[0]["uid"]
    assert [namespace.secret_data(name) for name in ("acme", "rotating", "source-keyturn")] == before
    assert (count_exchanges(aws), aws.family(seed).consumed) == (2, [0])
    namespace.renew(2, "rotating")
    assert (aws.family(seed).consumed, aws.family(seed).reuses) == ([0, 1], 0)


def uid(namespace: Namespace) -> str:
    return str(namespace.get("tokenrequest", "acme")["metadata"]["uid"])


def restore(namespace: Namespace, objects: list[dict[str, Any]]) -> None:
    """Create all objects again with other uids, as a restore into another cluster does."""
    namespace.kubectl("delete", "tokenrequests,secrets", "--all")
    until(lambda: not json.loads(namespace.kubectl("get", "secrets,treq", "-o", "json"))["items"])
    namespace.kubectl("create", "-f", "-", stdin="\n---\n".join(map(json.dumps, objects)))


@pytest.fixture
def other_region() -> Iterator[Emulator]:
    with running_emulator() as aws:
        aws.settings(region="eu-west-1")
        yield aws


def test_pull_secret_for_several_regions(
    installed: ControlPlane, aws: Emulator, other_region: Emulator, namespace: Namespace, tmp_path: Path
) -> None:
    namespace.put_secret("keys", USER_KEYS)
    steps: list[dict[str, Any]] = [
        {"ecrGetAuthorizationToken": {}},
        {"ecrGetAuthorizationToken": {"region": "eu-west-1"}},
        {"ecrGetAuthorizationToken": {"public": True}},
    ]
    namespace.apply(token_request("registries", source=KEYS_SOURCE, exchanges=steps))
    settings = {"aws": {"endpoints": endpoints(aws.url) | {"ecr/eu-west-1": other_region.url}}}
    with running_operator(installed, aws, tmp_path, namespace=namespace.name, settings=settings):
        namespace.wait_until_ready("registries")

    logins = json.loads(namespace.secret_data("registries")[".dockerconfigjson"])["auths"]
    assert set(logins) == {
        "111122223333.dkr.ecr.us-east-1.amazonaws.com",
        "111122223333.dkr.ecr.eu-west-1.amazonaws.com",
        "public.ecr.aws",
    }


def test_expiring_source_is_replaced(
    own_operator: Operator, namespace: Namespace, aws: Emulator, plugin: Plugin
) -> None:
    namespace.put_token(aws.refresh_token(expires_in=10))
    namespace.apply(token_request())
    message = namespace.wait_for_condition("acme", "Ready", "SourceExpiring", seconds=30)
    expiration = namespace.status("acme")["sourceExpirationTime"]
    assert f"the source credential expires at {expiration}" in message
    assert namespace.events("acme") == ["Issued", "SourceExpiring"]
    assert f"  Source expires  {expiration} (" in plugin.succeed("status", "acme")

    namespace.put_token(aws.refresh_token())
    plugin.succeed("renew", "acme", "--wait")

    assert namespace.condition("acme", "Ready")[:2] == ("True", "Renewed")
    assert namespace.status("acme")["sourceExpirationTime"] > expiration


def test_leaked_token_is_replaced(own_operator: Operator, namespace: Namespace, aws: Emulator, plugin: Plugin) -> None:
    leaked = sign_in(namespace, aws)
    namespace.apply(rotating_request(aws, "rotating"))
    namespace.issue(aws)
    namespace.wait_until_ready("rotating")
    before = [namespace.secret_data(name) for name in ("acme", "rotating")]

    namespace.put_token(aws.refresh_token())
    new_token = aws.oauth_refresh_token()
    namespace.put_token(new_token, name="source", key="refresh_token")
    plugin.succeed("renew", "--all", "--wait")

    after = [namespace.secret_data(name) for name in ("acme", "rotating")]
    assert [old for old, new in zip(before, after, strict=True) if old == new] == []
    assert (aws.family(leaked).consumed, len(aws.family(new_token).consumed)) == ([0], 1)
    plugin.succeed("renew", "--all", "--wait")
    assert (aws.family(leaked).consumed, aws.family(new_token).reuses) == ([0], 0)


def test_kubectl_wait_ignores_an_outdated_ready_condition(
    own_operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    namespace.issue(aws)
    own_operator.kill()
    namespace.patch("treq", "acme", {"spec": {"region": "eu-west-1"}})
    wait = ("wait", "--for=condition=Ready", "treq/acme")

    assert "timed out" in namespace.kubectl(*wait, "--timeout=1s", check=False)
    namespace.patch("treq", "acme", {"spec": {"region": "us-east-1"}})
    own_operator.start()
    namespace.kubectl(*wait, "--timeout=20s")


def test_secret_stays_valid_without_the_operator(own_operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.issue(aws)
    before = namespace.secret_data("acme")

    own_operator.stop()

    assert namespace.secret_data("acme") == before
    assert namespace.condition("acme", "Ready")[0] == "True"
    namespace.kubectl("delete", "treq", "acme", "--timeout=10s")
    until(lambda: not namespace.get("secret", "acme"), seconds=60)


def test_source_without_the_required_label(
    installed: ControlPlane, aws: Emulator, namespace: Namespace, tmp_path: Path
) -> None:
    namespace.put_token(aws.refresh_token())
    settings = {"sources": {"requireLabel": True}}
    with running_operator(installed, aws, tmp_path, namespace=namespace.name, settings=settings):
        namespace.apply(token_request())
        assert "sources.requireLabel" in namespace.wait_for_condition("acme", "Renewed", "SourceNotFound")
        assert aws.recent_calls() == []

        namespace.kubectl("label", "secret", "license", "keyturn.dev/source=true")
        namespace.wait_until_ready("acme")
