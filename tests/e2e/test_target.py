"""Ownership of the target Secret: conflicts, adoption, release and garbage collection."""

import json
from typing import Any

import pytest

from tests.support.cases import cases
from tests.support.cluster.namespace import Namespace, count_exchanges, token_request
from tests.support.emulator.client import Emulator
from tests.support.processes import until

pytestmark = pytest.mark.usefixtures("operator")
RECORD = "keyturn.dev/issuance"
FOREIGN_DATA = {"theirs": "precious", "AWS_REGION": "mars"}
COLLECTION_SECONDS = 60  # the garbage collector discovers new kinds every 30 s
RETAIN = {"deletionPolicy": "Retain"}
Object = dict[str, Any]


def foreign(name: str = "acme", **fields: Any) -> Object:
    annotations = fields.pop("annotations", {})
    metadata = {"name": name, "annotations": annotations, "labels": {"app": "other"}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": FOREIGN_DATA, **fields}


CONSENTING = foreign("theirs", annotations={"keyturn.dev/adoptable-by": "acme"})


def apply_as_gitops(namespace: Namespace, secret: Object) -> None:
    manager = "--field-manager=gitops"
    namespace.kubectl("apply", "--server-side", "--force-conflicts", manager, "-f", "-", stdin=json.dumps(secret))


def release(namespace: Namespace, **spec: Any) -> None:
    """Change the target from the Secret theirs to acme, and wait until the former one is released."""
    namespace.patch("treq", "acme", {"spec": {"target": {"secretName": "acme"}} | spec})
    until(lambda: RECORD not in namespace.get("secret", "theirs")["metadata"]["annotations"])
    namespace.wait_until_ready("acme")
    managers = [fields["manager"] for fields in namespace.get("secret", "theirs")["metadata"]["managedFields"]]
    assert not [manager for manager in managers if manager.startswith("keyturn-")]


def uid(namespace: Namespace, kind: str, name: str = "acme") -> str:
    value: str = namespace.get(kind, name).get("metadata", {}).get("uid", "")
    return value


def owners(namespace: Namespace, name: str = "acme") -> list[str]:
    return [it["uid"] for it in namespace.get("secret", name)["metadata"].get("ownerReferences", [])]


FOREIGN = {
    "created by a user": (foreign(), "was not created by Keyturn"),
    "immutable, with its consent": (
        foreign(immutable=True, annotations={"keyturn.dev/adoptable-by": "acme"}),
        "Secret acme is immutable",
    ),
    "with its consent to another request": (
        foreign(annotations={"keyturn.dev/adoptable-by": "other"}),
        "was not created by Keyturn",
    ),
    "of another type": (
        foreign(type="kubernetes.io/basic-auth", stringData={"username": "x", "password": "y"}),
        "was not created by Keyturn",
    ),
}


@cases("secret, message", FOREIGN)
def test_foreign_secret_is_refused(aws: Emulator, namespace: Namespace, secret: Object, message: str) -> None:
    namespace.put_token(aws.refresh_token())
    namespace.apply(secret)
    before = namespace.get("secret", "acme")

    namespace.apply(token_request())

    assert message in namespace.wait_for_condition("acme", "Stalled", "TargetConflict")
    assert namespace.condition("acme", "Ready")[:2] == ("False", "TargetConflict")
    assert namespace.events("acme") == ["Stalled"]
    assert namespace.get("secret", "acme") == before
    assert count_exchanges(aws) == 0


def test_foreign_secret_after_the_dry_run_is_refused_by_the_write(aws: Emulator, namespace: Namespace) -> None:
    namespace.issue(aws)
    namespace.apply(foreign("theirs", stringData={"unrelated": "key"}))
    before, calls = namespace.get("secret", "theirs"), count_exchanges(aws)

    namespace.apply(token_request("second", secret="theirs"))

    assert "was not created by Keyturn" in namespace.wait_for_condition("second", "Stalled", "TargetConflict")
    namespace.request_renewal("second", "1")
    until(lambda: namespace.status("second").get("lastHandledRenewRequest") == "1")
    assert namespace.get("secret", "theirs") == before
    assert count_exchanges(aws) == 2 * calls  # one more issue, before the write was refused


def test_only_one_of_two_requests_gets_the_secret(aws: Emulator, namespace: Namespace) -> None:
    namespace.put_token(aws.refresh_token())
    namespace.apply(token_request("first", secret="one"), token_request("second", secret="one"))

    until(lambda: {namespace.condition(it, "Ready")[1] for it in ("first", "second")} == {"Issued", "TargetConflict"})


def test_adopted_secret_keeps_foreign_keys_and_has_no_owner(aws: Emulator, namespace: Namespace) -> None:
    namespace.apply(foreign(annotations={"keyturn.dev/adoptable-by": "acme"}))

    namespace.issue(aws)

    data = namespace.secret_data("acme")
    assert (data["theirs"], data["AWS_REGION"]) == ("precious", "us-east-1")
    assert namespace.get("secret", "acme")["metadata"]["labels"]["app"] == "other"
    assert owners(namespace) == []
    namespace.patch("secret", "acme", {"metadata": {"annotations": {"keyturn.dev/adoptable-by": None}}})
    namespace.renew(2)
    assert owners(namespace) == []


def test_released_secret_keeps_what_no_manager_owns(aws: Emulator, namespace: Namespace) -> None:
    # After a server-side apply with stringData, no manager owns the keys.
    apply_as_gitops(namespace, CONSENTING)
    namespace.issue(aws, secret="theirs")
    namespace.kubectl("delete", "treq", "acme")
    namespace.apply(token_request(secret="theirs"))
    namespace.wait_until_ready("acme")
    assert namespace.secret_data("theirs")["theirs"] == "precious"
    # As after an admission policy, nobody owns the labels.
    secret = namespace.get("secret", "theirs")
    for fields in secret["metadata"]["managedFields"]:
        if fields["manager"] == "gitops":
            fields["fieldsV1"]["f:metadata"].pop("f:labels")
    namespace.kubectl("replace", "-f", "-", stdin=json.dumps(secret))

    release(namespace)

    assert namespace.secret_data("theirs") == {"theirs": "precious"}
    assert namespace.get("secret", "theirs")["metadata"]["labels"] == {"app": "other"}


def test_released_secret_keeps_a_key_that_was_taken_back(aws: Emulator, namespace: Namespace) -> None:
    apply_as_gitops(namespace, CONSENTING)
    namespace.issue(aws, secret="theirs")
    namespace.patch("treq", "acme", {"spec": {"suspend": True}})
    namespace.wait_for_condition("acme", "Ready", "Suspended")
    apply_as_gitops(namespace, CONSENTING)

    release(namespace, suspend=False)

    assert namespace.secret_data("theirs") == FOREIGN_DATA


def test_released_secret_keeps_no_credential_behind_a_placeholder(aws: Emulator, namespace: Namespace) -> None:
    apply_as_gitops(namespace, CONSENTING | {"stringData": FOREIGN_DATA | {"AWS_SESSION_TOKEN": ""}})
    namespace.issue(aws, secret="theirs")

    release(namespace)

    assert namespace.secret_data("theirs") == {"theirs": "precious"}


def test_released_secret_keeps_empty_keys_of_its_type(aws: Emulator, namespace: Namespace) -> None:
    data = {"username": "theirs", "password": "precious"}
    apply_as_gitops(namespace, CONSENTING | {"type": "kubernetes.io/basic-auth", "stringData": data})
    texts = {"username": "aws", "password": "{{ accessToken }}"}
    formats = [{"template": {"key": key, "text": text}} for key, text in texts.items()]
    namespace.issue(aws, target={"secretName": "theirs", "formats": formats})

    release(namespace)

    assert namespace.secret_data("theirs") == {"username": "", "password": ""}


def test_released_secret_keeps_the_key_that_its_type_requires(aws: Emulator, namespace: Namespace) -> None:
    data = {".dockerconfigjson": "{}", "theirs": "precious"}
    apply_as_gitops(namespace, CONSENTING | {"type": "kubernetes.io/dockerconfigjson", "stringData": data})
    target = {"secretName": "theirs", "formats": [{"dockerConfigJson": {}}]}
    exchanges = [*token_request()["spec"]["exchanges"], {"ecrGetAuthorizationToken": {}}]
    namespace.issue(aws, target=target, exchanges=exchanges)

    release(namespace)

    assert namespace.secret_data("theirs") == data


@pytest.mark.parametrize("then", ["consents", "is deleted"])
def test_conflict_ends_when_the_secret(aws: Emulator, namespace: Namespace, then: str) -> None:
    namespace.put_token(aws.refresh_token())
    namespace.apply(foreign(), token_request())
    namespace.wait_for_condition("acme", "Stalled", "TargetConflict")

    if then == "is deleted":
        namespace.kubectl("delete", "secret", "acme")
    else:
        namespace.kubectl("annotate", "secret", "acme", "keyturn.dev/adoptable-by=acme")
    namespace.request_renewal("acme", "now")  # rather than wait a minute for the next attempt

    namespace.wait_until_ready("acme")
    assert namespace.condition("acme", "Stalled")[0] == ""


def test_immutable_secret_stays_ready_and_stalls(aws: Emulator, namespace: Namespace) -> None:
    namespace.issue(aws)
    calls = count_exchanges(aws)

    namespace.patch("secret", "acme", {"immutable": True})

    assert "immutable" in namespace.wait_for_condition("acme", "Stalled", "TargetConflict")
    assert namespace.condition("acme", "Ready")[:2] == ("True", "Issued")
    assert count_exchanges(aws) == calls
    namespace.kubectl("delete", "secret", "acme")
    namespace.wait_for_revision(2)


def test_secret_of_a_deleted_request_is_collected(aws: Emulator, namespace: Namespace) -> None:
    namespace.issue(aws)
    namespace.kubectl("delete", "treq", "acme")
    until(lambda: not namespace.get("secret", "acme"), seconds=COLLECTION_SECONDS)
    names = [f"acme-{number}" for number in range(5)]
    for name in names:
        namespace.issue(aws, name)

    namespace.kubectl("delete", "treq", "--all")

    until(lambda: not any(namespace.get("secret", name) for name in names))
    # The deletion of a Secret may be seen before that of its TokenRequest; it must not be issued again.
    namespace.issue(aws, "later")
    assert count_exchanges(aws) == 14
    assert not any(namespace.get("secret", name) for name in names)


def test_retained_secret_is_taken_over(aws: Emulator, namespace: Namespace) -> None:
    namespace.issue(aws, target=RETAIN)
    before, first = namespace.secret_data("acme"), uid(namespace, "secret")
    assert owners(namespace) == []

    namespace.kubectl("delete", "treq", "acme")
    namespace.apply(token_request(target=RETAIN))
    namespace.wait_until_ready("acme")

    label = namespace.get("secret", "acme")["metadata"]["labels"]["keyturn.dev/owner-uid"]
    assert label == uid(namespace, "tokenrequest")
    assert (namespace.secret_data("acme"), uid(namespace, "secret")) == (before, first)
    assert count_exchanges(aws) == 2
    assert namespace.status("acme")["revision"] == 1


def test_recreated_request_takes_over_before_collection(aws: Emulator, namespace: Namespace) -> None:
    namespace.issue(aws)
    before, first = namespace.secret_data("acme"), uid(namespace, "secret")

    # While the garbage collector is frozen, the request is created again before it runs.
    namespace.plane.freeze("kube-controller-manager")
    try:
        namespace.kubectl("delete", "treq", "acme")
        namespace.apply(token_request())
        namespace.wait_until_ready("acme")
        assert owners(namespace) == [uid(namespace, "tokenrequest")]
    finally:
        namespace.plane.thaw("kube-controller-manager")

    # What is deleted later is collected later: by then the garbage collector has processed the Secret.
    namespace.apply(token_request("later"))
    namespace.wait_until_ready("later")
    namespace.kubectl("delete", "treq", "later")
    until(lambda: not namespace.get("secret", "later"), seconds=COLLECTION_SECONDS)
    assert (namespace.secret_data("acme"), uid(namespace, "secret")) == (before, first)
    assert count_exchanges(aws) == 4


@pytest.mark.parametrize("policy", ["Delete", "Retain"])
def test_former_secret_is_deleted_or_released(aws: Emulator, namespace: Namespace, policy: str) -> None:
    namespace.issue(aws, target={"secretName": "old", "deletionPolicy": policy})
    before = namespace.secret_data("old")

    namespace.patch("treq", "acme", {"spec": {"target": {"secretName": "new"}}})

    until(lambda: namespace.status("acme").get("secretName") == "new")
    namespace.wait_until_ready("acme")
    assert namespace.secret_data("new")["AWS_ACCESS_KEY_ID"] != before["AWS_ACCESS_KEY_ID"]
    if policy == "Delete":
        until(lambda: not namespace.get("secret", "old"))
        return
    until(lambda: "keyturn.dev/issuance" not in namespace.get("secret", "old")["metadata"].get("annotations", {}))
    assert namespace.secret_data("old") == before
    assert "labels" not in namespace.get("secret", "old")["metadata"]
    namespace.apply(token_request("second", secret="old"))
    namespace.wait_for_condition("second", "Stalled", "TargetConflict")


def test_metadata_may_contain_any_character(aws: Emulator, namespace: Namespace) -> None:
    # In YAML, which the API server parses an apply as, some of these are forbidden, and one is a line end.
    text = "\x7f \x80 \x85 \ufffe \u2028 \U0001f511"
    request = token_request(target={"metadata": {"annotations": {"example.com/text": text}}})
    request["metadata"]["annotations"] = {"keyturn.dev/renew-requested-at": text}
    namespace.put_token(aws.refresh_token())
    namespace.apply(request)
    namespace.wait_until_ready("acme")

    assert namespace.get("secret", "acme")["metadata"]["annotations"]["example.com/text"] == text
    assert namespace.status("acme")["lastHandledRenewRequest"] == text
