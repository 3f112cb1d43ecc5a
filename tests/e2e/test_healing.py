"""A Secret that was changed by hand is healed, with an exchange only where its data or marks are lost."""

from typing import Any

import pytest

from tests.support.cluster.namespace import Namespace, exchanges
from tests.support.cluster.operator import Operator
from tests.support.emulator.client import Emulator
from tests.support.processes import until

MARKS = "keyturn.dev/marks"
Patch = dict[str, Any]


def annotated(**annotations: str | None) -> Patch:
    return {"metadata": {"annotations": {f"keyturn.dev/{key}": value for key, value in annotations.items()}}}


def metadata(namespace: Namespace) -> dict[str, Any]:
    found: dict[str, Any] = namespace.read("secret", "acme")["metadata"]
    return found


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
def test_edited_data_is_healed_and_told(
    operator: Operator, aws: Emulator, namespace: Namespace, patch: Patch
) -> None:
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


def test_deleted_secret_comes_back(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.issued(aws)
    before = namespace.data("acme")

    namespace.kubectl("delete", "secret", "acme")

    until(lambda: namespace.status("acme")["revision"] == 2)
    namespace.is_ready("acme")
    assert namespace.data("acme")["AWS_ACCESS_KEY_ID"] != before["AWS_ACCESS_KEY_ID"]
    assert exchanges(aws) == 4


def test_whoever_keeps_breaking_it_does_not_keep_us_exchanging(
    operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    namespace.issued(aws)
    namespace.kubectl("delete", "secret", "acme")
    until(lambda: namespace.status("acme")["revision"] == 2)

    namespace.kubectl("delete", "secret", "acme")

    assert "does not hold yet" in namespace.turns("acme", "Ready", "Pending")
    assert exchanges(aws) == 4


@pytest.mark.parametrize("value", [None, "", "{}", "gibberish"], ids=["removed", "empty", "no marks", "gibberish"])
def test_lost_marks_heal(operator: Operator, aws: Emulator, namespace: Namespace, value: str | None) -> None:
    namespace.issued(aws)

    namespace.patch("secret", "acme", annotated(marks=value))

    until(lambda: namespace.status("acme")["revision"] == 2)
    assert '"revision":2' in metadata(namespace)["annotations"][MARKS]
    assert exchanges(aws) == 4


def test_edited_marks_do_not_count(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
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
    operator: Operator, aws: Emulator, namespace: Namespace, patch: Patch
) -> None:
    namespace.issued(aws, target={"metadata": {"labels": {"team": "blue"}, "annotations": {"note": "n"}}})
    before, data = metadata(namespace), namespace.data("acme")

    namespace.patch("secret", "acme", {"metadata": patch})

    wanted = ("labels", "annotations", "ownerReferences")
    until(lambda: all(metadata(namespace).get(it) == before[it] for it in wanted))
    assert namespace.data("acme") == data
    assert exchanges(aws) == 2
    assert namespace.events("acme") == ["Issued"]


def test_huge_annotations_break_nothing(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.issued(aws)

    namespace.patch("secret", "acme", {"metadata": {"annotations": {"huge": "x" * 250_000}}})
    namespace.kubectl("delete", "secret", "acme")

    until(lambda: namespace.status("acme")["revision"] == 2)
