"""A Secret that was changed by hand is healed; what only dresses it is changed without an exchange."""

from typing import Any

import pytest

from tests.aws.running import Aws
from tests.cluster.namespace import Namespace, token_request, until
from tests.cluster.operator import Operator

MARKS = "keyturn.dev/marks"
Patch = dict[str, Any]


def annotated(**annotations: str | None) -> Patch:
    return {"metadata": {"annotations": {f"keyturn.dev/{key}": value for key, value in annotations.items()}}}


def metadata(namespace: Namespace, name: str = "acme") -> dict[str, Any]:
    found: dict[str, Any] = namespace.read("secret", name)["metadata"]
    return found


def exchanges(aws: Aws) -> int:
    return aws.calls("GetAccessToken") + aws.calls("AssumeRoleWithWebIdentity")


@pytest.mark.parametrize(
    "patch",
    [
        pytest.param({"data": {"AWS_ACCESS_KEY_ID": "eA=="}}, id="another value"),
        pytest.param({"data": {"AWS_ACCESS_KEY_ID": "/////w=="}}, id="no text"),
        pytest.param({"data": {"credentials.json": None}}, id="a key less"),
        pytest.param({"data": None}, id="no data"),
        pytest.param({"data": {"expiration": ""}}, id="an empty value"),
    ],
)
def test_edited_data_is_healed_and_told(operator: Operator, aws: Aws, namespace: Namespace, patch: Patch) -> None:
    namespace.issued(aws)
    before = namespace.data("acme")

    namespace.patch("secret", "acme", patch)

    assert "because of Drifted" in namespace.turns("acme", "Renewed", "Drifted")
    assert namespace.events("acme") == ["Issued", "Drifted"]
    assert namespace.status("acme")["revision"] == 2
    after = namespace.data("acme")
    assert after.keys() == before.keys()
    assert after["AWS_ACCESS_KEY_ID"] not in (before["AWS_ACCESS_KEY_ID"], "x")
    assert exchanges(aws) == 4


def test_deleted_secret_comes_back(operator: Operator, aws: Aws, namespace: Namespace) -> None:
    namespace.issued(aws)
    before = namespace.data("acme")

    namespace.kubectl("delete", "secret", "acme")

    until(lambda: namespace.status("acme")["revision"] == 2)
    namespace.is_ready("acme")
    assert namespace.data("acme")["AWS_ACCESS_KEY_ID"] != before["AWS_ACCESS_KEY_ID"]
    assert exchanges(aws) == 4


def test_whoever_keeps_breaking_it_does_not_keep_us_exchanging(
    operator: Operator, aws: Aws, namespace: Namespace
) -> None:
    namespace.issued(aws)
    namespace.kubectl("delete", "secret", "acme")
    until(lambda: namespace.status("acme")["revision"] == 2)

    namespace.kubectl("delete", "secret", "acme")

    assert "does not hold yet" in namespace.turns("acme", "Ready", "Pending")
    assert exchanges(aws) == 4


@pytest.mark.parametrize("value", [None, "", "{}", "gibberish"], ids=["removed", "empty", "no marks", "gibberish"])
def test_lost_marks_heal(operator: Operator, aws: Aws, namespace: Namespace, value: str | None) -> None:
    namespace.issued(aws)

    namespace.patch("secret", "acme", annotated(marks=value))

    until(lambda: namespace.status("acme")["revision"] == 2)
    assert '"revision":2' in metadata(namespace)["annotations"][MARKS]
    assert exchanges(aws) == 4


def test_edited_marks_do_not_count(operator: Operator, aws: Aws, namespace: Namespace) -> None:
    namespace.issued(aws)
    marks = metadata(namespace)["annotations"][MARKS]

    namespace.patch("secret", "acme", annotated(marks=marks.replace('"request":"acme"', '"request":"other"')))

    until(lambda: namespace.status("acme")["revision"] == 2)
    assert '"request":"acme"' in metadata(namespace)["annotations"][MARKS]


@pytest.mark.parametrize(
    "patch",
    [
        pytest.param({"labels": {"app.kubernetes.io/managed-by": None}}, id="the label that the watch sees"),
        pytest.param({"labels": {"app.kubernetes.io/managed-by": "helm"}}, id="that label changed"),
        pytest.param({"labels": {"keyturn.dev/owner-uid": None}}, id="the other label"),
        pytest.param({"labels": None}, id="all labels"),
        pytest.param({"labels": {"team": "red"}}, id="a label of the spec changed"),
        pytest.param({"annotations": {"note": None}}, id="an annotation of the spec"),
        pytest.param({"ownerReferences": None}, id="the owner"),
    ],
)
def test_undressed_secret_is_dressed_without_an_exchange(
    operator: Operator, aws: Aws, namespace: Namespace, patch: Patch
) -> None:
    namespace.issued(aws, target={"metadata": {"labels": {"team": "blue"}, "annotations": {"note": "n"}}})
    before, data = metadata(namespace), namespace.data("acme")

    namespace.patch("secret", "acme", {"metadata": patch})

    wanted = ("labels", "annotations", "ownerReferences")
    until(lambda: all(metadata(namespace).get(it) == before[it] for it in wanted))
    assert namespace.data("acme") == data
    assert exchanges(aws) == 2
    assert namespace.events("acme") == ["Issued"]


def test_metadata_of_the_spec_is_applied_and_taken_back(
    operator: Operator, aws: Aws, namespace: Namespace
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


def test_deletion_policy_is_applied_both_ways(operator: Operator, aws: Aws, namespace: Namespace) -> None:
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
    operator: Operator, aws: Aws, namespace: Namespace, renewal: Patch, before_the_end: tuple[int, int]
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


def test_other_metadata_of_the_request_mean_nothing(operator: Operator, aws: Aws, namespace: Namespace) -> None:
    namespace.issued(aws)
    secret, status = namespace.read("secret", "acme"), namespace.status("acme")

    namespace.patch("treq", "acme", {"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}})
    namespace.patch("treq", "acme", annotated(note="e"))
    namespace.apply(token_request("later"))  # is ready after the operator has seen what came before
    namespace.is_ready("later")

    assert (namespace.read("secret", "acme"), namespace.status("acme")) == (secret, status)
    assert exchanges(aws) == 4


def test_other_formats_are_written_and_old_keys_go(operator: Operator, aws: Aws, namespace: Namespace) -> None:
    namespace.issued(aws)
    namespace.patch("secret", "acme", {"stringData": {"mine": "stays"}})

    namespace.patch("treq", "acme", {"spec": {"target": {"formats": [{"credentialsFile": {}}]}}})

    until(lambda: namespace.status("acme")["revision"] == 2)
    assert set(namespace.data("acme")) == {"credentials", "expiration", "mine"}
    assert namespace.condition("acme", "Renewed")[:2] == ("True", "Renewed")


def test_renewal_on_demand_works_once_and_is_echoed(operator: Operator, aws: Aws, namespace: Namespace) -> None:
    namespace.issued(aws)

    namespace.ask("acme", "first")
    until(lambda: namespace.status("acme").get("handledRefresh") == "first")
    namespace.ask("acme", "second")
    until(lambda: namespace.status("acme").get("handledRefresh") == "second")
    namespace.ask("acme", "")
    namespace.apply(token_request("later"))
    namespace.is_ready("later")

    assert "because of RenewalAsked" in namespace.condition("acme", "Renewed")[2]
    assert namespace.status("acme")["revision"] == 3
    assert exchanges(aws) == 8


def test_suspended_it_neither_renews_nor_heals(operator: Operator, aws: Aws, namespace: Namespace) -> None:
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


def test_suspended_from_the_start_it_waits(operator: Operator, aws: Aws, namespace: Namespace) -> None:
    namespace.token(aws.refresh_token())
    namespace.apply(token_request(suspend=True))
    namespace.turns("acme", "Ready", "Suspended")

    assert (namespace.condition("acme", "Ready")[0], exchanges(aws)) == ("False", 0)
    namespace.patch("treq", "acme", {"spec": {"suspend": False}})
    namespace.is_ready("acme")


def test_huge_annotations_break_nothing(operator: Operator, aws: Aws, namespace: Namespace) -> None:
    namespace.issued(aws)

    namespace.patch("secret", "acme", {"metadata": {"annotations": {"huge": "x" * 250_000}}})
    namespace.kubectl("delete", "secret", "acme")

    until(lambda: namespace.status("acme")["revision"] == 2)
