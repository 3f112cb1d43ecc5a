"""Whose Secret it is: what is refused, taken over, let go of and collected."""

from typing import Any

import pytest

from tests.support.cluster.namespace import Namespace, exchanges, token_request
from tests.support.cluster.operator import Operator
from tests.support.emulator.client import Emulator
from tests.support.processes import until

AS_IT_WAS = {"theirs": "precious", "AWS_REGION": "mars"}
COLLECTED = 60  # the collector looks for new kinds, such as ours in a fresh cluster, each 30 s
RETAIN = {"deletionPolicy": "Retain"}
Object = dict[str, Any]


def foreign(name: str = "acme", **more: Any) -> Object:
    annotations = more.pop("annotations", {})
    about = {"name": name, "annotations": annotations, "labels": {"app": "other"}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": about, "stringData": AS_IT_WAS, **more}


def uid(namespace: Namespace, kind: str, name: str = "acme") -> str:
    found: str = namespace.read(kind, name).get("metadata", {}).get("uid", "")
    return found


def owners(namespace: Namespace, name: str = "acme") -> list[str]:
    return [it["uid"] for it in namespace.read("secret", name)["metadata"].get("ownerReferences", [])]


@pytest.mark.parametrize(
    ("secret", "says"),
    [
        pytest.param(foreign(), "Secret acme was not made by Keyturn", id="somebody else's"),
        pytest.param(foreign(immutable=True), "Secret acme is immutable", id="immutable"),
        pytest.param(
            foreign(immutable=True, annotations={"keyturn.dev/adopt-by": "acme"}),
            "Secret acme is immutable",
            id="immutable, with its consent",
        ),
        pytest.param(
            foreign(annotations={"keyturn.dev/adopt-by": "other"}),
            "Secret acme was not made by Keyturn",
            id="with its consent to another request",
        ),
        pytest.param(
            foreign(type="kubernetes.io/basic-auth", stringData={"username": "x", "password": "y"}),
            "Secret acme was not made by Keyturn",
            id="of another type",
        ),
    ],
)
def test_foreign_secret_is_refused(
    operator: Operator, aws: Emulator, namespace: Namespace, secret: Object, says: str
) -> None:
    namespace.token(aws.refresh_token())
    namespace.apply(secret)
    before = namespace.read("secret", "acme")

    namespace.apply(token_request())

    assert says in namespace.turns("acme", "Stalled", "TargetConflict")
    assert namespace.condition("acme", "Ready")[:2] == ("False", "TargetConflict")
    assert namespace.events("acme") == ["Stalled"]
    assert namespace.read("secret", "acme") == before
    assert exchanges(aws) == 0


def test_foreign_secret_in_a_rehearsed_namespace_is_refused_by_the_write(
    operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    namespace.issued(aws)
    namespace.apply(foreign("theirs", stringData={"no": "key of ours"}))
    before, spent = namespace.read("secret", "theirs"), exchanges(aws)

    namespace.apply(token_request("second", secret="theirs"))

    assert "was not made by Keyturn" in namespace.turns("second", "Stalled", "TargetConflict")
    namespace.ask("second", "1")
    until(lambda: namespace.status("second").get("lastHandledRenewRequest") == "1")
    assert namespace.read("secret", "theirs") == before
    assert exchanges(aws) == 2 * spent  # the one of its first issue


def test_secret_of_another_request_is_refused(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.issued(aws)
    before, spent = namespace.read("secret", "acme"), exchanges(aws)

    namespace.apply(token_request("second", secret="acme"))

    assert "Secret acme belongs to TokenRequest acme" in namespace.turns("second", "Stalled", "TargetConflict")
    assert namespace.read("secret", "acme") == before
    assert exchanges(aws) == spent


def test_two_that_want_one_secret_leave_it_to_one(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.token(aws.refresh_token())
    namespace.apply(token_request("first", secret="one"), token_request("second", secret="one"))

    until(
        lambda: {namespace.condition(it, "Ready")[1] for it in ("first", "second")} == {"Issued", "TargetConflict"}
    )


def test_consent_adopts_and_leaves_foreign_keys(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.apply(foreign(annotations={"keyturn.dev/adopt-by": "acme"}))

    namespace.issued(aws)

    data = namespace.data("acme")
    assert (data["theirs"], data["AWS_REGION"]) == ("precious", "us-east-1")
    assert namespace.read("secret", "acme")["metadata"]["labels"]["app"] == "other"
    assert owners(namespace) == []


def test_adopted_secret_outlives_the_request_though_consent_went(
    operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    namespace.apply(foreign(annotations={"keyturn.dev/adopt-by": "acme"}))
    namespace.issued(aws)

    namespace.patch("secret", "acme", {"metadata": {"annotations": {"keyturn.dev/adopt-by": None}}})
    namespace.ask("acme", "1")
    until(lambda: namespace.status("acme")["revision"] == 2)

    assert owners(namespace) == []


@pytest.mark.parametrize("then", ["consents", "goes"])
def test_refused_goes_on_when_the_secret(
    operator: Operator, aws: Emulator, namespace: Namespace, then: str
) -> None:
    namespace.token(aws.refresh_token())
    namespace.apply(foreign(), token_request())
    namespace.turns("acme", "Stalled", "TargetConflict")

    if then == "goes":
        namespace.kubectl("delete", "secret", "acme")
    else:
        namespace.kubectl("annotate", "secret", "acme", "keyturn.dev/adopt-by=acme")
    namespace.ask("acme", "now")  # instead of the minute until the next look

    namespace.is_ready("acme")
    assert namespace.condition("acme", "Stalled")[0] == ""


def test_made_immutable_it_stays_ready_and_stalls(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.issued(aws)
    spent = exchanges(aws)

    namespace.patch("secret", "acme", {"immutable": True})

    assert "immutable" in namespace.turns("acme", "Stalled", "TargetConflict")
    assert namespace.condition("acme", "Ready")[:2] == ("True", "Issued")
    assert exchanges(aws) == spent
    namespace.kubectl("delete", "secret", "acme")
    until(lambda: namespace.status("acme")["revision"] == 2)


def test_deletion_collects_the_secret_for_good(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.issued(aws)
    namespace.kubectl("delete", "treq", "acme")
    until(lambda: not namespace.read("secret", "acme"), seconds=COLLECTED)
    names = [f"acme-{number}" for number in range(5)]
    for name in names:
        namespace.issued(aws, name)

    namespace.kubectl("delete", "treq", "--all")

    until(lambda: not any(namespace.read("secret", name) for name in names))
    # The end of a Secret may be seen before the end of its TokenRequest: it must not be healed.
    namespace.issued(aws, "later")
    assert exchanges(aws) == 14
    assert not any(namespace.read("secret", name) for name in names)


def test_retained_secret_stays_and_is_taken_over(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.issued(aws, target=RETAIN)
    before, first = namespace.data("acme"), uid(namespace, "secret")
    assert owners(namespace) == []

    namespace.kubectl("delete", "treq", "acme")
    namespace.apply(token_request(target=RETAIN))
    namespace.is_ready("acme")

    label = namespace.read("secret", "acme")["metadata"]["labels"]["keyturn.dev/owner-uid"]
    assert label == uid(namespace, "tokenrequest")
    assert (namespace.data("acme"), uid(namespace, "secret")) == (before, first)
    assert exchanges(aws) == 2
    assert namespace.status("acme")["revision"] == 1


def test_quick_recreation_takes_over_before_collection(
    operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    namespace.issued(aws)
    before, first = namespace.data("acme"), uid(namespace, "secret")

    # With the collector held back, the re-creation is sure to be the quicker one.
    namespace.plane.freeze("kube-controller-manager")
    try:
        namespace.kubectl("delete", "treq", "acme")
        namespace.apply(token_request())
        namespace.is_ready("acme")
        assert owners(namespace) == [uid(namespace, "tokenrequest")]
    finally:
        namespace.plane.thaw("kube-controller-manager")

    # What is deleted after it is collected after it: the collector has looked at the Secret by then.
    namespace.apply(token_request("later"))
    namespace.is_ready("later")
    namespace.kubectl("delete", "treq", "later")
    until(lambda: not namespace.read("secret", "later"), seconds=COLLECTED)
    assert (namespace.data("acme"), uid(namespace, "secret")) == (before, first)
    assert exchanges(aws) == 4


@pytest.mark.parametrize("policy", ["Delete", "Retain"])
def test_former_secret_when_the_name_changes(
    operator: Operator, aws: Emulator, namespace: Namespace, policy: str
) -> None:
    namespace.issued(aws, target={"secretName": "old", "deletionPolicy": policy})
    before = namespace.data("old")

    namespace.patch("treq", "acme", {"spec": {"target": {"secretName": "new"}}})

    until(lambda: namespace.status("acme").get("secretName") == "new")
    namespace.is_ready("acme")
    assert namespace.data("new")["AWS_ACCESS_KEY_ID"] != before["AWS_ACCESS_KEY_ID"]
    if policy == "Delete":
        until(lambda: not namespace.read("secret", "old"))
        return
    until(lambda: "keyturn.dev/marks" not in namespace.read("secret", "old")["metadata"].get("annotations", {}))
    assert namespace.data("old") == before
    assert "labels" not in namespace.read("secret", "old")["metadata"]


def test_released_secret_is_anybodys_but_refused_without_consent(
    operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    namespace.issued(aws, target={"secretName": "old", **RETAIN})
    namespace.patch("treq", "acme", {"spec": {"target": {"secretName": "new"}}})
    until(lambda: "labels" not in namespace.read("secret", "old")["metadata"])

    namespace.apply(token_request("second", secret="old"))

    namespace.turns("second", "Stalled", "TargetConflict")
