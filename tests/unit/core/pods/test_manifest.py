import contextlib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from keyturn.core.pods.injection import SidecarConfig, inject_sidecar
from keyturn.core.pods.lint import lint_pod
from keyturn.core.pods.manifest import INJECT, ManifestError
from tests.support.dependencies import request

NAMES = st.sampled_from([
    *("spec", "metadata", "template", "annotations", "containers", "initContainers", "volumes", "env", "envFrom"),
    *("name", "value", "valueFrom", "secretKeyRef", "secretRef", "volumeMounts", "mountPath", "subPath", "secret"),
    *("securityContext", "secretName", "items", "key", "projected", "sources", "optional", "runAsUser"),
])  # fmt: skip
WORDS = st.sampled_from(
    ["acme", "AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_CONFIG_FILE", "/var/run/secrets/keyturn/a", ""]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 99) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=40,
)
CONTAINERS = st.lists(
    st.fixed_dictionaries({"name": WORDS}, optional={"env": JSON, "envFrom": JSON, "volumeMounts": JSON}),
    max_size=3,
)
PODS = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["Pod", "List", "PodTemplate"]),
        "apiVersion": st.just("v1"),
        "spec": st.fixed_dictionaries(
            {"containers": CONTAINERS | JSON},
            optional={"volumes": JSON, "initContainers": CONTAINERS, "securityContext": JSON},
        )
        | JSON,
    },
    optional={"metadata": st.just({"annotations": {INJECT: "acme"}}) | JSON, "items": JSON, "template": JSON},
)


@settings(max_examples=150)
@given(PODS)
def test_any_json_is_accepted_or_refused(body: dict[str, Any]) -> None:
    with contextlib.suppress(ManifestError):
        lint_pod(body, [request()])
    with contextlib.suppress(ManifestError):
        once = inject_sidecar(body, SidecarConfig("keyturn:1"))

        assert inject_sidecar(once, SidecarConfig("keyturn:1")) == once
