"""A source that is missing, invalid or expires: the reason is reported, and renewal continues after a fix."""

import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.support.cases import cases
from tests.support.cluster.namespace import Namespace, token_request
from tests.support.cluster.rotating_source import rotating_request, sign_in
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import CLIENT_SECRET, OIDC_ROLE_ARN
from tests.support.processes import until

pytestmark = pytest.mark.usefixtures("loopback_operator", "aws")
RECHECK_SECONDS = 75  # a failed source is checked again every minute
WRONG = "not.a.token"
LABELLED = {"keyturn.dev/source": "true"}


def source(name: str, key: str = "license_token") -> dict[str, Any]:
    return {"token": {"secretKeyRef": {"name": name, "key": key}}}


def test_labelled_source_is_watched(aws: Emulator, namespace: Namespace) -> None:
    namespace.apply(token_request())
    reported = namespace.wait_for_condition("acme", "Renewed", "SourceNotFound")
    assert "Secret license does not exist" in reported
    assert "; next attempt at 2" in reported
    assert namespace.condition("acme", "Ready")[:2] == ("False", "SourceNotFound")
    assert "Secret license does not exist" in namespace.kubectl("get", "events")
    assert namespace.events("acme") == ["SourceNotFound"]
    assert aws.calls("GetAccessToken") == 0

    namespace.put_token(aws.refresh_token(), labels=LABELLED)
    namespace.wait_until_ready("acme")
    namespace.put_token(aws.refresh_token(), labels=LABELLED)

    namespace.wait_for_revision(2)
    assert "because of SourceChanged" in namespace.condition("acme", "Renewed")[2]


def test_fixed_sources_are_used_within_a_minute(aws: Emulator, namespace: Namespace) -> None:
    namespace.put_token(aws.refresh_token())
    namespace.put_token(WRONG, name="wrong")
    namespace.put_token("\n", name="empty")
    sign_in(namespace, aws)
    namespace.put_secret("client", {"secret": WRONG, "ca": aws.ca})
    foreign = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "foreign"}}
    namespace.apply(
        foreign,
        token_request("no-secret", source=source("later")),
        token_request("no-key", source=source("license", "later")),
        token_request("empty-key", source=source("empty")),
        token_request("invalid", source=source("wrong")),
        token_request("conflict", secret="foreign"),
        rotating_request(aws, "client-secret"),
    )
    for name, reason in (
        ("no-secret", "SourceNotFound"),
        ("no-key", "SourceNotFound"),
        ("empty-key", "SourceKeyEmpty"),
        ("invalid", "SourceInvalid"),
        ("conflict", "TargetConflict"),
        ("client-secret", "AccessDenied"),
    ):
        namespace.wait_for_condition(name, "Renewed", reason)
        status = namespace.status(name)
        wait = datetime.fromisoformat(status["nextAttemptTime"]) - datetime.fromisoformat(status["lastAttemptTime"])
        assert wait >= timedelta(seconds=50)

    namespace.put_token(aws.refresh_token(), name="later")
    namespace.patch("secret", "license", {"stringData": {"later": aws.refresh_token()}})
    for name in ("empty", "wrong"):
        namespace.put_token(aws.refresh_token(), name=name)
    namespace.patch("secret", "client", {"stringData": {"secret": CLIENT_SECRET}})
    namespace.kubectl("annotate", "secret", "foreign", "keyturn.dev/adoptable-by=conflict")

    namespace.kubectl("wait", "--for=condition=Ready", "treq", "--all", f"--timeout={RECHECK_SECONDS}s")
    # Once each, once for the invalid token, and once more if the conflict was only detected by the write.
    assert aws.calls("GetAccessToken") in (6, 7)


def test_missing_right_is_named_until_it_is_granted(namespace: Namespace) -> None:
    namespace.kubectl("create", "serviceaccount", "app")
    role = {"assumeRoleWithWebIdentity": {"roleArn": OIDC_ROLE_ARN}}
    namespace.apply(token_request(source={"token": {"serviceAccount": {"name": "app"}}}, exchanges=[role]))
    message = namespace.wait_for_condition("acme", "Stalled", "SourceForbidden")

    assert f"the operator needs the right to create serviceaccounts/token in namespace {namespace.name}" in message
    assert "rbac.serviceAccountTokens" in message

    namespace.kubectl("create", "role", "tokens", "--verb=create", "--resource=serviceaccounts/token")
    namespace.kubectl("create", "rolebinding", "tokens", "--role=tokens", "--serviceaccount=keyturn:keyturn")
    namespace.request_renewal("acme", "after the right was granted")
    # The emulator does not trust the issuer of this cluster.
    until(lambda: "InvalidIdentityToken" in namespace.condition("acme", "Renewed")[2])


def test_labelled_client_secret_is_watched(aws: Emulator, namespace: Namespace) -> None:
    first_token = sign_in(namespace, aws)
    wrong, right = ({"secret": secret, "ca": aws.ca} for secret in (WRONG, CLIENT_SECRET))
    namespace.put_secret("client", wrong, labels=LABELLED)
    namespace.apply(rotating_request(aws))
    assert "; next attempt at 2" in namespace.wait_for_condition("acme", "Renewed", "AccessDenied")
    namespace.put_secret("client", right, labels=LABELLED)

    namespace.wait_until_ready("acme")
    assert aws.family(first_token).consumed == [0]


TOKENS = {"two lines": "a\nb", "huge": "x" * 500_000, "JSON too deep": f"e30.{'W1tb' * 50_000}.e30"}


@cases("token", TOKENS)
def test_invalid_token_is_refused(aws: Emulator, namespace: Namespace, token: str) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "license"}}
    namespace.kubectl("create", "-f", "-", stdin=json.dumps(secret | {"stringData": {"license_token": token}}))

    namespace.apply(token_request())

    namespace.wait_for_condition("acme", "Stalled", "SourceInvalid")
    assert namespace.events("acme") == ["Stalled"]
