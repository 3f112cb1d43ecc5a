from datetime import timedelta
from typing import Any

import msgspec
import pytest

from keyturn.api.status import Status, read_status
from keyturn.api.token_request import RENEW_REQUESTED
from keyturn.cli.kubectl.describe import (
    WatchRows,
    absolute_and_relative,
    describe,
    relative,
    table,
    table_row,
    view_request,
)
from keyturn.core.errors import RefusedError, UnavailableError
from keyturn.core.state import Failure
from keyturn.core.status import Outcome, report
from tests.support.cases import cases
from tests.support.dependencies import (
    ASSUME_ROLE,
    CODE,
    DAY,
    HOUR,
    MINUTE,
    NOW,
    REFRESH,
    ROLE,
    SECOND,
    manifest,
    request,
)
from tests.support.json_schema import load_valid
from tests.support.kubectl_views import ISSUED

LATER = NOW + 5 * MINUTE
UNREACHABLE = UnavailableError("Unreachable", "STS did not respond")
DENIED = RefusedError("AccessDenied", "STS AssumeRoleWithWebIdentity: AccessDenied", request_id="id-9")
SOURCE_EXPIRING = msgspec.structs.replace(ISSUED, source_expires=NOW + DAY, source_warns=NOW)


def reconciled(outcome: Outcome, **spec: Any) -> dict[str, Any]:
    """Return a TokenRequest as it is in the API server after a reconciliation with this outcome."""
    return manifest(**spec) | {"status": msgspec.to_builtins(report(request(**spec), Status(), outcome))}


def failed(error: RefusedError | UnavailableError, *, is_valid: bool = True, field: str = "") -> dict[str, Any]:
    failure = Failure(error, 3, LATER + MINUTE, 1, field=field)
    return reconciled(Outcome(LATER, ISSUED if is_valid else None, failure=failure, tried=True))


def change(body: dict[str, Any], *, status: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    return body | {"metadata": body["metadata"] | metadata, "status": body["status"] | (status or {})}


def text(body: dict[str, Any]) -> str:
    return "\n".join(describe(view_request(body, LATER), LATER))


RENEWED = reconciled(Outcome(NOW, ISSUED, "SecretMissing", tried=True))
REQUESTED = {"annotations": {RENEW_REQUESTED: "t1"}}


def test_expiry_of_a_source_that_no_longer_exists_is_not_shown() -> None:
    missing = Failure(RefusedError("SourceNotFound", "Secret license does not exist"), 1, LATER, 1)

    assert "Source expires" in text(reconciled(Outcome(NOW, SOURCE_EXPIRING)))
    assert "Source expires" not in text(reconciled(Outcome(NOW, SOURCE_EXPIRING, failure=missing)))


def test_renewed_request_is_described_completely() -> None:
    ready, renewed, *rest = text(RENEWED).splitlines()[1:]

    assert ready.startswith("  Ready           True Issued: ")
    assert renewed.startswith("  Renewed         True Issued: ")
    assert rest == [
        "  Pipeline        token: key license_token of Secret license",
        "                  -> licenseManagerGetAccessToken (us-east-1)",
        f"                  -> assumeRoleWithWebIdentity {ROLE} (us-east-1)",
        "                  -> Secret acme: env, credentialProcess",
        "  Issued          2026-01-02T03:04:05Z (5m ago)",
        "  Expires         2026-01-02T04:04:05Z (in 55m)",
        "  Renewal         2026-01-02T03:44:05Z (in 35m)",
        "  Last attempt    2026-01-02T03:04:05Z (5m ago)",
        f"  Principal       {ROLE}",
        "  Revision        1",
    ]


@cases(
    "body, line",
    {
        "repeated failures": (failed(UNREACHABLE), "Failures        3 in a row, since 2026-01-02T03:09:05Z (in 0s)"),
        "next attempt": (failed(UNREACHABLE), "Next attempt    2026-01-02T03:10:05Z (in 1m)"),
        "stalled": (failed(DENIED), "Renewed         False AccessDenied: STS"),
        "a message that several conditions have": (failed(DENIED), "Stalled         True AccessDenied (see Renewed)"),
        "AWS request ID": (failed(DENIED), "id-9"),
        "source expires": (
            reconciled(Outcome(NOW, SOURCE_EXPIRING)),
            "Source expires  2026-01-03T03:04:05Z (in 23h55m)",
        ),
        "not reconciled": (manifest(), "Note            not reconciled yet; is an operator"),
        "suspended": (reconciled(Outcome(NOW, ISSUED), suspend=True), "Note            spec.suspend is true"),
        "a spec of another release": (
            manifest(exchanges=[{"newInAnotherRelease": {}}]),
            "cannot read the spec: unknown field",
        ),
        "a ServiceAccount as source": (
            manifest(source={"token": {"serviceAccount": {"name": "app"}}}, exchanges=[ASSUME_ROLE]),
            "token: ServiceAccount app",
        ),
        "a rotating token": (
            manifest(
                source={"token": {"secretKeyRef": {"name": "source", "key": "rt"}}},
                exchanges=[REFRESH],
                target={"formats": [{"token": {}}]},
            ),
            "token: key rt of Secret source, stored in Secret source-keyturn",
        ),
        "access keys as source": (
            manifest(source={"credentials": {"secretRef": {"name": "keys"}}}, exchanges=[CODE], target=None),
            "credentials: Secret keys",
        ),
    },
)
def test_description_contains_the_state(body: dict[str, Any], line: str) -> None:
    assert line in text(body)


@cases(
    "body, step",
    {
        "an exchange": (
            failed(DENIED, field="spec.exchanges[1].assumeRoleWithWebIdentity"),
            f"-> assumeRoleWithWebIdentity {ROLE} (us-east-1)  <-- failed: AccessDenied",
        ),
        "the source": (
            failed(RefusedError("SourceNotFound", "Secret license does not exist")),
            "token: key license_token of Secret license  <-- failed: SourceNotFound",
        ),
        "the target": (
            failed(RefusedError("WriteDenied", "quota")),
            "-> Secret acme: env, credentialProcess  <-- failed: WriteDenied",
        ),
        "a secret of an exchange": (
            failed(RefusedError("SourceKeyEmpty", ""), field="spec.exchanges[0].licenseManagerGetAccessToken"),
            "-> licenseManagerGetAccessToken (us-east-1)  <-- failed: SourceKeyEmpty",
        ),
    },
)
def test_failed_step_is_marked(body: dict[str, Any], step: str) -> None:
    assert [line.removeprefix("  Pipeline").strip() for line in text(body).splitlines() if "<--" in line] == [step]


def test_no_step_is_marked_if_it_is_unknown() -> None:
    assert "<--" not in text(failed(UNREACHABLE))


def test_query_of_a_token_endpoint_is_not_shown() -> None:
    url = {"tokenUrl": "https://issuer.example/token?code=planted"}
    body = manifest(exchanges=[{"oauthToken": REFRESH["oauthToken"] | url}], target={"formats": [{"token": {}}]})

    assert "-> oauthToken https://issuer.example/token\n" in text(body)


@cases(
    "body, advice",
    {
        "a new generation": (
            change(RENEWED, generation=2),
            "the status describes generation 1, not 2; is an operator running for this namespace?",
        ),
        "a renewal request": (
            change(RENEWED, **REQUESTED),
            "the renewal requested at t1 has not started; is an operator running for this namespace?",
        ),
        "a renewal request, but the operator runs": (
            change(RENEWED, **REQUESTED, status={"lastAttemptTime": "2026-01-02T03:09:00Z"}),
            "the renewal requested at t1 has not started",
        ),
        "being deleted": (
            change(RENEWED, deletionTimestamp="2026-01-02T04:04:05Z"),
            "the TokenRequest is being deleted: credentials are not renewed",
        ),
        "overdue": (
            change(RENEWED, status={"renewalTime": "2026-01-02T03:00:05Z"}),
            "the next attempt is overdue by 9m; is an operator running for this namespace?",
        ),
        "a handled renewal request": (change(RENEWED, **REQUESTED, status={"lastHandledRenewRequest": "t1"}), None),
        "recently due": (change(RENEWED, status={"renewalTime": "2026-01-02T03:09:00Z"}), None),
    },
)
def test_advice_describes_the_problem(body: dict[str, Any], advice: str | None) -> None:
    assert view_request(body, LATER).advice == ((advice,) if advice else ())


@cases(
    "body, cells",
    {
        "renewed": (RENEWED, "billing acme True Issued|55m|35m|succeeded|-"),
        "failing": (failed(UNREACHABLE), "billing acme True Issued|55m|35m|Unreachable|1m"),
        "stalled": (failed(DENIED, is_valid=False), "billing acme False AccessDenied|-|-|AccessDenied, stalled|1m"),
        "not reconciled": (manifest(), "billing acme Unknown |-|-|-|-"),
        "expired without an operator": (
            change(RENEWED, status={"expirationTime": "2026-01-02T03:08:05Z"}),
            "billing acme True Issued, expired|1m ago|35m|succeeded|-",
        ),
    },
)
def test_table_row_summarizes_the_request(body: dict[str, Any], cells: str) -> None:
    row = table_row(view_request(body, LATER), LATER)

    assert "|".join((" ".join(row[:4]), *row[4:8])) == cells


@pytest.mark.parametrize(("namespaces", "header"), [(True, "NAMESPACE   NAME"), (False, "NAME   READY")])
def test_table_is_aligned(*, namespaces: bool, header: str) -> None:
    first, second = table([view_request(RENEWED, LATER)], LATER, namespaces=namespaces)

    assert first.startswith(header)
    assert first.index("REASON") == second.index("Issued")


def test_wide_table_shows_failures_and_principal() -> None:
    header, row = table([view_request(RENEWED, LATER)], LATER, namespaces=False, wide=True)

    assert header.split()[-2:] == ["FAILURES", "PRINCIPAL"]
    assert row[header.index("FAILURES") :].split()[0] == "0"
    assert row[header.index("PRINCIPAL") :] == read_status(RENEWED).principal


@cases(
    "body, color",
    {
        "renewed": (RENEWED, ""),
        "a failure while the Secret is valid": (failed(UNREACHABLE), "yellow"),
        "no usable Secret": (failed(DENIED, is_valid=False), "red"),
        "not reconciled": (manifest(), ""),
    },
)
def test_color_of_a_row_shows_the_state(body: dict[str, Any], color: str) -> None:
    header, row = table([view_request(body, LATER)], LATER, namespaces=False)

    assert [getattr(line, "color", None) for line in (header, row)] == ["", color]


def test_rows_of_a_watch_are_aligned_with_their_header() -> None:
    rows = WatchRows([view_request(RENEWED, LATER)], LATER, namespaces=False)

    assert rows.header.startswith("TIME       NAME")
    assert rows.row(view_request(RENEWED, LATER), LATER).startswith(f"{LATER:%H:%M:%SZ}  acme")
    assert rows.header.index("REASON") == rows.row(view_request(RENEWED, LATER), LATER).index("Issued")


def test_past_expiration_is_shown_as_ago() -> None:
    assert table_row(view_request(RENEWED, NOW + 2 * HOUR), NOW + 2 * HOUR)[4] == "1h ago"


def test_unknown_outcome_is_an_error() -> None:
    error = UnavailableError("RefreshOutcomeUnknown", "sent, but no response was received", outcome_unknown=True)

    assert view_request(failed(error), LATER).last_error.startswith("sent, but no response was received")


def test_unattempted_renewal_has_no_error() -> None:
    assert view_request(reconciled(Outcome(NOW)), NOW).last_error == ""


@cases(
    "body",
    {
        "renewed": RENEWED,
        "failing": failed(DENIED, field="spec.exchanges[1].assumeRoleWithWebIdentity"),
        "the source expires": reconciled(Outcome(NOW, SOURCE_EXPIRING)),
        "not reconciled": manifest(),
        "a spec of another release": manifest(exchanges=[{"newInAnotherRelease": {}}]),
        "an invalid time": change(RENEWED, status={"expirationTime": "soon"}),
    },
)
def test_json_has_the_published_schema(body: dict[str, Any]) -> None:
    view = view_request(body, LATER)

    assert load_valid("status", msgspec.json.encode(view).decode())["name"] == "acme"
    assert len(load_valid("status", msgspec.json.encode([view, view]).decode())) == 2


def test_json_contains_the_same_fields_as_the_text() -> None:
    view = msgspec.json.decode(msgspec.json.encode(view_request(failed(DENIED), LATER)))

    assert view["status"]["lastError"]["message"] == "STS AssumeRoleWithWebIdentity: AccessDenied"
    assert (view["name"], len(view["pipeline"]), view["status"]["failedAttempts"]) == ("acme", 4, 3)


@pytest.mark.parametrize(
    ("ahead", "text"), [(5 * MINUTE, "in 5m"), (0 * SECOND, "in 0s"), (-5 * SECOND, "5s ago")], ids=str
)
def test_time_is_relative_to_now(ahead: timedelta, text: str) -> None:
    assert relative(NOW + ahead, NOW) == text


def test_status_time_is_absolute_and_relative() -> None:
    assert absolute_and_relative("2026-01-02T04:04:05Z", NOW) == "2026-01-02T04:04:05Z (in 1h)"


@pytest.mark.parametrize("text", [None, "", "soon", "2026-01-02", "2026-01-02T04:04:05"])
def test_invalid_time_is_empty(text: str | None) -> None:
    assert absolute_and_relative(text, NOW) == ""
