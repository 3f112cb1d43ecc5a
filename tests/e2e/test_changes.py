"""Changes of a TokenRequest or of its Secret cause a renewal, new metadata, or nothing."""

import hashlib
import json
from typing import Any

import pytest

from tests.support.cluster.namespace import Namespace, count_exchanges, token_request
from tests.support.cluster.operator import Operator
from tests.support.emulator.client import Emulator
from tests.support.processes import until

ISSUANCE_ANNOTATION = "keyturn.dev/issuance"
Patch = dict[str, Any]


def secret_metadata(namespace: Namespace) -> dict[str, Any]:
    metadata: dict[str, Any] = namespace.get("secret", "acme")["metadata"]
    return metadata


def with_issuance(value: str | None) -> Patch:
    return {"metadata": {"annotations": {ISSUANCE_ANNOTATION: value}}}


def test_target_metadata_is_applied_and_removed(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
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


def test_deletion_policy_sets_and_removes_the_owner(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.issue(aws)

    namespace.patch("treq", "acme", {"spec": {"target": {"deletionPolicy": "Retain"}}})
    until(lambda: not secret_metadata(namespace).get("ownerReferences"))
    namespace.patch("treq", "acme", {"spec": {"target": {"deletionPolicy": "Delete"}}})
    until(lambda: secret_metadata(namespace).get("ownerReferences"))

    assert count_exchanges(aws) == 2


@pytest.mark.parametrize(
    ("renewal", "seconds_before_expiry"),
    [
        pytest.param({"renewBefore": "10m"}, (600, 960), id="ten minutes"),
        pytest.param({"renewBefore": "50m"}, (1800, 2160), id="limited to half the lifetime"),
        pytest.param({"renewBeforePercentage": 10}, (360, 720), id="a tenth of the lifetime"),
    ],
)
def test_renewal_settings_move_the_renewal_time(
    operator: Operator, aws: Emulator, namespace: Namespace, renewal: Patch, seconds_before_expiry: tuple[int, int]
) -> None:
    namespace.issue(aws)

    namespace.patch("treq", "acme", {"spec": {"renewal": renewal}})

    until(lambda: namespace.status("acme")["observedGeneration"] == 2)
    renews = operator.metric(
        f'keyturn_credentials_renewal_timestamp_seconds{{name="acme",namespace="{namespace.name}"}}'
    )
    expires = operator.metric(
        f'keyturn_credentials_expiration_timestamp_seconds{{name="acme",namespace="{namespace.name}"}}'
    )
    # Up to a tenth of the lifetime is jitter.
    assert renews is not None
    assert expires is not None
    assert seconds_before_expiry[0] - 2 <= expires - renews <= seconds_before_expiry[1] + 2
    assert count_exchanges(aws) == 2


def test_metadata_of_the_request_changes_nothing(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.issue(aws)
    secret, status = namespace.get("secret", "acme"), namespace.status("acme")

    namespace.patch("treq", "acme", {"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}})
    namespace.patch("treq", "acme", {"metadata": {"annotations": {"keyturn.dev/note": "e"}}})
    namespace.apply(token_request("later"))  # is processed after the earlier changes
    namespace.wait_until_ready("later")

    assert (namespace.get("secret", "acme"), namespace.status("acme")) == (secret, status)
    assert count_exchanges(aws) == 4


def test_changed_formats_replace_the_keys(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.issue(aws)
    namespace.patch("secret", "acme", {"stringData": {"mine": "stays"}})

    namespace.patch("treq", "acme", {"spec": {"target": {"formats": [{"credentialsFile": {}}]}}})

    namespace.wait_for_revision(2)
    assert set(namespace.secret_data("acme")) == {"credentials", "expiration", "mine"}
    assert namespace.condition("acme", "Renewed")[:2] == ("True", "Renewed")


def test_requested_renewal_happens_once_and_is_reported(
    operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
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


def test_request_suspended_from_the_start_is_not_issued(
    operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    namespace.put_token(aws.refresh_token())
    namespace.apply(token_request(suspend=True))
    namespace.wait_for_condition("acme", "Ready", "Suspended")

    assert (namespace.condition("acme", "Ready")[0], count_exchanges(aws)) == ("False", 0)
    namespace.patch("treq", "acme", {"spec": {"suspend": False}})
    namespace.wait_until_ready("acme")


@pytest.mark.parametrize(
    "patch",
    [
        pytest.param({"data": {"AWS_ACCESS_KEY_ID": "eA=="}}, id="another value"),
        pytest.param({"data": {"AWS_ACCESS_KEY_ID": "/////w=="}}, id="not text"),
        pytest.param({"data": None}, id="no data"),
    ],
)
def test_edited_data_is_corrected_and_reported(
    operator: Operator, aws: Emulator, namespace: Namespace, patch: Patch
) -> None:
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


def test_second_edit_is_not_ready_until_it_is_corrected(
    operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    namespace.issue(aws)
    namespace.patch("secret", "acme", {"data": {"AWS_ACCESS_KEY_ID": "eA=="}})
    namespace.wait_for_revision(2)
    namespace.wait_until_ready("acme")

    namespace.patch("secret", "acme", {"data": {"AWS_ACCESS_KEY_ID": "eA=="}})

    assert "will be corrected at" in namespace.wait_for_condition("acme", "Ready", "DriftDetected")
    assert (namespace.condition("acme", "Ready")[0], count_exchanges(aws)) == ("False", 4)


def test_deleted_secret_is_issued_again(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.issue(aws)
    before = namespace.secret_data("acme")

    namespace.kubectl("delete", "secret", "acme")

    namespace.wait_for_revision(2)
    namespace.wait_until_ready("acme")
    until(lambda: namespace.events("acme") == ["Issued", "SecretDeleted"])
    assert namespace.secret_data("acme")["AWS_ACCESS_KEY_ID"] != before["AWS_ACCESS_KEY_ID"]
    assert count_exchanges(aws) == 4


def test_repeated_deletion_causes_no_further_exchange(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.issue(aws)
    namespace.kubectl("delete", "secret", "acme")
    namespace.wait_for_revision(2)

    namespace.kubectl("delete", "secret", "acme")

    assert "deleted again; it will be recreated at" in namespace.wait_for_condition("acme", "Ready", "SecretDeleted")
    until(lambda: namespace.events("acme") == ["Issued", "SecretDeleted", "SecretDeleted"])
    assert count_exchanges(aws) == 4


@pytest.mark.parametrize("value", [None, "{}", "gibberish"], ids=["removed", "no fields", "not JSON"])
def test_lost_issuance_record_causes_a_renewal(
    operator: Operator, aws: Emulator, namespace: Namespace, value: str | None
) -> None:
    namespace.issue(aws)

    namespace.patch("secret", "acme", with_issuance(value))

    namespace.wait_for_revision(2)
    assert '"revision":2' in secret_metadata(namespace)["annotations"][ISSUANCE_ANNOTATION]
    assert count_exchanges(aws) == 4


def test_edited_issuance_record_causes_a_renewal(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.issue(aws)
    issuance = secret_metadata(namespace)["annotations"][ISSUANCE_ANNOTATION]

    namespace.patch("secret", "acme", with_issuance(issuance.replace('"request":"acme"', '"request":"other"')))

    namespace.wait_for_revision(2)
    assert '"request":"acme"' in secret_metadata(namespace)["annotations"][ISSUANCE_ANNOTATION]


@pytest.mark.parametrize(
    "patch",
    [
        pytest.param({"labels": {"app.kubernetes.io/managed-by": None}}, id="the label that the watch selects"),
        pytest.param({"labels": None}, id="all labels"),
        pytest.param({"labels": {"team": "red"}}, id="a label of the spec changed"),
        pytest.param({"annotations": {"note": None}}, id="an annotation of the spec"),
        pytest.param({"ownerReferences": None}, id="the owner"),
    ],
)
def test_edited_metadata_is_restored_without_an_exchange(
    operator: Operator, aws: Emulator, namespace: Namespace, patch: Patch
) -> None:
    namespace.issue(aws, target={"metadata": {"labels": {"team": "blue"}, "annotations": {"note": "n"}}})
    before, data = secret_metadata(namespace), namespace.secret_data("acme")

    namespace.patch("secret", "acme", {"metadata": patch})

    fields = ("labels", "annotations", "ownerReferences")
    until(lambda: all(secret_metadata(namespace).get(field) == before[field] for field in fields))
    assert namespace.secret_data("acme") == data
    assert count_exchanges(aws) == 2
    assert namespace.events("acme") == ["Issued"]


def test_huge_annotations_do_not_prevent_renewal(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.issue(aws)

    namespace.patch("secret", "acme", {"metadata": {"annotations": {"huge": "x" * 250_000}}})
    namespace.kubectl("delete", "secret", "acme")

    namespace.wait_for_revision(2)


def test_deeply_nested_issuance_does_not_stop_the_operator(
    operator: Operator, namespace: Namespace, aws: Emulator
) -> None:
    text = '{"x":' + "[" * 50_000 + "]" * 50_000 + "}"
    issuance = f'{text[:-1]},"digest":"{hashlib.sha256(text.encode()).hexdigest()[:16]}"}}'
    metadata = {
        "name": "forged",
        "labels": {"app.kubernetes.io/managed-by": "keyturn"},
        "annotations": {ISSUANCE_ANNOTATION: issuance},
    }
    namespace.kubectl(
        "create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})
    )

    namespace.issue(aws)

    assert operator.process.poll() is None
