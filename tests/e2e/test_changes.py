"""Changes of a TokenRequest or of its Secret cause a renewal, new metadata, or nothing."""

from typing import Any

import pytest

from tests.support.cases import cases
from tests.support.cluster.namespace import Namespace, count_exchanges, token_request
from tests.support.cluster.operator import Operator
from tests.support.emulator.client import Emulator
from tests.support.processes import until

pytestmark = pytest.mark.usefixtures("operator")
Patch = dict[str, Any]


EDITS: dict[str, Patch] = {
    "another value": {"data": {"AWS_ACCESS_KEY_ID": "eA=="}},
    "not text": {"data": {"AWS_ACCESS_KEY_ID": "/////w=="}},
    "no data": {"data": None},
}
METADATA_EDITS: dict[str, Patch] = {
    "the label that the watch selects": {"labels": {"app.kubernetes.io/managed-by": None}},
    "a label of the spec changed": {"labels": {"team": "red"}},
    "an annotation of the spec": {"annotations": {"note": None}},
    "the owner": {"ownerReferences": None},
}


def secret_metadata(namespace: Namespace) -> dict[str, Any]:
    metadata: dict[str, Any] = namespace.get("secret", "acme")["metadata"]
    return metadata


def test_target_metadata_is_applied_and_removed(aws: Emulator, namespace: Namespace) -> None:
    namespace.issue(aws)
    data = namespace.secret_data("acme")

    target = {"metadata": {"labels": {"team": "blue", "tier": "1"}, "annotations": {"note": "two\nlines"}}}
    namespace.patch("treq", "acme", {"spec": {"target": target}})
    until(lambda: secret_metadata(namespace)["labels"].get("team") == "blue")
    assert secret_metadata(namespace)["annotations"]["note"] == "two\nlines"

    namespace.patch("treq", "acme", {"spec": {"target": {"metadata": {"labels": {"tier": None}}}}})
    until(lambda: "tier" not in secret_metadata(namespace)["labels"])
    assert secret_metadata(namespace)["labels"]["team"] == "blue"

    namespace.patch("treq", "acme", {"spec": {"target": None}})
    until(
        lambda: (
            not {"team", "note"} & {*secret_metadata(namespace)["labels"], *secret_metadata(namespace)["annotations"]}
        )
    )
    until(lambda: namespace.status("acme")["observedGeneration"] == 4)
    assert namespace.secret_data("acme") == data
    assert count_exchanges(aws) == 2


def test_deletion_policy_sets_and_removes_the_owner(aws: Emulator, namespace: Namespace) -> None:
    namespace.issue(aws)

    namespace.patch("treq", "acme", {"spec": {"target": {"deletionPolicy": "Retain"}}})
    until(lambda: not secret_metadata(namespace).get("ownerReferences"))
    namespace.patch("treq", "acme", {"spec": {"target": {"deletionPolicy": "Delete"}}})
    until(lambda: secret_metadata(namespace).get("ownerReferences"))

    assert count_exchanges(aws) == 2


def test_renewal_settings_move_the_renewal_time(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.issue(aws)

    namespace.patch("treq", "acme", {"spec": {"renewal": {"renewBefore": "10m"}}})

    until(lambda: namespace.status("acme")["observedGeneration"] == 2)
    labels = f'name="acme",namespace="{namespace.name}"'
    renews = operator.metric(f"keyturn_credentials_renewal_timestamp_seconds{{{labels}}}") or 0
    expires = operator.metric(f"keyturn_credentials_expiration_timestamp_seconds{{{labels}}}") or 0
    assert 598 <= expires - renews <= 962  # up to a tenth of the lifetime is jitter
    assert count_exchanges(aws) == 2


def test_metadata_of_the_request_changes_nothing(aws: Emulator, namespace: Namespace) -> None:
    namespace.issue(aws)
    secret, status = namespace.get("secret", "acme"), namespace.status("acme")

    namespace.patch("treq", "acme", {"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}})
    namespace.patch("treq", "acme", {"metadata": {"annotations": {"keyturn.dev/note": "e"}}})
    namespace.apply(token_request("later"))  # is processed after the earlier changes
    namespace.wait_until_ready("later")

    assert (namespace.get("secret", "acme"), namespace.status("acme")) == (secret, status)
    assert count_exchanges(aws) == 4


def test_changed_formats_replace_the_keys(aws: Emulator, namespace: Namespace) -> None:
    namespace.issue(aws)
    namespace.patch("secret", "acme", {"stringData": {"mine": "stays"}})

    namespace.patch("treq", "acme", {"spec": {"target": {"formats": [{"credentialsFile": {}}]}}})

    namespace.wait_for_revision(2)
    assert set(namespace.secret_data("acme")) == {"credentials", "expiration", "mine"}
    assert namespace.condition("acme", "Renewed")[:2] == ("True", "Renewed")


def test_requested_renewal_happens_once_and_is_reported(aws: Emulator, namespace: Namespace) -> None:
    namespace.issue(aws)

    namespace.request_renewal("acme", "first")
    until(lambda: namespace.status("acme").get("lastHandledRenewRequest") == "first")
    namespace.request_renewal("acme", "second")
    until(lambda: namespace.status("acme").get("lastHandledRenewRequest") == "second")
    namespace.request_renewal("acme", "")
    namespace.apply(token_request("later"))
    namespace.wait_until_ready("later")

    assert "because of RenewalRequested" in namespace.condition("acme", "Renewed")[2]
    assert namespace.status("acme")["revision"] == 3
    assert count_exchanges(aws) == 8


def test_suspended_request_is_not_renewed_or_repaired(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.issue(aws)
    namespace.patch("treq", "acme", {"spec": {"suspend": True}})
    namespace.wait_for_condition("acme", "Ready", "Suspended")
    assert namespace.condition("acme", "Ready")[0] == "True"
    suspended = f'keyturn_request_suspended{{name="acme",namespace="{namespace.name}"}}'
    assert operator.metric(suspended) == 1

    namespace.request_renewal("acme", "1")
    namespace.kubectl("delete", "secret", "acme")
    until(lambda: namespace.condition("acme", "Ready")[:2] == ("False", "Suspended"))

    assert count_exchanges(aws) == 2
    namespace.patch("treq", "acme", {"spec": {"suspend": None}})
    namespace.wait_for_revision(2)
    until(lambda: namespace.condition("acme", "Ready")[0] == "True")


@cases("patch", EDITS)
def test_edited_data_is_corrected_and_reported(aws: Emulator, namespace: Namespace, patch: Patch) -> None:
    namespace.issue(aws)
    before = namespace.secret_data("acme")

    namespace.patch("secret", "acme", patch)

    assert "because of DriftDetected" in namespace.wait_for_condition("acme", "Renewed", "DriftCorrected")
    assert namespace.events("acme") == ["Issued", "DriftCorrected"]
    assert namespace.status("acme")["revision"] == 2
    after = namespace.secret_data("acme")
    assert after.keys() == before.keys()
    assert after["AWS_ACCESS_KEY_ID"] not in (before["AWS_ACCESS_KEY_ID"], "x")
    assert count_exchanges(aws) == 4


def test_deleted_secret_is_issued_again_once(aws: Emulator, namespace: Namespace) -> None:
    namespace.issue(aws)
    before = namespace.secret_data("acme")

    namespace.kubectl("delete", "secret", "acme")

    namespace.wait_for_revision(2)
    namespace.wait_until_ready("acme")
    until(lambda: namespace.events("acme") == ["Issued", "SecretDeleted"])
    assert namespace.secret_data("acme")["AWS_ACCESS_KEY_ID"] != before["AWS_ACCESS_KEY_ID"]
    namespace.kubectl("delete", "secret", "acme")

    assert "deleted again; it will be recreated at" in namespace.wait_for_condition("acme", "Ready", "SecretDeleted")
    until(lambda: namespace.events("acme") == ["Issued", "SecretDeleted", "SecretDeleted"])
    assert count_exchanges(aws) == 4


@cases("patch", METADATA_EDITS)
def test_edited_metadata_is_restored_without_an_exchange(aws: Emulator, namespace: Namespace, patch: Patch) -> None:
    namespace.issue(aws, target={"metadata": {"labels": {"team": "blue"}, "annotations": {"note": "n"}}})
    before, data = secret_metadata(namespace), namespace.secret_data("acme")

    namespace.patch("secret", "acme", {"metadata": patch})

    fields = ("labels", "annotations", "ownerReferences")
    until(lambda: all(secret_metadata(namespace).get(field) == before[field] for field in fields))
    assert namespace.secret_data("acme") == data
    assert count_exchanges(aws) == 2
    assert namespace.events("acme") == ["Issued"]
