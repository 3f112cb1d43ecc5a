"""The key that signs issuance records: its Secret, its loss, and records that the operator did not sign."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster.chart import RIGHTS, chart_objects
from tests.support.cluster.namespace import Namespace, count_exchanges, token_request
from tests.support.cluster.operator import LOOPBACK, Operator, running_operator
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator
from tests.support.processes import http_get, until

pytestmark = pytest.mark.cluster
RECORD = "keyturn.dev/issuance"
KEY = "keyturn-issuance-key"


@pytest.fixture
def operator(installed: ControlPlane, aws: Emulator, namespace: Namespace, tmp_path: Path) -> Iterator[Operator]:
    """An operator whose Lease and issuance key are in the namespace of the test."""
    flags = (f"--lease-namespace={namespace.name}",)
    with running_operator(
        installed, aws, tmp_path, namespace=namespace.name, settings=LOOPBACK, flags=flags
    ) as operator:
        yield operator
        assert "internal error" not in operator.log()


def record(namespace: Namespace, name: str = "acme") -> str:
    annotation: str = namespace.get("secret", name)["metadata"]["annotations"][RECORD]
    return annotation


def restart(operator: Operator) -> None:
    operator.kill()
    operator.start()


def manifest(namespace: Namespace, name: str) -> dict[str, Any]:
    """Return a Secret as a backup restores it."""
    secret = namespace.get("secret", name)
    for field in ("uid", "resourceVersion", "creationTimestamp", "managedFields"):
        del secret["metadata"][field]
    return secret


def test_key_has_no_label_and_is_used_again(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.issue(aws)
    key, calls = namespace.get("secret", KEY), count_exchanges(aws)
    restart(operator)
    namespace.issue(aws, "later")

    assert "labels" not in key["metadata"]
    assert [len(base64.b64decode(value)) for value in key["data"].values()] == [32]
    assert namespace.get("secret", KEY) == key
    assert (namespace.revision(), count_exchanges(aws) - calls) == (1, 2)


def test_two_installations_at_once_sign_with_one_key(
    installed: ControlPlane, aws: Emulator, namespace: Namespace, tmp_path: Path
) -> None:
    other = Namespace.create(installed)
    flags = (f"--lease-namespace={namespace.name}",)
    directories = [tmp_path / "one", tmp_path / "two"]
    for directory in directories:
        directory.mkdir()
    with (
        running_operator(installed, aws, directories[0], namespace=namespace.name, flags=flags) as one,
        running_operator(installed, aws, directories[1], namespace=other.name, flags=flags) as two,
    ):
        namespace.issue(aws)
        other.issue(aws)
        restart(one)
        restart(two)
        namespace.issue(aws, "later")
        other.issue(aws, "later")

    assert (namespace.revision(), other.revision()) == (1, 1)


def test_restore_with_the_key_causes_no_exchange(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.issue(aws)
    backup, calls = manifest(namespace, KEY), count_exchanges(aws)
    operator.kill()
    namespace.kubectl("delete", "secret", KEY)
    namespace.apply(backup)
    operator.start()
    namespace.issue(aws, "later")

    assert (namespace.revision(), count_exchanges(aws) - calls) == (1, 2)


def test_restore_without_the_key_causes_one_exchange(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.issue(aws)
    namespace.issue(aws, "suspended")
    namespace.patch("treq", "suspended", {"spec": {"suspend": True}})
    namespace.wait_for_condition("suspended", "Ready", "Suspended")
    calls = count_exchanges(aws)
    operator.kill()
    namespace.kubectl("delete", "secret", KEY)
    operator.start()
    namespace.wait_for_revision(2)
    until(lambda: namespace.condition("suspended", "Ready")[:2] == ("Unknown", "Suspended"))
    restart(operator)
    namespace.issue(aws, "later")

    assert (namespace.revision(), namespace.revision("suspended"), count_exchanges(aws) - calls) == (2, 1, 4)
    assert namespace.condition("acme", "Ready")[:2] == ("True", "Renewed")


def test_added_key_signs_at_the_next_renewal(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.issue(aws)
    before = namespace.get("secret", "acme")
    namespace.patch("secret", KEY, {"data": {"2": base64.b64encode(b"k" * 32).decode()}})
    restart(operator)
    namespace.issue(aws, "later")

    assert namespace.get("secret", "acme") == before
    assert (json.loads(record(namespace))["key"], json.loads(record(namespace, "later"))["key"]) == (1, 2)
    namespace.renew(2)
    assert json.loads(record(namespace))["key"] == 2


def test_forgery_of_a_request_deletes_no_immutable_secret(
    operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    """The forged Secret has every trace of a former target: label, record and field manager."""
    namespace.issue(aws)
    uid = namespace.get("treq", "acme")["metadata"]["uid"]
    theirs = {
        "apiVersion": "v1", "kind": "Secret", "immutable": True, "stringData": {"password": "x"},
        "metadata": {"name": "theirs", "annotations": {RECORD: record(namespace)},
                     "labels": {"app.kubernetes.io/managed-by": "keyturn", "keyturn.dev/owner-uid": uid}},
    }  # fmt: skip
    manager = f"--field-manager=keyturn-{uid[:8]}"
    namespace.kubectl("apply", "--server-side", manager, "-f", "-", stdin=json.dumps(theirs))
    namespace.renew(2)

    assert namespace.secret_data("theirs") == {"password": "x"}


def test_missing_right_is_named_until_it_is_granted(
    installed: ControlPlane, aws: Emulator, namespace: Namespace, tmp_path: Path
) -> None:
    """A namespaced install, first without the roles in its own namespace."""
    own = Namespace.create(installed)
    values = {"watchNamespaces": [namespace.name], "leaderElect": False}
    objects = chart_objects(values, release="scoped", namespace=own.name, only=RIGHTS[1:])
    installed.kubectl("apply", "-f", "-", stdin=objects)
    own.kubectl("delete", "role/scoped-keyturn-issuance-key")
    account = (own.name, "scoped-keyturn")
    flags = (f"--lease-namespace={own.name}", "--issuance-key-secret=scoped-keyturn-issuance-key")
    with running_operator(installed, aws, tmp_path, namespace=namespace.name, account=account, flags=flags) as operator:
        message = "lacks the right to get the Secret scoped-keyturn-issuance-key"
        until(lambda: message in operator.log())
        status, reason = http_get(f"http://{operator.address}/readyz")
        assert (status, message in reason) == (503, True)
        installed.kubectl("apply", "-f", "-", stdin=objects)
        until(lambda: http_get(f"http://{operator.address}/readyz")[0] == 200)
        namespace.issue(aws)
        # As a pipeline does that applies the rendered chart again and again.
        before = own.get("secret", "scoped-keyturn-issuance-key")
        installed.kubectl("apply", "-f", "-", stdin=objects)
        restart(operator)
        namespace.apply(token_request("later"))
        namespace.wait_until_ready("later")

    assert own.get("secret", "scoped-keyturn-issuance-key") == before
    assert namespace.revision() == 1


def test_chart_never_renders_the_key() -> None:
    """Each rendering would make another key, and each apply of it would cause an exchange per TokenRequest."""
    rendered = chart_objects({"watchNamespaces": ["billing"]}) + chart_objects()

    assert "kind: Secret\n" not in rendered
