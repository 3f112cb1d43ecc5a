from dataclasses import replace
from typing import Any

import msgspec
import pytest

from keyturn.cli.kubectl.secret_commands import forget_effect
from keyturn.cli.kubectl.secret_view import SecretView, describe
from keyturn.core.issuance import ISSUANCE_ANNOTATION, MANAGED_BY
from keyturn.core.token_family import TOKEN_FAMILY_ANNOTATION, Intent, TokenFamily, token_fingerprint
from tests.support.dependencies import DAY, NOW, REFRESH, ROLE, SECOND, request
from tests.support.kubectl_views import DATA, ISSUED, REQUEST

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
        "  Written by      TokenRequest acme, which exists",
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


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        pytest.param({"requests": ()}, "TokenRequest acme, which no longer exists", id="owner deleted"),
        pytest.param({"requests": (request(uid="new"),)}, "was recreated and takes", id="owner recreated"),
        pytest.param({"requests": (OTHER_TARGET,)}, "which now writes Secret other", id="a former target"),
        pytest.param({"requests": None}, "you may not list TokenRequests here", id="no right to list"),
        pytest.param({"data": {**TARGET.data, "credentials.json": b"edited"}}, "(DriftDetected)", id="edited data"),
        pytest.param({"data": {**TARGET.data, "mine": b"x"}}, "1 B  not managed by Keyturn", id="an unmanaged key"),
        pytest.param({"annotations": {ISSUANCE_ANNOTATION: "x"}}, "is missing or was edited", id="edited record"),
        pytest.param({"annotations": {}}, "is missing or was edited", id="no record"),
        pytest.param({"annotations": {}, "labels": {}}, "someone else", id="written by another program"),
        pytest.param(
            {"name": "license", "annotations": {}, "labels": {}}, "Read by         TokenRequest acme", id="a source"
        ),
        pytest.param({"annotations": record(once=True)}, "never: the source credential is single-use", id="single-use"),
        pytest.param({"annotations": record(source_expires=NOW + 3 * DAY)}, "(in 3d)", id="source expires"),
        pytest.param(
            {"requests": (OTHER_KEY,), "annotations": record(keys=("mine.json",)), "data": {"mine.json": b"{}"}},
            "mine.json                       2 B  credentialProcess",
            id="a key that the spec names",
        ),
    ],
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


def token_secret(family: TokenFamily = FAMILY, token: bytes = b"live") -> SecretView:
    return replace(
        TARGET,
        name="source-keyturn",
        annotations={TOKEN_FAMILY_ANNOTATION: family.encoded()},
        data={"rt": token, "rt.previous": b"initial"},
        requests=(ROTATING,),
    )


@pytest.mark.parametrize(
    ("view", "line"),
    [
        pytest.param(token_secret(), "Token of        Secret source, key rt", id="source"),
        pytest.param(token_secret(), "Used by         TokenRequest acme", id="user"),
        pytest.param(replace(token_secret(), requests=()), "no TokenRequest here", id="no user"),
        pytest.param(token_secret(), "Token family    1 from the source, 1 consumed", id="family"),
        pytest.param(token_secret(), "Contains        the live token", id="live"),
        pytest.param(
            token_secret(NEVER_ROTATED, b"initial"), "the live token, as it was in the source", id="never rotated"
        ),
        pytest.param(token_secret(token=b"initial"), "a consumed token (StaleTokenRestored)", id="restored"),
        pytest.param(token_secret(token=b"late"), "newer than the recorded token family", id="a late save"),
        pytest.param(token_secret(token=b""), "no token", id="empty token"),
        pytest.param(token_secret(USED, b""), "single-use source credential has already been used", id="used"),
        pytest.param(token_secret(), "no renewal is in progress", id="no intent"),
        pytest.param(
            token_secret(FAMILY.with_intent(INTENT)),
            "pod-1 started using the token 10s ago, for at most 30s",
            id="intent",
        ),
        pytest.param(token_secret(FAMILY.with_intent(FINAL)), "; this is the final attempt", id="final attempt"),
    ],
)
def test_token_secret_description_contains_the_state(view: SecretView, line: str) -> None:
    assert line in text(view)


PLANTED = "planted-value"
LAST_APPLIED = {"kubectl.kubernetes.io/last-applied-configuration": PLANTED}


@pytest.mark.parametrize(
    "view",
    [
        pytest.param(TARGET, id="target"),
        pytest.param(token_secret(), id="token Secret"),
        pytest.param(token_secret(token=b"initial"), id="token Secret with a consumed token"),
        pytest.param(replace(TARGET, annotations={}, labels={}), id="another Secret"),
        pytest.param(
            replace(TARGET, annotations=LAST_APPLIED, data={"key": PLANTED.encode(), "bytes": b"\xff\xfeplanted"}),
            id="values in an annotation",
        ),
    ],
)
def test_no_value_is_shown(view: SecretView) -> None:
    shown = text(view) + repr(view)

    assert [value for value in view.data.values() if len(value) > 7 and value.decode(errors="replace") in shown] == []
    assert PLANTED not in shown
    assert FAMILY.live not in shown


@pytest.mark.parametrize(
    ("token", "message"),
    [
        pytest.param("live", "the same token, not yet consumed: nothing is lost", id="never rotated"),
        pytest.param("initial", "a CONSUMED token", id="consumed"),
        pytest.param("new", "a new token, which Keyturn uses without forget", id="new sign-in"),
        pytest.param(None, "no readable token", id="no token"),
    ],
)
def test_forget_effect_depends_on_the_source(token: str | None, message: str) -> None:
    assert message in forget_effect(fingerprint(token) if token else None, FAMILY, "source")
