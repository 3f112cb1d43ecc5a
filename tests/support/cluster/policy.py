"""What an administrator forbids in a namespace: by an admission policy, or by a quota of Secrets."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.cluster.namespace import Namespace
from tests.support.processes import until

WORDS = "the house forbids it"
_PROBE = "probe-of-the-policy"


@contextmanager
def refusing(namespace: Namespace, *names: str, kinds: tuple[str, ...] = ("secrets",)) -> Iterator[None]:
    """Have the API server refuse to create or change what has one of these names, with WORDS of our own.

    `kinds` are plurals, such as "secrets" or "tokenrequests/status". It is in force once this is entered.
    """
    name = f"refuse-in-{namespace.name}"
    about = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": name}}
    expression = f"!(object.metadata.name in {json.dumps([_PROBE, *names])})"
    rule = {
        "apiGroups": ["", "keyturn.dev"],
        "apiVersions": ["*"],
        "operations": ["CREATE", "UPDATE"],
        "resources": [*dict.fromkeys(("secrets", *kinds))],
    }
    policy = {
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": expression, "message": WORDS}],
    }
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace.name}}}
    binding = {"policyName": name, "validationActions": ["Deny"], "matchResources": here}
    namespace.apply(
        {**about, "kind": "ValidatingAdmissionPolicy", "spec": policy},
        {**about, "kind": "ValidatingAdmissionPolicyBinding", "spec": binding},
    )
    until(lambda: WORDS in _try_to_create(namespace))
    try:
        yield
    finally:
        both = "validatingadmissionpolicy,validatingadmissionpolicybinding"
        namespace.kubectl("delete", both, name)


def allow_secrets(namespace: Namespace, more: int) -> None:
    """Let so many more Secrets be made in the namespace."""
    there = len(json.loads(namespace.kubectl("get", "secrets", "-o", "json"))["items"])
    hard = {"count/secrets": str(there + more)}
    namespace.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": {"hard": hard}})
    # The controller that counts is not part of the control plane of the tests; the admission that refuses is.
    counted = {"status": {"hard": hard, "used": {"count/secrets": str(there)}}}
    namespace.kubectl(
        "patch", "resourcequota", "few", "--subresource=status", "--type=merge", f"--patch={json.dumps(counted)}"
    )


def _try_to_create(namespace: Namespace) -> str:
    probe = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": _PROBE}}
    return namespace.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(probe), check=False)
