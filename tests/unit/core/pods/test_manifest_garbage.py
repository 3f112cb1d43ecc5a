"""Whatever a file says in the place of a pod: an error of ours, or an answer."""

import contextlib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from keyturn.core.pods.injection import Sidecar, injected
from keyturn.core.pods.lint import traps
from keyturn.core.pods.manifest import INJECT, ManifestError
from tests.support.dependencies import request

NAMES = st.sampled_from([
    *("spec", "metadata", "template", "annotations", "containers", "initContainers", "volumes", "env", "envFrom"),
    *("name", "value", "valueFrom", "secretKeyRef", "secretRef", "volumeMounts", "mountPath", "subPath", "secret"),
    *("secretName", "items", "key", "projected", "sources", "optional", "fsGroup"),
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


@settings(max_examples=300)
@given(PODS)
def test_it_is_answered_or_refused(body: dict[str, Any]) -> None:
    with contextlib.suppress(ManifestError):
        traps(body, [request()])
    with contextlib.suppress(ManifestError):
        once = injected(body, Sidecar("keyturn:1"))

        assert injected(once, Sidecar("keyturn:1")) == once
