from dataclasses import replace
from typing import Any

import pytest

from keyturn.api.token_request import parse
from keyturn.core.pods.injection import SidecarConfig, inject_sidecar
from keyturn.core.pods.lint import PodFinding, lint_pod
from keyturn.core.pods.manifest import INJECT, ManifestError
from tests.support.cases import cases
from tests.support.dependencies import ACCESS_TOKEN, ASSUME_ROLE, manifest
from tests.support.pods import Body, container, pod

REQUEST = parse(manifest(target={"secretName": "acme-aws"}))
CONFIGURED = parse(
    manifest("other", target={"secretName": "with-config", "formats": [{"awsConfig": {}}, {"credentialProcess": {}}]})
)
TOKEN = parse(manifest("third", target={"secretName": "only-token", "formats": [{"token": {}}]}))
EXCHANGES = [
    {name: {**fields, "region": "us-east-1"}} for each in (ACCESS_TOKEN, ASSUME_ROLE) for name, fields in each.items()
]
WITHOUT_REGION: Body = {"region": None, "exchanges": EXCHANGES}
GLOBAL = parse(manifest("fourth", target={"secretName": "global", "formats": [{"env": {}}]}, **WITHOUT_REGION))
REQUESTS = (REQUEST, CONFIGURED, TOKEN, GLOBAL)
CONFIG_PATH = "/var/run/secrets/keyturn/with-config"
MOUNT_PATH = "/var/run/secrets/aws"


def volume(name: str = "acme-aws", **more: Any) -> Body:
    return {"name": "aws", "secret": {"secretName": name, **more}}


def mounting(*volumes: Body, mount: Body | None = None, path: str = MOUNT_PATH, **more: Any) -> Body:
    """A pod that mounts its volume correctly."""
    mounts = [{"name": "aws", "mountPath": path, "readOnly": True, **(mount or {})}]
    return pod(container(volumeMounts=mounts, **more), inject=None, volumes=list(volumes) or [volume()])


def variable(name: str, value: str) -> list[Body]:
    return [{"name": name, "value": value}]


def from_secret(name: str, secret: str) -> list[Body]:
    return [{"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name}}}]


def projected(**more: Any) -> Body:
    sources = [{"configMap": {"name": "x"}}, {"secret": {"name": "acme-aws", **more}}]
    return {"name": "aws", "projected": {"sources": sources}}


def subpath_mounts(sub_path: str, *more: Body) -> list[Body]:
    return [{"name": "aws", "mountPath": "/root/.aws/config", "subPath": sub_path}, *more]


def stateful_set(*claims: str) -> Body:
    template = mounting({"name": "unused"}, path="/data")
    spec = {"template": template, "volumeClaimTemplates": [{"metadata": {"name": name}} for name in claims]}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "queue"}, "spec": spec}


def error(path: str, message: str) -> PodFinding:
    return PodFinding(path, message, is_error=True)


CORRECT: dict[str, Body] = {
    "a pod with the sidecar in it": dict(inject_sidecar(pod(os={"name": "linux"}), SidecarConfig("keyturn"))),
    "a mounted Secret": mounting(),
    "a mounted Secret among other sources": mounting(projected()),
    "both names of the region": mounting(env=[*variable("AWS_REGION", "x"), *variable("AWS_DEFAULT_REGION", "x")]),
    "a config file at its mountPath": mounting(
        volume("with-config"),
        path=CONFIG_PATH,
        env=variable("AWS_CONFIG_FILE", f"{CONFIG_PATH}/config"),
    ),
    "a config file with the region, and one of its variables": mounting(
        volume("with-config"),
        path=CONFIG_PATH,
        env=[*variable("AWS_CONFIG_FILE", f"{CONFIG_PATH}/config"), *variable("AWS_REGION", "x")],
    ),
    "a Secret with a config file that the container does not use": mounting(volume("with-config")),
    "a Secret with a config file, mounted twice": pod(
        container(
            env=variable("AWS_CONFIG_FILE", "/aws/config"),
            volumeMounts=[{"name": "aws", "mountPath": "/aws"}, {"name": "aws", "mountPath": CONFIG_PATH}],
        ),
        inject=None,
        volumes=[volume("with-config")],
    ),
    "only the config file by subPath": pod(
        container(volumeMounts=subpath_mounts("config", {"name": "aws", "mountPath": CONFIG_PATH})),
        inject=None,
        volumes=[volume("with-config")],
    ),
    "another source of the volume by subPath": mounting(projected(), mount={"subPath": "x.conf"}),
    "the region as a variable": pod(
        container(env=[*from_secret("AWS_REGION", "acme-aws"), *from_secret("AWS_DEFAULT_REGION", "acme-aws")]),
        inject=None,
    ),
    "resources of the pod itself, with the annotation": pod(
        container(resources={"limits": {"cpu": 1, "memory": "1Gi"}}), resources={"limits": {"cpu": 1, "memory": "1Gi"}}
    ),
    "a limit above the request, with the annotation": pod(
        container(resources={"limits": {"cpu": 1, "memory": "1Gi"}, "requests": {"memory": "1Mi"}})
    ),
    "a volume of a claim template": stateful_set("data", "aws"),
    "an ephemeral volume": mounting({"name": "aws", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}),
    "items that the TokenRequest writes": mounting(
        volume(items=[{"key": "credentials.json", "path": "a"}, {"key": "expiration"}])
    ),
    "another Secret, by subPath": mounting(volume("other"), mount={"subPath": "a"}),
    "another Secret, as a variable": pod(container(env=from_secret("A", "other")), inject=None),
    "its own access keys and nothing of Keyturn": pod(container("app", "AWS_ACCESS_KEY_ID", "AWS_REGION"), inject=None),
    "a token file in a volume": mounting(env=variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", f"{MOUNT_PATH}/token")),
    "another Secret that is optional": mounting(volume("other", optional=True)),
    "a config file in the image": pod(container(env=variable("AWS_CONFIG_FILE", "/etc/aws/config")), inject=None),
    "a variable with the path of a mounted file": mounting(
        path="/var/run/secrets/keyturn/acme-aws", env=variable("X", "/var/run/secrets/keyturn/acme-aws/expiration")
    ),
}
MISTAKES: dict[str, tuple[Body, PodFinding]] = {
    "env of a renewed Secret": (
        pod(container(env=from_secret("AWS_ACCESS_KEY_ID", "acme-aws")), inject=None),
        error(
            "spec.containers[0].env[0]", "a variable is not updated after a renewal: mount Secret acme-aws as a volume"
        ),
    ),
    "env of an init container": (
        pod(initContainers=[container(env=from_secret("AWS_ACCESS_KEY_ID", "acme-aws"))], inject=None),
        PodFinding(
            "spec.initContainers[0].env[0]",
            "a variable is not updated after a renewal: if it can run for longer than the credentials are valid, "
            "mount Secret acme-aws as a volume",
        ),
    ),
    "env of a native sidecar": (
        pod(
            initContainers=[container(env=from_secret("AWS_ACCESS_KEY_ID", "acme-aws"), restartPolicy="Always")],
            inject=None,
        ),
        error(
            "spec.initContainers[0].env[0]",
            "a variable is not updated after a renewal: mount Secret acme-aws as a volume",
        ),
    ),
    "envFrom in a pod that ends": (
        pod(container(envFrom=[{"secretRef": {"name": "acme-aws"}}]), inject=None, restartPolicy="OnFailure"),
        PodFinding(
            "spec.containers[0].envFrom[0]",
            "variables are not updated after a renewal: if it can run for longer than the credentials are valid, "
            "mount Secret acme-aws as a volume",
        ),
    ),
    "subPath in a pod that ends": (
        {**mounting(mount={"subPath": "credentials.json"})}
        | {"spec": {**mounting(mount={"subPath": "credentials.json"})["spec"], "restartPolicy": "Never"}},
        PodFinding(
            "spec.containers[0].volumeMounts[0].subPath",
            "a subPath mount is not updated after a renewal: if it can run for longer than the credentials are valid, "
            "mount Secret acme-aws as a directory",
        ),
    ),
    "a variable from a key that the TokenRequest does not write": (
        pod(container(env=from_secret("PASSWORD", "acme-aws")), inject=None, restartPolicy="Never"),
        error("spec.containers[0].env[0]", "the TokenRequest writes no key PASSWORD into Secret acme-aws"),
    ),
    "a region from a TokenRequest without one": (
        pod(container(env=from_secret("AWS_REGION", "global")), inject=None),
        error("spec.containers[0].env[0]", "the TokenRequest writes no key AWS_REGION into Secret global"),
    ),
    "an optional variable from a missing key": (
        pod(
            container(
                env=[
                    {
                        "name": "A",
                        "valueFrom": {"secretKeyRef": {"name": "acme-aws", "key": "password", "optional": True}},
                    }
                ]
            ),
            inject=None,
        ),
        PodFinding("spec.containers[0].env[0]", "the TokenRequest writes no key password into Secret acme-aws"),
    ),
    "subPath of a missing key": (
        mounting(mount={"subPath": "password"}),
        error(
            "spec.containers[0].volumeMounts[0].subPath", "the TokenRequest writes no key password into Secret acme-aws"
        ),
    ),
    "subPath of a directory of items": (
        mounting(
            volume(items=[{"key": "credentials.json", "path": "aws/a.json"}]),
            mount={"subPath": "aws"},
        ),
        error(
            "spec.containers[0].volumeMounts[0].subPath",
            "a subPath mount is not updated after a renewal: mount Secret acme-aws as a directory",
        ),
    ),
    "a config file in the home directory": (
        mounting(volume("with-config"), path="/home/app/.aws"),
        error(
            "spec.containers[0].volumeMounts[0].mountPath",
            "the config file refers to files in /var/run/secrets/keyturn/with-config: mount Secret with-config there, "
            "or set mountPath in the awsConfig format",
        ),
    ),
    "a Guaranteed pod with the annotation": (
        pod(
            container(resources={"limits": {"cpu": 1, "memory": "1Gi"}, "requests": {"cpu": 1}}),
            initContainers=[container("wait", resources={"limits": {"cpu": "1", "memory": "1Gi"}})],
        ),
        PodFinding(
            "spec",
            "with the sidecar, the QoS class of the pod becomes Burstable: "
            "set equal requests and limits in injection.resources to keep Guaranteed",
        ),
    ),
    "a session token from any Secret": (
        pod(container(env=from_secret("AWS_SESSION_TOKEN", "other")), inject=None),
        PodFinding("spec.containers[0].env[0]", "a session token expires, but a variable is not updated"),
    ),
    "envFrom of a renewed Secret": (
        pod(container(envFrom=[{"configMapRef": {"name": "x"}}, {"secretRef": {"name": "acme-aws"}}]), inject=None),
        error(
            "spec.containers[0].envFrom[1]",
            "variables are not updated after a renewal: mount Secret acme-aws as a volume",
        ),
    ),
    "subPath": (
        mounting(mount={"subPath": "credentials.json"}),
        error(
            "spec.containers[0].volumeMounts[0].subPath",
            "a subPath mount is not updated after a renewal: mount Secret acme-aws as a directory",
        ),
    ),
    "subPathExpr of a projected volume": (
        mounting(projected(), mount={"subPathExpr": "$(A)"}),
        error(
            "spec.containers[0].volumeMounts[0].subPath",
            "a subPath mount is not updated after a renewal: mount Secret acme-aws as a directory",
        ),
    ),
    "an optional volume": (
        mounting(volume(optional=True)),
        PodFinding("spec.volumes[0]", "Secret acme-aws is optional: the pod may start before it exists"),
    ),
    "an optional part of a projected volume": (
        mounting(projected(optional=True)),
        PodFinding("spec.volumes[0]", "Secret acme-aws is optional: the pod may start before it exists"),
    ),
    "an item that the TokenRequest does not write": (
        mounting(volume(items=[{"key": "password", "path": "a"}])),
        error("spec.volumes[0]", "the TokenRequest writes no key password into Secret acme-aws"),
    ),
    "a missing volume": (
        pod(container(volumeMounts=[{"name": "aws", "mountPath": MOUNT_PATH}]), inject=None),
        error("spec.containers[0].volumeMounts[0]", "the pod has no volume aws"),
    ),
    "a token file without a volume": (
        pod(container(env=variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/x/token")), inject=None),
        error(
            "spec.containers[0].env[0]", "no volume is mounted at the path in AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
        ),
    ),
    "a config file without a volume": (
        pod(container(env=variable("AWS_CONFIG_FILE", "/var/run/secrets/keyturn/a/config")), inject=None),
        error("spec.containers[0].env[0]", "no volume is mounted at the path in AWS_CONFIG_FILE"),
    ),
    "a config file for another directory": (
        mounting(volume("with-config"), env=variable("AWS_CONFIG_FILE", f"{MOUNT_PATH}/config")),
        error(
            "spec.containers[0].volumeMounts[0].mountPath",
            "the config file refers to files in /var/run/secrets/keyturn/with-config: mount Secret with-config there, "
            "or set mountPath in the awsConfig format",
        ),
    ),
    "access keys before files": (
        mounting(env=variable("AWS_ACCESS_KEY_ID", "x")),
        PodFinding(
            "spec.containers[0].env[0]", "SDKs may read AWS_ACCESS_KEY_ID before the files of the renewed Secret"
        ),
    ),
    "a profile before files": (
        mounting(env=variable("AWS_PROFILE", "x")),
        PodFinding("spec.containers[0].env[0]", "SDKs may read AWS_PROFILE before the files of the renewed Secret"),
    ),
    "a web identity before files": (
        mounting(env=variable("AWS_WEB_IDENTITY_TOKEN_FILE", "/irsa/token")),
        PodFinding(
            "spec.containers[0].env[0]",
            "SDKs may read AWS_WEB_IDENTITY_TOKEN_FILE before the files of the renewed Secret",
        ),
    ),
    "a shared credentials file": (
        mounting(env=variable("AWS_SHARED_CREDENTIALS_FILE", f"{MOUNT_PATH}/credentials")),
        PodFinding(
            "spec.containers[0].env[0]",
            "only the AWS SDK for Java reloads a shared credentials file: use credential_process",
        ),
    ),
    "AWS_REGION alone": (
        mounting(env=variable("AWS_REGION", "x")),
        PodFinding("spec.containers[0].env", "boto3 reads AWS_DEFAULT_REGION, the other SDKs AWS_REGION: set both"),
    ),
    "AWS_DEFAULT_REGION alone, with the sidecar": (
        pod(container(env=variable("AWS_DEFAULT_REGION", "x"))),
        PodFinding("spec.containers[0].env", "boto3 reads AWS_DEFAULT_REGION, the other SDKs AWS_REGION: set both"),
    ),
    "a volume with the name of a sidecar volume": (
        pod(volumes=[{"name": "data"}, {"name": "keyturn-secret"}]),
        error(
            "spec.volumes[1].name",
            "the sidecar needs a volume named keyturn-secret: rename this one, or the pod is refused",
        ),
    ),
    "a sidecar on Windows": (
        pod(os={"name": "windows"}),
        error("spec.os.name", "the sidecar runs on Linux only: on Windows mount the Secret"),
    ),
    "a sidecar on Windows nodes": (
        pod(nodeSelector={"kubernetes.io/os": "windows"}),
        error("spec.nodeSelector", "the sidecar runs on Linux only: on Windows mount the Secret"),
    ),
    "an annotation with the name of the TokenRequest": (
        pod(inject="acme"),
        error(f"metadata.annotations.{INJECT}", "TokenRequest acme writes Secret acme-aws: use the name of the Secret"),
    ),
    "a Secret that the sidecar cannot serve": (
        pod(inject="only-token"),
        error(
            f"metadata.annotations.{INJECT}",
            "Secret only-token has neither credentials.json nor AWS_ACCESS_KEY_ID, so the sidecar cannot serve it",
        ),
    ),
}


@pytest.mark.parametrize("body", CORRECT.values(), ids=CORRECT.keys())
def test_correct_pod_has_no_findings(body: Body) -> None:
    assert lint_pod(body, REQUESTS) == []


@pytest.mark.parametrize(("body", "finding"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistake_is_reported(body: Body, finding: PodFinding) -> None:
    assert lint_pod(body, REQUESTS) == [finding]


@pytest.mark.parametrize(("body", "finding"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistake_in_a_template_has_the_full_path(body: Body, finding: PodFinding) -> None:
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, "spec": {"template": body}}

    assert lint_pod(job, REQUESTS) == [replace(finding, path=f"spec.template.{finding.path}")]


def test_mount_without_a_claim_template_is_reported() -> None:
    assert [finding.message for finding in lint_pod(stateful_set("data"))] == ["the pod has no volume aws"]


def test_claim_template_replaces_a_volume_of_the_same_name() -> None:
    body = stateful_set("aws")
    body["spec"]["template"] = mounting(volume(), mount={"subPath": "credentials.json"})

    assert lint_pod(body, REQUESTS) == []


def test_malformed_claim_template_is_refused_with_its_path() -> None:
    with pytest.raises(ManifestError, match=r"\(at spec\.volumeClaimTemplates\[0\]\)$"):
        lint_pod({**stateful_set(), "spec": {**stateful_set()["spec"], "volumeClaimTemplates": ["data"]}})


@cases(
    "key, value, is_restarted",
    {
        "all Secrets that it uses": ("reloader.stakater.com/auto", "true", True),
        "marked Secrets": ("reloader.stakater.com/search", "true", True),
        "a named Secret": ("secret.reloader.stakater.com/reload", "acme-aws", True),
        "turned off": ("reloader.stakater.com/auto", "false", False),
        "ConfigMaps only": ("configmap.reloader.stakater.com/auto", "true", False),
    },
)
def test_workload_that_reloader_restarts_may_use_variables(key: str, value: str, *, is_restarted: bool) -> None:
    template = pod(container(envFrom=[{"secretRef": {"name": "acme-aws"}}]), inject=None)
    metadata = {"name": "app", "annotations": {key: value}}
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"template": template}}

    assert (lint_pod(body, REQUESTS) == []) is is_restarted


def test_requests_of_other_namespaces_are_ignored() -> None:
    body = mounting(mount={"subPath": "a"})
    body["metadata"]["namespace"] = "other"

    assert lint_pod(body, REQUESTS) == []
