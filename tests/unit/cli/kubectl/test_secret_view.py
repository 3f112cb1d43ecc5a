from dataclasses import replace
from typing import Any

import msgspec

from keyturn.cli.kubectl.secret_commands import forget_effect
from keyturn.cli.kubectl.secret_view import SecretView, describe
from keyturn.core.issuance import ISSUANCE_ANNOTATION, MANAGED_BY
from keyturn.core.token_family import TOKEN_FAMILY_ANNOTATION, Intent, TokenFamily, token_fingerprint
from tests.support.cases import cases
from tests.support.dependencies import DAY, NOW, REFRESH, ROLE, SECOND, request
from tests.support.issuance import REQUEST
from tests.support.kubectl_views import DATA, ISSUED

TARGET = SecretView(
    name="acme",
    namespace="billing",
    type="Opaque",
    annotations={ISSUANCE_ANNOTATION: ISSUED.encoded()},
    labels={MANAGED_BY: "keyturn"},
    uid="secret-1",
    resource_version="7",
    data={key: value.encode() for key, value in DATA.items()},
    requests=(REQUEST,),
)


def record(**fields: Any) -> dict[str, str]:
    return {ISSUANCE_ANNOTATION: msgspec.structs.replace(ISSUED, **fields).encoded()}


def text(view: SecretView) -> str:
    return "\n".join(describe(view, NOW))


def test_target_is_described_completely() -> None:
    assert text(TARGET).splitlines() == [
        "Secret billing/acme (Opaque)",
        "  Written by      TokenRequest acme, which still exists",
        "  Record          not verified here; only the operator has the issuance key",
        "  Data            as issued",
        f"  Principal       {ROLE}",
        "  Issued          2026-01-02T03:04:05Z (in 0s)",
        "  Expires         2026-01-02T04:04:05Z (in 1h)",
        "  Renewal         2026-01-02T03:44:05Z (in 40m)",
        "  Revision        1",
        "Keys",
        "  AWS_ACCESS_KEY_ID              11 B  env",
        "  credentials.json               20 B  credentialProcess",
        "  expiration                      4 B  the earliest expiration time",
    ]


OTHER_TARGET = request(target={"secretName": "other"})
OTHER_KEY = request(target={"formats": [{"credentialProcess": {"key": "mine.json"}}]})


@cases(
    "changes, line",
    {
        "owner deleted": ({"requests": ()}, "TokenRequest acme, which no longer exists"),
        "owner recreated": ({"requests": (request(uid="new"),)}, "was recreated and takes"),
        "a former target": ({"requests": (OTHER_TARGET,)}, "which now writes Secret other"),
        "no right to list": ({"requests": None}, "you may not list TokenRequests here"),
        "edited data": ({"data": {**TARGET.data, "credentials.json": b"edited"}}, "(DriftDetected)"),
        "an unmanaged key": ({"data": {**TARGET.data, "mine": b"x"}}, "1 B  not managed by Keyturn"),
        "edited record": ({"annotations": {ISSUANCE_ANNOTATION: "x"}}, "without a readable issuance record"),
        "no record": ({"annotations": {}}, "without a readable issuance record"),
        "written by another program": ({"annotations": {}, "labels": {}}, "someone else"),
        "a source": ({"name": "license", "annotations": {}, "labels": {}}, "Read by         TokenRequest acme"),
        "single-use": ({"annotations": record(once=True)}, "never: the source credential is single-use"),
        "source expires": ({"annotations": record(source_expires=NOW + 3 * DAY)}, "(in 3d)"),
        "a key that the spec names": (
            {"requests": (OTHER_KEY,), "annotations": record(keys=("mine.json",)), "data": {"mine.json": b"{}"}},
            "mine.json                       2 B  credentialProcess",
        ),
    },
)
def test_description_contains_the_state(changes: dict[str, Any], line: str) -> None:
    assert line in text(replace(TARGET, **changes))


def fingerprint(token: str) -> str:
    return token_fingerprint(token, "billing", "source-keyturn")


ROTATING = request(
    source={"token": {"secretKeyRef": {"name": "source", "key": "rt"}}},
    exchanges=[REFRESH],
    target={"formats": [{"token": {}}]},
)
FAMILY = TokenFamily(
    source_id="source/rt",
    initial_tokens=(fingerprint("initial"),),
    live=fingerprint("live"),
    consumed=(fingerprint("initial"),),
)
NEVER_ROTATED = msgspec.structs.replace(FAMILY, live=fingerprint("initial"), consumed=())
USED = msgspec.structs.replace(FAMILY, live="")
INTENT = Intent(holder="pod-1", consumes=FAMILY.live, start=NOW - 10 * SECOND, give_up_seconds=30)
FINAL = msgspec.structs.replace(INTENT, final_attempt=True)
UNANSWERED = msgspec.structs.replace(INTENT, final_attempt_after=NOW + 300 * SECOND)


def token_secret(family: TokenFamily = FAMILY, token: bytes = b"live") -> SecretView:
    return replace(
        TARGET,
        name="source-keyturn",
        annotations={TOKEN_FAMILY_ANNOTATION: family.encoded()},
        data={"rt": token, "rt.previous": b"initial"},
        requests=(ROTATING,),
    )


@cases(
    "view, line",
    {
        "source": (token_secret(), "Token of        Secret source, key rt"),
        "user": (token_secret(), "Used by         TokenRequest acme"),
        "no user": (replace(token_secret(), requests=()), "no TokenRequest here"),
        "family": (token_secret(), "Token family    1 from the source, 1 consumed"),
        "live": (token_secret(), "Contains        the live token"),
        "never rotated": (token_secret(NEVER_ROTATED, b"initial"), "the live token, as it was in the source"),
        "restored": (token_secret(token=b"initial"), "a consumed token (StaleTokenRestored)"),
        "a late save": (token_secret(token=b"late"), "newer than the recorded token family"),
        "empty token": (token_secret(token=b""), "no token"),
        "used": (token_secret(USED, b""), "single-use source credential has already been used"),
        "no intent": (token_secret(), "no renewal is in progress"),
        "intent": (token_secret(FAMILY.with_intent(INTENT)), "pod-1 started using the token 10s ago, for at most 30s"),
        "no response": (token_secret(FAMILY.with_intent(UNANSWERED)), "received no response; final attempt 2026"),
        "final attempt": (token_secret(FAMILY.with_intent(FINAL)), "; this is the final attempt"),
    },
)
def test_token_secret_description_contains_the_state(view: SecretView, line: str) -> None:
    assert line in text(view)


PLANTED = "planted-value"
LAST_APPLIED = {"kubectl.kubernetes.io/last-applied-configuration": PLANTED}


@cases(
    "view",
    {
        "target": TARGET,
        "token Secret": token_secret(),
        "token Secret with a consumed token": token_secret(token=b"initial"),
        "another Secret": replace(TARGET, annotations={}, labels={}),
        "values in an annotation": replace(
            TARGET, annotations=LAST_APPLIED, data={"key": PLANTED.encode(), "bytes": b"\xff\xfeplanted"}
        ),
    },
)
def test_no_value_is_shown(view: SecretView) -> None:
    shown = text(view) + repr(view)

    assert [value for value in view.data.values() if len(value) > 7 and value.decode(errors="replace") in shown] == []
    assert PLANTED not in shown
    assert FAMILY.live not in shown


@cases(
    "token, message",
    {
        "never rotated": ("live", "the same token, not yet consumed: nothing is lost"),
        "consumed": ("initial", "a CONSUMED token"),
        "new sign-in": ("new", "a new token, which Keyturn uses even if the token Secret is kept"),
        "no token": (None, "no readable token"),
    },
)
def test_forget_effect_depends_on_the_source(token: str | None, message: str) -> None:
    assert message in forget_effect(fingerprint(token) if token else None, FAMILY, "source")
