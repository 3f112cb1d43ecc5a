import copy
from typing import Any

import pytest
import yaml

from keyturn.core.pods.injection import SidecarConfig, inject_sidecar
from keyturn.core.pods.lint import lint_pod
from keyturn.core.pods.manifest import INJECT, ManifestError
from tests.support.cases import cases
from tests.support.pods import CASES, Case, container, pod

SIDECAR = SidecarConfig(image="keyturn:1")
ALL_CASES = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
EXPECTED = """
apiVersion: v1
kind: Pod
metadata: {name: app, annotations: {keyturn.dev/inject: acme-billing}}
spec:
  initContainers:
  - name: keyturn
    image: keyturn:1
    imagePullPolicy: IfNotPresent
    restartPolicy: Always
    args:
    - sidecar
    - --secret-dir=/var/run/secrets/keyturn.dev/secret
    - --listen=127.0.0.1:9911
    - --http-bind-address=:9912
    - --authorization-file=/var/run/secrets/keyturn.dev/authorization/token
    - --authorization-file-mode=0444
    ports: [{name: keyturn, containerPort: 9912}]
    startupProbe: {httpGet: {path: /readyz, port: 9912}, periodSeconds: 1, failureThreshold: 120}
    livenessProbe: {httpGet: {path: /healthz, port: 9912}, timeoutSeconds: 5, failureThreshold: 6}
    resources: {requests: {cpu: 10m, memory: 32Mi}, limits: {memory: 64Mi}}
    securityContext:
      runAsNonRoot: true
      runAsUser: 65532
      runAsGroup: 65532
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: {drop: [ALL]}
      seccompProfile: {type: RuntimeDefault}
    volumeMounts:
    - {name: keyturn-secret, mountPath: /var/run/secrets/keyturn.dev/secret, readOnly: true}
    - {name: keyturn-authorization, mountPath: /var/run/secrets/keyturn.dev/authorization}
    - {name: keyturn-no-token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
  containers:
  - name: app
    image: app
    env:
    - {name: AWS_CONTAINER_CREDENTIALS_FULL_URI, value: "http://127.0.0.1:9911/"}
    - name: AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE
      value: /var/run/secrets/keyturn.dev/authorization/token
    volumeMounts:
    - {name: keyturn-authorization, mountPath: /var/run/secrets/keyturn.dev/authorization, readOnly: true}
  volumes:
  - name: keyturn-secret
    secret: {secretName: acme-billing, defaultMode: 0444}
  - name: keyturn-authorization
    emptyDir: {medium: Memory, sizeLimit: 1Mi}
  - name: keyturn-no-token
    emptyDir: {medium: Memory, sizeLimit: 1Mi}
"""
TEMPLATES: list[tuple[str, str, tuple[str, ...]]] = [
    ("v1", "ReplicationController", ("spec", "template")),
    ("v1", "PodTemplate", ("template",)),
    ("apps/v1", "Deployment", ("spec", "template")),
    ("apps/v1", "StatefulSet", ("spec", "template")),
    ("apps/v1", "DaemonSet", ("spec", "template")),
    ("apps/v1", "ReplicaSet", ("spec", "template")),
    ("batch/v1", "Job", ("spec", "template")),
    ("batch/v1", "CronJob", ("spec", "jobTemplate", "spec", "template")),
    ("argoproj.io/v1alpha1", "Rollout", ("spec", "template")),
    ("apps.openshift.io/v1", "DeploymentConfig", ("spec", "template")),
]


def workload(api_version: str, kind: str, path: tuple[str, ...], template: Any) -> dict[str, Any]:
    body = template
    for name in reversed(path):
        body = {name: body}
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "app"}, **body}


def as_user(user: int) -> dict[str, Any]:
    return container(securityContext={"runAsUser": user})


def served_containers(body: Any) -> tuple[str, ...]:
    """The names of the containers that have the endpoint."""
    spec = body["spec"]
    return tuple(
        it["name"]
        for it in [*(spec.get("initContainers") or ()), *spec["containers"]]
        if {"AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"}
        <= {env["name"] for env in it.get("env") or () if env.get("value") != "x"}
        and "keyturn-authorization" in [mount["name"] for mount in it.get("volumeMounts") or ()]
    )


def test_pod_gets_the_sidecar() -> None:
    assert inject_sidecar(pod(), SIDECAR) == yaml.safe_load(EXPECTED)


@ALL_CASES
def test_containers_without_credentials_are_served(case: Case) -> None:
    assert served_containers(inject_sidecar(case.pod, SIDECAR)) == case.served


@ALL_CASES
def test_sidecar_is_the_first_init_container(case: Case) -> None:
    changed = inject_sidecar(case.pod, SIDECAR)
    names = [it["name"] for it in changed["spec"].get("initContainers") or ()]

    assert changed == case.pod if not case.served else names[0] == "keyturn"


@ALL_CASES
def test_injection_is_idempotent(case: Case) -> None:
    once = inject_sidecar(case.pod, SIDECAR)

    assert inject_sidecar(once, SIDECAR) == once


@ALL_CASES
def test_argument_is_not_modified(case: Case) -> None:
    before = copy.deepcopy(case.pod)
    inject_sidecar(case.pod, SIDECAR)

    assert case.pod == before


@ALL_CASES
def test_existing_fields_are_kept(case: Case) -> None:
    before, after = case.pod["spec"], inject_sidecar(case.pod, SIDECAR)["spec"]
    for old, new in zip(before["containers"], after["containers"], strict=True):
        assert [env for env in new.get("env") or () if env in (old.get("env") or ())] == (old.get("env") or [])
    for name in ("volumes", "initContainers"):
        kept = [it["name"] for it in after.get(name) or ()]
        assert [it["name"] for it in before.get(name) or () if it["name"] not in kept] == []


@ALL_CASES
def test_only_containers_and_volumes_are_changed(case: Case) -> None:
    before, after = case.pod["spec"], dict(inject_sidecar(case.pod, SIDECAR)["spec"])
    old, new = before.get("volumes") or [], after.get("volumes") or []
    lists = ("volumes", "initContainers", "containers")

    assert {name: value for name, value in after.items() if name not in lists} == {
        name: value for name, value in before.items() if name not in lists
    }
    assert new[: len(old)] == old
    for container_before, container_after in zip(before["containers"], after["containers"], strict=True):
        kept = {name: value for name, value in container_after.items() if name not in ("env", "volumeMounts")}
        assert kept.items() <= container_before.items()


@cases(
    "spec, user",
    {
        "no user": ({}, 65532),
        "the pod's user": ({"securityContext": {"runAsUser": 1000}}, 1000),
        "the containers' user": ({"containers": [as_user(7), as_user(7)], "initContainers": [as_user(7)]}, 7),
        "the containers' user, not the pod's": (
            {"containers": [as_user(7)], "securityContext": {"runAsUser": 1000}},
            7,
        ),
        "two users": ({"containers": [as_user(7), as_user(8)]}, 65532),
        "one container without a user": ({"containers": [as_user(7), container()]}, 65532),
        "a shared process namespace": ({"shareProcessNamespace": True, "securityContext": {"runAsUser": 1000}}, 65532),
        "the host's processes": ({"hostPID": True, "securityContext": {"runAsUser": 1000}}, 65532),
        "root": ({"containers": [as_user(0)], "securityContext": {"runAsUser": 1000}}, 65532),
    },
)
def test_sidecar_runs_as_the_only_user_of_the_pod(spec: dict[str, Any], user: int) -> None:
    changed = inject_sidecar({**pod(), "spec": {**pod()["spec"], **spec}}, SIDECAR)

    assert changed["spec"]["initContainers"][0]["securityContext"]["runAsUser"] == user


def test_list_shared_by_two_containers_is_extended_once() -> None:
    env = [{"name": "A", "value": "1"}]
    changed = inject_sidecar(pod(container("a", env=env), container("b", env=env)), SIDECAR)

    assert [len(it["env"]) for it in changed["spec"]["containers"]] == [3, 3]


def test_config_sets_image_port_and_resources() -> None:
    config = SidecarConfig("b:2", pull_policy="Always", port=7000, resources={"limits": {"cpu": "1"}})
    changed = inject_sidecar(pod(), config)["spec"]
    sidecar = changed["initContainers"][0]

    assert (sidecar["image"], sidecar["imagePullPolicy"]) == ("b:2", "Always")
    assert {"--listen=127.0.0.1:7000", "--http-bind-address=:7001"} <= set(sidecar["args"])
    assert sidecar["startupProbe"]["httpGet"]["port"] == sidecar["livenessProbe"]["httpGet"]["port"] == 7001
    assert sidecar["resources"] == {"limits": {"cpu": "1"}}
    assert changed["containers"][0]["env"][0]["value"] == "http://127.0.0.1:7000/"


@pytest.mark.parametrize(("api_version", "kind", "path"), TEMPLATES, ids=[kind for _, kind, _ in TEMPLATES])
def test_template_of_a_workload_is_changed(api_version: str, kind: str, path: tuple[str, ...]) -> None:
    before = workload(api_version, kind, path, {"metadata": pod()["metadata"], "spec": pod()["spec"]})
    template = {key: inject_sidecar(pod(), SIDECAR)[key] for key in ("metadata", "spec")}

    assert inject_sidecar(before, SIDECAR) == workload(api_version, kind, path, template)


@pytest.mark.parametrize(
    ("api_version", "kind"),
    [("v1", "Secret"), ("batch.volcano.sh/v1alpha1", "Job"), ("keyturn.dev/v1alpha1", "TokenRequest")],
)
def test_other_kinds_are_unchanged_and_not_linted(api_version: str, kind: str) -> None:
    body = {**workload(api_version, kind, ("spec", "template"), pod()), "spec": 7}

    assert inject_sidecar(body, SIDECAR) == body
    assert lint_pod(body) == []


def test_rollout_without_a_template_is_unchanged_and_not_linted() -> None:
    body = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "spec": {"workloadRef": {"kind": "Deployment"}}}

    assert inject_sidecar(body, SIDECAR) == body
    assert lint_pod(body) == []


def test_items_of_a_list_are_changed() -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": [pod(), {"kind": "Secret"}, 7]}

    assert inject_sidecar(listed, SIDECAR)["items"] == [inject_sidecar(pod(), SIDECAR), {"kind": "Secret"}, 7]


@cases(
    "body, message",
    {
        "a list for a spec": ({**pod(), "spec": []}, "spec must be of type object, not array (at spec)"),
        "a number for a variable": (
            pod(container(env=[{"name": "A", "value": 5}])),
            "value must be text: put quotes around the value (at spec.containers[0].env[0].value)",
        ),
        "a number for a name": (
            pod(inject=5),
            "each of annotations must be text: put quotes around the value (at metadata.annotations[...])",
        ),
        "no template": ({"apiVersion": "batch/v1", "kind": "CronJob"}, "expected an object (at spec)"),
        "no object on the way": (
            {"apiVersion": "batch/v1", "kind": "CronJob", "spec": {"jobTemplate": 1}},
            "expected an object (at spec.jobTemplate)",
        ),
        "no list in a template": (
            workload("apps/v1", "Deployment", ("spec", "template"), {"spec": {"containers": 1}}),
            "containers must be a list, but is of type integer (at spec.template.spec.containers)",
        ),
        "no metadata": (
            {**pod(), "metadata": 1, "spec": None},
            "metadata must be of type object, not integer (at metadata)",
        ),
    },
)
def test_malformed_pod_is_refused_with_its_path(body: dict[str, Any], message: str) -> None:
    with pytest.raises(ManifestError) as error:
        inject_sidecar(body, SIDECAR)

    assert str(error.value) == message


def test_error_does_not_contain_the_value_of_a_variable() -> None:
    body = pod(container(env=[{"name": "A", "value": "hunter2", "valueFrom": []}]))
    with pytest.raises(ManifestError) as error:
        inject_sidecar(body, SIDECAR)

    assert "hunter2" not in str(error.value)


@ALL_CASES
def test_findings_are_the_same_before_and_after_injection(case: Case) -> None:
    assert [finding.message for finding in lint_pod(case.pod)] == list(case.messages)
    assert [finding.message for finding in lint_pod(inject_sidecar(case.pod, SIDECAR))] == list(case.messages)


def test_misplaced_annotation_is_reported() -> None:
    body = workload("apps/v1", "Deployment", ("spec", "template"), pod(inject=None))
    body["metadata"]["annotations"] = {INJECT: "acme-billing"}

    [finding] = lint_pod(body)

    assert finding.path == f"metadata.annotations.{INJECT}"
    assert finding.message == "the annotation has no effect here: move it to spec.template.metadata"
