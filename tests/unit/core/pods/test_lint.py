"""The mistakes by which a pod would not see what is renewed."""

from typing import Any

import pytest

from keyturn.api.token_request import parse
from keyturn.core.pods.injection import Sidecar, injected
from keyturn.core.pods.lint import Trap, traps
from keyturn.core.pods.manifest import INJECT
from tests.support.dependencies import manifest
from tests.support.pods import Body, container, pod

REQUEST = parse(manifest(target={"secretName": "acme-aws"}))
CONFIGURED = parse(
    manifest("other", target={"secretName": "with-config", "formats": [{"awsConfig": {}}, {"credentialProcess": {}}]})
)
TOKEN = parse(manifest("third", target={"secretName": "only-token", "formats": [{"token": {}}]}))
REQUESTS = (REQUEST, CONFIGURED, TOKEN)
AT = "/var/run/secrets/aws"


def volume(of: str = "acme-aws", **more: Any) -> Body:
    return {"name": "aws", "secret": {"secretName": of, **more}}


def mounting(*volumes: Body, mount: Body | None = None, path: str = AT, **more: Any) -> Body:
    """Make a pod that mounts its volume, as it should be."""
    mounts = [{"name": "aws", "mountPath": path, "readOnly": True, **(mount or {})}]
    return pod(container(volumeMounts=mounts, **more), inject=None, volumes=list(volumes) or [volume()])


def variable(name: str, value: str) -> list[Body]:
    return [{"name": name, "value": value}]


def from_secret(name: str, secret: str) -> list[Body]:
    return [{"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name}}}]


def projected(**more: Any) -> Body:
    sources = [{"configMap": {"name": "x"}}, {"secret": {"name": "acme-aws", **more}}]
    return {"name": "aws", "projected": {"sources": sources}}


FINE: dict[str, Body] = {
    "a pod with the sidecar in it": dict(injected(pod(os={"name": "linux"}), Sidecar("keyturn"))),
    "a mounted Secret": mounting(),
    "a mounted Secret, beside others": mounting(projected()),
    "both names of the region": mounting(env=[*variable("AWS_REGION", "x"), *variable("AWS_DEFAULT_REGION", "x")]),
    "a config file of our own, where it says": mounting(
        volume("with-config"),
        path="/var/run/secrets/keyturn/with-config",
        env=variable("AWS_CONFIG_FILE", "/var/run/secrets/keyturn/with-config/config"),
    ),
    "a key that is written": mounting(volume(items=[{"key": "credentials.json", "path": "a"}, {"key": "expiration"}])),
    "a Secret of somebody else, by subPath": mounting(volume("other"), mount={"subPath": "a"}),
    "a Secret of somebody else, as a variable": pod(container(env=from_secret("A", "other")), inject=None),
    "keys of its own, and nothing of ours": pod(container("app", "AWS_ACCESS_KEY_ID", "AWS_REGION"), inject=None),
    "a token file in a volume": mounting(env=variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", f"{AT}/token")),
    "an optional Secret of somebody else": mounting(volume("other", optional=True)),
    "a profile file of the image": pod(container(env=variable("AWS_CONFIG_FILE", "/etc/aws/config")), inject=None),
    "a file of ours, mounted": mounting(
        path="/var/run/secrets/keyturn/acme-aws", env=variable("X", "/var/run/secrets/keyturn/acme-aws/expiration")
    ),
}
TRAPPED: dict[str, tuple[Body, Trap]] = {
    "env of a renewed Secret": (
        pod(container(env=from_secret("AWS_ACCESS_KEY_ID", "acme-aws")), inject=None),
        Trap(
            "spec.containers[0].env[0]",
            "a variable keeps its first value: mount Secret acme-aws as a volume",
            breaks=True,
        ),
    ),
    "env of an init container": (
        pod(initContainers=[container(env=from_secret("X", "acme-aws"))], inject=None),
        Trap(
            "spec.initContainers[0].env[0]",
            "a variable keeps its first value: mount Secret acme-aws as a volume",
            breaks=True,
        ),
    ),
    "a session token from any Secret": (
        pod(container(env=from_secret("AWS_SESSION_TOKEN", "other")), inject=None),
        Trap("spec.containers[0].env[0]", "a session token expires, and a variable keeps its first value"),
    ),
    "envFrom of a renewed Secret": (
        pod(container(envFrom=[{"configMapRef": {"name": "x"}}, {"secretRef": {"name": "acme-aws"}}]), inject=None),
        Trap(
            "spec.containers[0].envFrom[1]",
            "variables keep their first values: mount Secret acme-aws as a volume",
            breaks=True,
        ),
    ),
    "subPath": (
        mounting(mount={"subPath": "credentials.json"}),
        Trap(
            "spec.containers[0].volumeMounts[0].subPath",
            "a subPath keeps its first file: mount all of Secret acme-aws",
            breaks=True,
        ),
    ),
    "subPathExpr of a projected volume": (
        mounting(projected(), mount={"subPathExpr": "$(A)"}),
        Trap(
            "spec.containers[0].volumeMounts[0].subPath",
            "a subPath keeps its first file: mount all of Secret acme-aws",
            breaks=True,
        ),
    ),
    "an optional volume": (
        mounting(volume(optional=True)),
        Trap("spec.volumes[0]", "Secret acme-aws is optional: the pod would start before its credentials are there"),
    ),
    "an optional part of a projected volume": (
        mounting(projected(optional=True)),
        Trap("spec.volumes[0]", "Secret acme-aws is optional: the pod would start before its credentials are there"),
    ),
    "a key that nobody writes": (
        mounting(volume(items=[{"key": "password", "path": "a"}])),
        Trap("spec.volumes[0]", "the TokenRequest writes no key password into Secret acme-aws", breaks=True),
    ),
    "a missing volume": (
        pod(container(volumeMounts=[{"name": "aws", "mountPath": AT}]), inject=None),
        Trap("spec.containers[0].volumeMounts[0]", "there is no volume aws", breaks=True),
    ),
    "a token file that no volume has": (
        pod(container(env=variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/x/token")), inject=None),
        Trap(
            "spec.containers[0].env[0]",
            "no volume is mounted where AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE points to",
            breaks=True,
        ),
    ),
    "a file of ours that no volume has": (
        pod(container(env=variable("AWS_CONFIG_FILE", "/var/run/secrets/keyturn/a/config")), inject=None),
        Trap("spec.containers[0].env[0]", "no volume is mounted where AWS_CONFIG_FILE points to", breaks=True),
    ),
    "a config file that names another directory": (
        mounting(volume("with-config"), env=variable("AWS_CONFIG_FILE", f"{AT}/config")),
        Trap(
            "spec.containers[0].volumeMounts[0].mountPath",
            "its config file names files in /var/run/secrets/keyturn/with-config: mount Secret with-config there, "
            "or set mountPath",
            breaks=True,
        ),
    ),
    "keys that are read first": (
        mounting(env=variable("AWS_ACCESS_KEY_ID", "x")),
        Trap("spec.containers[0].env[0]", "SDKs may read AWS_ACCESS_KEY_ID before the files of the renewed Secret"),
    ),
    "a static profile": (
        mounting(env=variable("AWS_PROFILE", "x")),
        Trap("spec.containers[0].env[0]", "SDKs may read AWS_PROFILE before the files of the renewed Secret"),
    ),
    "a web identity that is read first": (
        mounting(env=variable("AWS_WEB_IDENTITY_TOKEN_FILE", "/irsa/token")),
        Trap(
            "spec.containers[0].env[0]",
            "SDKs may read AWS_WEB_IDENTITY_TOKEN_FILE before the files of the renewed Secret",
        ),
    ),
    "a shared credentials file": (
        mounting(env=variable("AWS_SHARED_CREDENTIALS_FILE", f"{AT}/credentials")),
        Trap(
            "spec.containers[0].env[0]",
            "of the AWS SDKs only Java's reads a shared credentials file again: use credential_process",
        ),
    ),
    "AWS_REGION alone": (
        mounting(env=variable("AWS_REGION", "x")),
        Trap("spec.containers[0].env", "boto3 reads AWS_DEFAULT_REGION, the other SDKs AWS_REGION: set both"),
    ),
    "AWS_DEFAULT_REGION alone, with the sidecar": (
        pod(container(env=variable("AWS_DEFAULT_REGION", "x"))),
        Trap("spec.containers[0].env", "boto3 reads AWS_DEFAULT_REGION, the other SDKs AWS_REGION: set both"),
    ),
    "a volume by the name of one of the sidecar's": (
        pod(volumes=[{"name": "data"}, {"name": "keyturn-secret"}]),
        Trap(
            "spec.volumes[1].name",
            "the sidecar has a volume keyturn-secret, and the pod would be refused: give this another name",
            breaks=True,
        ),
    ),
    "a sidecar on Windows": (
        pod(os={"name": "windows"}),
        Trap("spec.os.name", "the sidecar is a program for Linux: on Windows mount the Secret", breaks=True),
    ),
    "a sidecar on nodes with Windows": (
        pod(nodeSelector={"kubernetes.io/os": "windows"}),
        Trap("spec.nodeSelector", "the sidecar is a program for Linux: on Windows mount the Secret", breaks=True),
    ),
    "a sidecar for a TokenRequest whose Secret has another name": (
        pod(inject="acme"),
        Trap(
            f"metadata.annotations.{INJECT}",
            "TokenRequest acme writes Secret acme-aws: give this name",
            breaks=True,
        ),
    ),
    "a sidecar for a Secret that it cannot read": (
        pod(inject="only-token"),
        Trap(
            f"metadata.annotations.{INJECT}",
            "Secret only-token gets neither credentials.json nor AWS_ACCESS_KEY_ID: the sidecar cannot serve it",
            breaks=True,
        ),
    ),
}


@pytest.mark.parametrize("body", FINE.values(), ids=FINE.keys())
def test_no_trap(body: Body) -> None:
    assert traps(body, REQUESTS) == []


@pytest.mark.parametrize(("body", "trap"), TRAPPED.values(), ids=TRAPPED.keys())
def test_a_trap(body: Body, trap: Trap) -> None:
    assert traps(body, REQUESTS) == [trap]


@pytest.mark.parametrize(("body", "trap"), TRAPPED.values(), ids=TRAPPED.keys())
def test_a_trap_in_a_template(body: Body, trap: Trap) -> None:
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, "spec": {"template": body}}

    assert traps(job, REQUESTS) == [Trap(f"spec.template.{trap.path}", trap.says, breaks=trap.breaks)]


def test_a_secret_of_another_namespace_is_another_one() -> None:
    body = mounting(mount={"subPath": "a"})
    body["metadata"]["namespace"] = "elsewhere"

    assert traps(body, REQUESTS) == []
