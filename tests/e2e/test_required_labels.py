"""An admission policy requires a label on every Secret."""

from typing import Any

import pytest

from tests.support.cases import cases
from tests.support.cluster.namespace import Namespace
from tests.support.cluster.policy import POLICY_MESSAGE, requiring_label
from tests.support.cluster.rotating_source import rotating_request, sign_in
from tests.support.emulator.client import Emulator

pytestmark = pytest.mark.usefixtures("loopback_operator", "aws")
LABELS = {"labels": {"team": "blue"}}
TOKEN_SECRET = "source-keyturn"
TARGET = {"secretName": "acme", "formats": [{"token": {}}], "metadata": LABELS}


def source(**save_to: Any) -> dict[str, Any]:
    """Return a rotating source, with a field `saveTo` if it has values."""
    ref = {"secretKeyRef": {"name": "source", "key": "refresh_token"}}
    return {"token": ref | ({"saveTo": {"secretName": TOKEN_SECRET, **save_to}} if save_to else {})}


def create_empty(namespace: Namespace) -> None:
    """Create the token Secret beforehand."""
    metadata = LABELS | {"name": TOKEN_SECRET, "annotations": {"keyturn.dev/adoptable-by": "acme"}}
    namespace.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})


@cases("is_created", {"labels in saveTo": False, "an empty Secret with consent": True})
def test_token_secret_can_have_a_required_label(aws: Emulator, namespace: Namespace, *, is_created: bool) -> None:
    seed = sign_in(namespace, aws)
    with requiring_label(namespace, "team"):
        if is_created:
            create_empty(namespace)
        spec = source() if is_created else source(metadata=LABELS)
        namespace.apply(rotating_request(aws, source=spec, target=TARGET))
        namespace.wait_until_ready("acme")
        namespace.renew(2)

        assert namespace.get("secret", TOKEN_SECRET)["metadata"]["labels"]["team"] == "blue"
        assert (aws.family(seed).consumed, aws.family(seed).reuses) == ([0, 1], 0)


def test_label_can_be_added_to_an_existing_token_secret(aws: Emulator, namespace: Namespace) -> None:
    seed = sign_in(namespace, aws)
    namespace.apply(rotating_request(aws, target=TARGET, source=source()))
    namespace.wait_until_ready("acme")
    namespace.kubectl("label", "secret", TOKEN_SECRET, "owner=a-person")
    with requiring_label(namespace, "team"):
        namespace.request_renewal("acme", "1")
        assert POLICY_MESSAGE in namespace.wait_for_condition("acme", "Stalled", "WriteDenied")
        assert aws.family(seed).consumed == [0]

        namespace.patch("treq", "acme", {"spec": {"source": source(metadata=LABELS)}})
        namespace.wait_for_revision(2)

    labels = namespace.get("secret", TOKEN_SECRET)["metadata"]["labels"]
    assert (labels["team"], labels["owner"]) == ("blue", "a-person")
    assert (aws.family(seed).consumed, aws.family(seed).reuses) == ([0, 1], 0)
