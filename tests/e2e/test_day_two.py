"""What docs/operations/upgrading.md says of the life after the first day, done."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_rotation import rotating_operator, rotating_request, sign_in
from tests.support.cluster.namespace import Namespace, exchanges, token_request
from tests.support.cluster.operator import Operator, running_operator
from tests.support.cluster.plugin import Plugin
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator, endpoints, running_emulator
from tests.support.emulator.constants import USER_KEY_ID, USER_SECRET_KEY
from tests.support.processes import until

__all__ = ["rotating_operator"]
KEPT = ("name", "labels", "annotations")


@pytest.fixture
def plugin(namespace: Namespace, tmp_path: Path) -> Plugin:
    """The plugin of an administrator."""
    return Plugin(namespace, tmp_path, namespace.plane.kubeconfig)


def backup(namespace: Namespace) -> list[dict[str, Any]]:
    """Write down Secrets and TokenRequests as backup tools do: no uid, no owner, no status; the Secrets first."""
    found = json.loads(namespace.kubectl("get", "secrets,tokenrequests", "-o", "json"))["items"]
    for it in found:
        it["metadata"] = {key: it["metadata"][key] for key in KEPT if key in it["metadata"]}
        it.pop("status", None)
    return sorted(found, key=lambda it: str(it["kind"]))


def test_restore_into_a_new_cluster(rotating_operator: Operator, namespace: Namespace, aws: Emulator) -> None:
    seed = sign_in(namespace, aws)
    namespace.apply(rotating_request(aws, "rotates"))
    namespace.issued(aws)
    namespace.is_ready("rotates")
    before = [namespace.data(name) for name in ("acme", "rotates", "source-keyturn")]
    former = uid(namespace)

    rotating_operator.kill()
    moved(namespace, backup(namespace))
    rotating_operator.start()
    namespace.is_ready("acme")
    namespace.is_ready("rotates")

    owners = namespace.read("secret", "acme")["metadata"]["ownerReferences"]
    assert former != uid(namespace) == owners[0]["uid"]
    assert [namespace.data(name) for name in ("acme", "rotates", "source-keyturn")] == before
    assert (exchanges(aws), aws.family(seed).consumed) == (2, [0])
    namespace.ask("rotates", "now")
    until(lambda: namespace.status("rotates")["revision"] == 2)
    assert (aws.family(seed).consumed, aws.family(seed).reuses) == ([0, 1], 0)


def uid(namespace: Namespace) -> str:
    return str(namespace.read("tokenrequest", "acme")["metadata"]["uid"])


def moved(namespace: Namespace, objects: list[dict[str, Any]]) -> None:
    """Make all anew, with other uids, as a restore in another cluster does."""
    namespace.kubectl("delete", "tokenrequests,secrets", "--all")
    until(lambda: not json.loads(namespace.kubectl("get", "secrets,treq", "-o", "json"))["items"])
    namespace.kubectl("create", "-f", "-", stdin="\n---\n".join(map(json.dumps, objects)))


@pytest.fixture
def elsewhere() -> Iterator[Emulator]:
    """AWS in another region."""
    with running_emulator() as aws:
        aws.settings(region="eu-west-1")
        yield aws


def test_a_pull_secret_of_several_regions(
    installed: ControlPlane, aws: Emulator, elsewhere: Emulator, namespace: Namespace, tmp_path: Path
) -> None:
    keys = {"AWS_ACCESS_KEY_ID": USER_KEY_ID, "AWS_SECRET_ACCESS_KEY": USER_SECRET_KEY}
    namespace.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "base-aws"}, "stringData": keys})
    steps: list[dict[str, Any]] = [
        {"ecrGetAuthorizationToken": {}},
        {"ecrGetAuthorizationToken": {"region": "eu-west-1"}},
        {"ecrGetAuthorizationToken": {"public": True}},
    ]
    source = {"credentials": {"secretRef": {"name": "base-aws"}}}
    namespace.apply(token_request("registries", source=source, exchanges=steps))
    settings = {"aws": {"endpoints": endpoints(aws.url) | {"ecr/eu-west-1": elsewhere.url}}}
    with running_operator(installed, aws, tmp_path, namespace=namespace.name, settings=settings):
        namespace.is_ready("registries")

    logins = json.loads(namespace.data("registries")[".dockerconfigjson"])["auths"]
    assert set(logins) == {
        "111122223333.dkr.ecr.us-east-1.amazonaws.com",
        "111122223333.dkr.ecr.eu-west-1.amazonaws.com",
        "public.ecr.aws",
    }


def test_a_source_that_ends_is_replaced(
    rotating_operator: Operator, namespace: Namespace, aws: Emulator, plugin: Plugin
) -> None:
    namespace.token(aws.refresh_token(expires_in=10))
    namespace.apply(token_request())
    namespace.turns("acme", "Ready", "SourceExpiring", seconds=30)
    ends = namespace.status("acme")["sourceExpirationTime"]
    assert f"  Source ends {ends} (" in plugin.good("status", "acme")

    namespace.token(aws.refresh_token())
    plugin.good("renew", "acme", "--wait")

    assert namespace.condition("acme", "Ready")[:2] == ("True", "Renewed")
    assert namespace.status("acme")["sourceExpirationTime"] > ends


def test_a_leaked_token_is_replaced(
    rotating_operator: Operator, namespace: Namespace, aws: Emulator, plugin: Plugin
) -> None:
    leaked = sign_in(namespace, aws)
    namespace.apply(rotating_request(aws, "rotates"))
    namespace.issued(aws)
    namespace.is_ready("rotates")
    before = [namespace.data(name) for name in ("acme", "rotates")]

    namespace.token(aws.refresh_token())
    fresh = aws.oauth_refresh_token()
    namespace.token(fresh, name="source", key="refresh_token")
    plugin.good("renew", "--all", "--wait")

    assert [
        now for name, now in zip(before, map(namespace.data, ("acme", "rotates")), strict=True) if now == name
    ] == []
    assert (aws.family(leaked).consumed, len(aws.family(fresh).consumed)) == ([0], 1)
    plugin.good("renew", "--all", "--wait")
    assert (aws.family(leaked).consumed, aws.family(fresh).reuses) == ([0], 0)


def test_kubectl_wait_is_not_deceived_by_what_was_ready_before(
    own_operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    namespace.issued(aws)
    own_operator.kill()
    namespace.patch("treq", "acme", {"spec": {"region": "eu-west-1"}})
    wait = ("wait", "--for=condition=Ready", "treq/acme")

    assert "timed out" in namespace.kubectl(*wait, "--timeout=1s", check=False)
    namespace.patch("treq", "acme", {"spec": {"region": "us-east-1"}})
    own_operator.start()
    namespace.kubectl(*wait, "--timeout=20s")


def test_what_an_operator_leaves_goes_on_being_good(
    own_operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    namespace.issued(aws)
    before = namespace.data("acme")

    own_operator.stop()

    assert namespace.data("acme") == before
    assert namespace.condition("acme", "Ready")[0] == "True"
    namespace.kubectl("delete", "treq", "acme", "--timeout=10s")
    until(lambda: not namespace.read("secret", "acme"), seconds=60)
