"""What changes of a TokenRequest mean for its Secret: an exchange, a new dress, or nothing."""

from typing import Any

import pytest

from tests.support.cluster.namespace import Namespace, exchanges, token_request
from tests.support.cluster.operator import Operator
from tests.support.emulator.client import Emulator
from tests.support.processes import until

Patch = dict[str, Any]


def metadata(namespace: Namespace) -> dict[str, Any]:
    found: dict[str, Any] = namespace.read("secret", "acme")["metadata"]
    return found


def test_metadata_of_the_spec_is_applied_and_taken_back(
    operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    namespace.issued(aws)
    data = namespace.data("acme")

    target = {"metadata": {"labels": {"team": "blue", "tier": "1"}, "annotations": {"note": "two\nlines"}}}
    namespace.patch("treq", "acme", {"spec": {"target": target}})
    until(lambda: metadata(namespace)["labels"].get("team") == "blue")
    assert metadata(namespace)["annotations"]["note"] == "two\nlines"

    namespace.patch("treq", "acme", {"spec": {"target": {"metadata": {"labels": {"tier": None}}}}})
    until(lambda: "tier" not in metadata(namespace)["labels"])
    assert metadata(namespace)["labels"]["team"] == "blue"

    namespace.patch("treq", "acme", {"spec": {"target": None}})
    until(lambda: not {"team", "note"} & {*metadata(namespace)["labels"], *metadata(namespace)["annotations"]})
    until(lambda: namespace.status("acme")["observedGeneration"] == 4)
    assert namespace.data("acme") == data
    assert exchanges(aws) == 2


def test_deletion_policy_is_applied_both_ways(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.issued(aws)

    namespace.patch("treq", "acme", {"spec": {"target": {"deletionPolicy": "Retain"}}})
    until(lambda: not metadata(namespace).get("ownerReferences"))
    namespace.patch("treq", "acme", {"spec": {"target": {"deletionPolicy": "Delete"}}})
    until(lambda: metadata(namespace).get("ownerReferences"))

    assert exchanges(aws) == 2


@pytest.mark.parametrize(
    ("renewal", "before_the_end"),
    [
        pytest.param({"renewBefore": "10m"}, (600, 960), id="ten minutes"),
        pytest.param({"renewBefore": "50m"}, (1800, 2160), id="cut to half the lifetime"),
        pytest.param({"renewBeforePercentage": 10}, (360, 720), id="a tenth of the lifetime"),
    ],
)
def test_renewal_moves_the_next_time(
    operator: Operator, aws: Emulator, namespace: Namespace, renewal: Patch, before_the_end: tuple[int, int]
) -> None:
    namespace.issued(aws)

    namespace.patch("treq", "acme", {"spec": {"renewal": renewal}})

    until(lambda: namespace.status("acme")["observedGeneration"] == 2)
    renews = operator.metric(
        f'keyturn_credentials_renewal_timestamp_seconds{{name="acme",namespace="{namespace.name}"}}'
    )
    expires = operator.metric(
        f'keyturn_credentials_expiration_timestamp_seconds{{name="acme",namespace="{namespace.name}"}}'
    )
    # A tenth of the lifetime is spread.
    assert renews is not None
    assert expires is not None
    assert before_the_end[0] - 2 <= expires - renews <= before_the_end[1] + 2
    assert exchanges(aws) == 2


def test_other_metadata_of_the_request_mean_nothing(
    operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    namespace.issued(aws)
    secret, status = namespace.read("secret", "acme"), namespace.status("acme")

    namespace.patch("treq", "acme", {"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}})
    namespace.patch("treq", "acme", {"metadata": {"annotations": {"keyturn.dev/note": "e"}}})
    namespace.apply(token_request("later"))  # is ready after the operator has seen what came before
    namespace.is_ready("later")

    assert (namespace.read("secret", "acme"), namespace.status("acme")) == (secret, status)
    assert exchanges(aws) == 4


def test_other_formats_are_written_and_old_keys_go(
    operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    namespace.issued(aws)
    namespace.patch("secret", "acme", {"stringData": {"mine": "stays"}})

    namespace.patch("treq", "acme", {"spec": {"target": {"formats": [{"credentialsFile": {}}]}}})

    until(lambda: namespace.status("acme")["revision"] == 2)
    assert set(namespace.data("acme")) == {"credentials", "expiration", "mine"}
    assert namespace.condition("acme", "Renewed")[:2] == ("True", "Renewed")


def test_renewal_on_demand_works_once_and_is_echoed(
    operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    namespace.issued(aws)

    namespace.ask("acme", "first")
    until(lambda: namespace.status("acme").get("lastHandledRenewRequest") == "first")
    namespace.ask("acme", "second")
    until(lambda: namespace.status("acme").get("lastHandledRenewRequest") == "second")
    namespace.ask("acme", "")
    namespace.apply(token_request("later"))
    namespace.is_ready("later")

    assert "because of RenewalAsked" in namespace.condition("acme", "Renewed")[2]
    assert namespace.status("acme")["revision"] == 3
    assert exchanges(aws) == 8


def test_suspended_it_neither_renews_nor_heals(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.issued(aws)
    namespace.patch("treq", "acme", {"spec": {"suspend": True}})
    namespace.turns("acme", "Ready", "Suspended")
    assert namespace.condition("acme", "Ready")[0] == "True"
    suspended = f'keyturn_request_suspended{{name="acme",namespace="{namespace.name}"}}'
    assert operator.metric(suspended) == 1

    namespace.ask("acme", "1")
    namespace.kubectl("delete", "secret", "acme")
    until(lambda: namespace.condition("acme", "Ready")[:2] == ("False", "Suspended"))

    assert exchanges(aws) == 2
    namespace.patch("treq", "acme", {"spec": {"suspend": None}})
    until(lambda: namespace.status("acme")["revision"] == 2)
    until(lambda: namespace.condition("acme", "Ready")[0] == "True")


def test_suspended_from_the_start_it_waits(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.token(aws.refresh_token())
    namespace.apply(token_request(suspend=True))
    namespace.turns("acme", "Ready", "Suspended")

    assert (namespace.condition("acme", "Ready")[0], exchanges(aws)) == ("False", 0)
    namespace.patch("treq", "acme", {"spec": {"suspend": False}})
    namespace.is_ready("acme")
