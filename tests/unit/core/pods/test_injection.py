"""The sidecar in a manifest."""

import copy
from typing import Any

import pytest
import yaml

from keyturn.core.pods.injection import Sidecar, injected
from keyturn.core.pods.lint import traps
from keyturn.core.pods.manifest import INJECT, ManifestError
from tests.support.pods import CASES, Case, container, pod

SIDECAR = Sidecar(image="keyturn:1")
EACH = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
EXPECTED = """
apiVersion: v1
kind: Pod
metadata: {name: app, annotations: {keyturn.dev/inject: acme-billing}}
spec:
  securityContext: {fsGroup: 65532, fsGroupChangePolicy: OnRootMismatch}
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
    secret: {secretName: acme-billing, defaultMode: 0440}
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
]


def workload(api_version: str, kind: str, path: tuple[str, ...], template: Any) -> dict[str, Any]:
    body = template
    for name in reversed(path):
        body = {name: body}
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "app"}, **body}


def served(body: Any) -> tuple[str, ...]:
    """Name the containers that have the endpoint, in their order."""
    spec = body["spec"]
    return tuple(
        it["name"]
        for it in [*(spec.get("initContainers") or ()), *spec["containers"]]
        if {"AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"}
        <= {env["name"] for env in it.get("env") or () if env.get("value") != "x"}
        and "keyturn-authorization" in [mount["name"] for mount in it.get("volumeMounts") or ()]
    )


def test_what_one_container_gets() -> None:
    assert injected(pod(), SIDECAR) == yaml.safe_load(EXPECTED)


@EACH
def test_whom_it_serves(case: Case) -> None:
    assert served(injected(case.pod, SIDECAR)) == case.served


@EACH
def test_the_sidecar_is_first_if_anybody_is_served(case: Case) -> None:
    changed = injected(case.pod, SIDECAR)
    names = [it["name"] for it in changed["spec"].get("initContainers") or ()]

    assert changed == case.pod if not case.served else names[0] == "keyturn"


@EACH
def test_again_changes_nothing(case: Case) -> None:
    once = injected(case.pod, SIDECAR)

    assert injected(once, SIDECAR) == once


@EACH
def test_the_manifest_that_was_given_is_not_touched(case: Case) -> None:
    before = copy.deepcopy(case.pod)
    injected(case.pod, SIDECAR)

    assert case.pod == before


@EACH
def test_what_there_was_stays(case: Case) -> None:
    before, after = case.pod["spec"], injected(case.pod, SIDECAR)["spec"]
    for old, new in zip(before["containers"], after["containers"], strict=True):
        assert [env for env in new.get("env") or () if env in (old.get("env") or ())] == (old.get("env") or [])
    for name in ("volumes", "initContainers"):
        kept = [it["name"] for it in after.get(name) or ()]
        assert [it["name"] for it in before.get(name) or () if it["name"] not in kept] == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param({}, {"fsGroup": 65532, "fsGroupChangePolicy": "OnRootMismatch"}, id="none: ours"),
        pytest.param({"fsGroup": 7}, {"fsGroup": 7}, id="one: it stays, and so does how it is changed"),
        pytest.param({"fsGroup": 0}, {"fsGroup": 0}, id="root's: it stays"),
        pytest.param(
            {"fsGroupChangePolicy": "Always"},
            {"fsGroup": 65532, "fsGroupChangePolicy": "Always"},
            id="a policy: it stays",
        ),
    ],
)
def test_the_group_that_may_read_the_token(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert injected(pod(securityContext=given), SIDECAR)["spec"]["securityContext"] == expected


def test_one_list_that_two_containers_share_is_not_extended_twice() -> None:
    env = [{"name": "A", "value": "1"}]
    changed = injected(pod(container("a", env=env), container("b", env=env)), SIDECAR)

    assert [len(it["env"]) for it in changed["spec"]["containers"]] == [3, 3]


def test_what_may_be_chosen() -> None:
    chosen = Sidecar("b:2", pull_policy="Always", port=7000, resources={"limits": {"cpu": "1"}})
    changed = injected(pod(), chosen)["spec"]
    sidecar = changed["initContainers"][0]

    assert (sidecar["image"], sidecar["imagePullPolicy"]) == ("b:2", "Always")
    assert {"--listen=127.0.0.1:7000", "--http-bind-address=:7001"} <= set(sidecar["args"])
    assert sidecar["startupProbe"]["httpGet"]["port"] == sidecar["livenessProbe"]["httpGet"]["port"] == 7001
    assert sidecar["resources"] == {"limits": {"cpu": "1"}}
    assert changed["containers"][0]["env"][0]["value"] == "http://127.0.0.1:7000/"


@pytest.mark.parametrize(("api_version", "kind", "path"), TEMPLATES, ids=[kind for _, kind, _ in TEMPLATES])
def test_the_template_of_a_workload(api_version: str, kind: str, path: tuple[str, ...]) -> None:
    before = workload(api_version, kind, path, {"metadata": pod()["metadata"], "spec": pod()["spec"]})
    template = {key: injected(pod(), SIDECAR)[key] for key in ("metadata", "spec")}

    assert injected(before, SIDECAR) == workload(api_version, kind, path, template)


@pytest.mark.parametrize(
    ("api_version", "kind"),
    [("v1", "Secret"), ("batch.volcano.sh/v1alpha1", "Job"), ("keyturn.dev/v1alpha1", "TokenRequest")],
)
def test_another_kind_stays_as_it_is(api_version: str, kind: str) -> None:
    body = {**workload(api_version, kind, ("spec", "template"), pod()), "spec": 7}

    assert injected(body, SIDECAR) == body
    assert traps(body) == []


def test_a_list_of_manifests() -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": [pod(), {"kind": "Secret"}, 7]}

    assert injected(listed, SIDECAR)["items"] == [injected(pod(), SIDECAR), {"kind": "Secret"}, 7]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        pytest.param({**pod(), "spec": []}, "Expected `object`, got `array` (at spec)", id="a list for a spec"),
        pytest.param(
            pod(container(env=[{"name": "A", "value": 5}])),
            "Expected `str`, got `int` (at spec.containers[0].env[0].value)",
            id="a number for a variable",
        ),
        pytest.param(
            pod(inject=5), "Expected `str`, got `int` (at metadata.annotations[...])", id="a number for a name"
        ),
        pytest.param({"apiVersion": "batch/v1", "kind": "CronJob"}, "expected an object (at spec)", id="no template"),
        pytest.param(
            {"apiVersion": "batch/v1", "kind": "CronJob", "spec": {"jobTemplate": 1}},
            "expected an object (at spec.jobTemplate)",
            id="no object on the way",
        ),
        pytest.param(
            workload("apps/v1", "Deployment", ("spec", "template"), {"spec": {"containers": 1}}),
            "Expected `array`, got `int` (at spec.template.spec.containers)",
            id="no list in a template",
        ),
        pytest.param(
            {**pod(), "metadata": 1, "spec": None}, "Expected `object`, got `int` (at metadata)", id="no metadata"
        ),
    ],
)
def test_what_is_no_pod(body: dict[str, Any], says: str) -> None:
    with pytest.raises(ManifestError) as caught:
        injected(body, SIDECAR)

    assert str(caught.value) == says


def test_no_value_of_a_variable_is_told() -> None:
    body = pod(container(env=[{"name": "A", "value": "hunter2", "valueFrom": []}]))
    with pytest.raises(ManifestError) as caught:
        injected(body, SIDECAR)

    assert "hunter2" not in str(caught.value)


@EACH
def test_what_users_are_told_of_the_sidecar(case: Case) -> None:
    assert [trap.says for trap in traps(case.pod)] == list(case.says)
    assert [trap.says for trap in traps(injected(case.pod, SIDECAR))] == list(case.says)


def test_where_the_annotation_does_nothing() -> None:
    body = workload("apps/v1", "Deployment", ("spec", "template"), pod(inject=None))
    body["metadata"]["annotations"] = {INJECT: "acme-billing"}

    [trap] = traps(body)

    assert trap.path == f"metadata.annotations.{INJECT}"
    assert trap.says == "it belongs to spec.template.metadata: here it does nothing"
