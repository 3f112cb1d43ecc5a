"""Restrictions that an administrator sets in a namespace: an admission policy and a quota."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.cluster.namespace import Namespace
from tests.support.processes import until

POLICY_MESSAGE = "forbidden by the test policy"
_PROBE = "probe-of-the-policy"


@contextmanager
def refusing(
    namespace: Namespace, *names: str, kinds: tuple[str, ...] = ("secrets",), quote: str = "''"
) -> Iterator[None]:
    """Let the API server refuse to create or change objects with these names, with POLICY_MESSAGE.

    `kinds` are plurals, such as "secrets" or "tokenrequests/status". `quote` is a CEL expression of a text that the
    message repeats. The policy is in force inside the context.
    """
    expression = f"!(object.metadata.name in {json.dumps([_PROBE, *names])})"
    with _policy(namespace, expression, f"'{POLICY_MESSAGE} ' + {quote}", kinds):
        yield


@contextmanager
def requiring_label(namespace: Namespace, label: str) -> Iterator[None]:
    """Let the API server refuse Secrets without a label, with POLICY_MESSAGE."""
    expression = f"has(object.metadata.labels) && '{label}' in object.metadata.labels"
    with _policy(namespace, expression, f"'{POLICY_MESSAGE}'"):
        yield


@contextmanager
def _policy(namespace: Namespace, expression: str, message: str, kinds: tuple[str, ...] = ()) -> Iterator[None]:
    name = f"refuse-in-{namespace.name}"
    common = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": name}}
    rule = {
        "apiGroups": ["", "keyturn.dev"],
        "apiVersions": ["*"],
        "operations": ["CREATE", "UPDATE"],
        "resources": [*dict.fromkeys(("secrets", *kinds))],
    }
    policy = {
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": expression, "messageExpression": message}],
    }
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace.name}}}
    binding = {"policyName": name, "validationActions": ["Deny"], "matchResources": here}
    namespace.apply(
        {**common, "kind": "ValidatingAdmissionPolicy", "spec": policy},
        {**common, "kind": "ValidatingAdmissionPolicyBinding", "spec": binding},
    )
    until(lambda: POLICY_MESSAGE in _try_to_create(namespace))
    try:
        yield
    finally:
        both = "validatingadmissionpolicy,validatingadmissionpolicybinding"
        namespace.kubectl("delete", both, name)


def allow_secrets(namespace: Namespace, more: int) -> None:
    """Set a quota that allows this many more Secrets in the namespace."""
    existing = len(json.loads(namespace.kubectl("get", "secrets", "-o", "json"))["items"])
    hard = {"count/secrets": str(existing + more)}
    namespace.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": {"hard": hard}})
    # The control plane of the tests runs the quota admission plugin but not the controller that counts.
    counted = {"status": {"hard": hard, "used": {"count/secrets": str(existing)}}}
    namespace.kubectl(
        "patch", "resourcequota", "few", "--subresource=status", "--type=merge", f"--patch={json.dumps(counted)}"
    )


def _try_to_create(namespace: Namespace) -> str:
    probe = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": _PROBE}}
    return namespace.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(probe), check=False)
