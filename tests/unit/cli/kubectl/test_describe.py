"""What kubectl keyturn status says of a TokenRequest in each of the states it can be in."""

from typing import Any

import msgspec
import pytest

from keyturn.api.status import Status
from keyturn.api.token_request import RENEW_REQUESTED, Request
from keyturn.cli.kubectl.describe import cells, lines, table, tell
from keyturn.core.errors import RefusedError, UnavailableError
from keyturn.core.state import Failure
from keyturn.core.status import Outcome, report
from tests.support.dependencies import (
    ASSUME_ROLE,
    CODE,
    HOUR,
    MINUTE,
    NOW,
    REFRESH,
    ROLE,
    SECOND,
    manifest,
    request,
)
from tests.unit.core.test_status import AWAY, ISSUED, WARNED

LATER = NOW + 5 * MINUTE


def told_of(outcome: Outcome, **spec: Any) -> dict[str, Any]:
    """A TokenRequest as the API server gives it, with the status after a look."""
    wanted: Request = request(**spec)
    return manifest(**spec) | {"status": msgspec.to_builtins(report(wanted, Status(), outcome))}


def text(body: dict[str, Any]) -> str:
    return "\n".join(lines(tell(body, LATER), LATER))


def failing(error: RefusedError | UnavailableError, *, valid: bool = True) -> dict[str, Any]:
    failure = Failure(error, 3, LATER + MINUTE, 1)
    return told_of(Outcome(LATER, ISSUED if valid else None, failure=failure, tried=True))


GOOD = told_of(Outcome(NOW, ISSUED, "SecretMissing", tried=True))
REFUSED = RefusedError("AccessDenied", "STS AssumeRoleWithWebIdentity: AccessDenied", request_id="id-9")


def test_a_good_one_whole() -> None:
    assert text(GOOD).splitlines() == [
        "TokenRequest billing/acme",
        "  Ready       True Issued: Secret acme is valid until 2026-01-02T04:04:05Z",
        "  Renewed     True Issued: issued for 1h; next renewal at 2026-01-02T03:44:05Z",
        "  Pipeline    token: key license_token of Secret license",
        "              -> licenseManagerGetAccessToken (us-east-1)",
        f"              -> assumeRoleWithWebIdentity {ROLE} (us-east-1)",
        "              -> Secret acme: env, credentialProcess",
        "  Issued      2026-01-02T03:04:05Z (5 min ago)",
        "  Expires     2026-01-02T04:04:05Z (in 55 min)",
        "  Renews      2026-01-02T03:44:05Z (in 35 min)",
        "  Last try    2026-01-02T03:04:05Z (5 min ago)",
        f"  Principal   {ROLE}",
        "  Revision    1",
    ]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        pytest.param(failing(AWAY), "Failures    3 in a row", id="a series of failures"),
        pytest.param(failing(AWAY), "Next try    2026-01-02T03:10:05Z (in 60 s)", id="the next try"),
        pytest.param(failing(REFUSED), "Stalled     True AccessDenied: STS", id="stalled"),
        pytest.param(failing(REFUSED), "(AWS request ID id-9)", id="the request id"),
        pytest.param(told_of(Outcome(NOW, WARNED)), "Source ends 2026-01-03T03:04:05Z (in 23 h)", id="source ends"),
        pytest.param(manifest(), "Note        no operator has looked at it yet", id="nobody looked"),
        pytest.param(told_of(Outcome(NOW, ISSUED), suspend=True), "Note        spec.suspend is set", id="suspended"),
        pytest.param(
            manifest(exchanges=[{"newInAnotherRelease": {}}]),
            "cannot read the spec: Object",
            id="of another release",
        ),
        pytest.param(
            manifest(source={"token": {"serviceAccount": {"name": "app"}}}, exchanges=[ASSUME_ROLE]),
            "token: of ServiceAccount app",
            id="a ServiceAccount",
        ),
        pytest.param(
            manifest(
                source={"token": {"secretKeyRef": {"name": "source", "key": "rt"}}},
                exchanges=[REFRESH],
                target={"formats": [{"token": {}}]},
            ),
            "token: key rt of Secret source, kept in Secret source-keyturn",
            id="a token that rotates",
        ),
        pytest.param(
            manifest(source={"credentials": {"secretRef": {"name": "keys"}}}, exchanges=[CODE], target=None),
            "credentials: Secret keys",
            id="keys",
        ),
    ],
)
def test_what_is_told(body: dict[str, Any], says: str) -> None:
    assert says in text(body)


def change(body: dict[str, Any], *, metadata: dict[str, Any], status: dict[str, Any] | None = None) -> dict[str, Any]:
    return body | {"metadata": body["metadata"] | metadata, "status": body["status"] | (status or {})}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        pytest.param(
            change(GOOD, metadata={"generation": 2}),
            "this is of generation 1, the spec is at 2",
            id="not seen yet",
        ),
        pytest.param(
            change(GOOD, metadata={"annotations": {RENEW_REQUESTED: "t1"}}),
            "asked for (t1) and has not begun; is an operator running",
            id="asked for",
        ),
        pytest.param(change(GOOD, metadata={"deletionTimestamp": "2026-01-02T04:04:05Z"}), "deleted", id="going"),
        pytest.param(
            change(GOOD, metadata={}, status={"renewalTime": "2026-01-02T03:00:05Z"}), "is 9 min late", id="late"
        ),
    ],
)
def test_what_a_person_should_look_at(body: dict[str, Any], says: str) -> None:
    (advice,) = tell(body, LATER).advice

    assert says in advice


def test_an_operator_that_has_just_tried_runs() -> None:
    tried = {"lastAttemptTime": "2026-01-02T03:09:00Z"}
    body = change(GOOD, metadata={"annotations": {RENEW_REQUESTED: "t1"}}, status=tried)

    assert tell(body, LATER).advice == ("a renewal was asked for (t1) and has not begun",)


@pytest.mark.parametrize(
    "status",
    [
        pytest.param({"lastHandledRenewRequest": "t1"}, id="asked for, and handled"),
        pytest.param({"lastHandledRenewRequest": "t1", "renewalTime": "2026-01-02T03:09:00Z"}, id="due just now"),
    ],
)
def test_nothing_to_look_at(status: dict[str, Any]) -> None:
    body = change(GOOD, metadata={"annotations": {RENEW_REQUESTED: "t1"}}, status=status)

    assert tell(body, LATER).advice == ()


@pytest.mark.parametrize(
    ("body", "row"),
    [
        pytest.param(GOOD, "billing acme True Issued 55 min,35 min,good,-", id="good"),
        pytest.param(failing(AWAY), "billing acme True Issued 55 min,35 min,Unreachable,60 s", id="failing"),
        pytest.param(
            failing(REFUSED, valid=False),
            "billing acme False AccessDenied -,-,AccessDenied, stalled,60 s",
            id="stalled",
        ),
        pytest.param(manifest(), "billing acme Unknown  -,-,-,-", id="not looked at"),
        pytest.param(
            change(GOOD, metadata={}, status={"expirationTime": "2026-01-02T03:08:05Z"}),
            "billing acme True Issued, expired 60 s ago,35 min,good,-",
            id="expired, and no operator wrote it",
        ),
    ],
)
def test_a_line_of_the_table(body: dict[str, Any], row: str) -> None:
    found = cells(tell(body, LATER), LATER)

    assert f"{' '.join(found[:4])} {','.join(found[4:])}" == row


@pytest.mark.parametrize(("namespaces", "head"), [(True, "NAMESPACE   NAME"), (False, "NAME   READY")])
def test_the_table_is_aligned(*, namespaces: bool, head: str) -> None:
    first, second = table([tell(GOOD, LATER)], LATER, namespaces=namespaces)

    assert first.startswith(head)
    assert first.index("REASON") == second.index("Issued")


def test_expired_is_told_as_ago() -> None:
    assert cells(tell(GOOD, NOW + 2 * HOUR), NOW + 2 * HOUR)[4] == "60 min ago"


def test_a_doubt_is_an_error() -> None:
    doubt = UnavailableError("RefreshOutcomeUnknown", "sent, and no answer was read", outcome_unknown=True)

    assert tell(failing(doubt), LATER + SECOND).last_error.startswith("sent, and no answer was read; next attempt")


def test_none_tried_is_no_error() -> None:
    assert tell(told_of(Outcome(NOW)), NOW).last_error == ""


def test_json_has_what_the_text_has() -> None:
    found = msgspec.json.decode(msgspec.json.encode(tell(failing(REFUSED), LATER)))

    assert found["lastError"].startswith("STS AssumeRoleWithWebIdentity: AccessDenied (AWS request ID id-9)")
    assert (found["name"], len(found["pipeline"]), found["status"]["failedAttempts"]) == ("acme", 4, 3)
