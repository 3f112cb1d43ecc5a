"""What kubectl keyturn inspect and forget say of a Secret: whose it is and what is in it, and no value."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from keyturn.cli.kubectl.forget import _state
from keyturn.cli.kubectl.secret_view import Found, lines
from keyturn.core.issuance import ISSUANCE_ANNOTATION, MANAGED_BY, data_hash
from keyturn.core.token_family import TOKEN_FAMILY_ANNOTATION, Intent, TokenFamily, token_fingerprint
from tests.support.dependencies import DAY, NOW, REFRESH, ROLE, SECOND, request
from tests.unit.core.test_issuance import MADE

PLANTED = "planted-value"
DATA = {
    "AWS_ACCESS_KEY_ID": b"AKIAPLANTED", "credentials.json": b'{"planted-value": 1}', "expiration": b"2026",
}  # fmt: skip
REQUEST = request()
MARKED = msgspec.structs.replace(
    MADE, keys=tuple(DATA), principal=ROLE, data_hash=data_hash({k: v.decode() for k, v in DATA.items()}, REQUEST)
)
OURS = Found(
    name="acme",
    namespace="billing",
    type="Opaque",
    annotations={ISSUANCE_ANNOTATION: MARKED.encoded()},
    labels={MANAGED_BY: "keyturn"},
    uid="secret-1",
    version="7",
    body=DATA,
    requests=(REQUEST,),
)


def marked(**fields: Any) -> dict[str, str]:
    return {ISSUANCE_ANNOTATION: msgspec.structs.replace(MARKED, **fields).encoded()}


def text(found: Found) -> str:
    return "\n".join(lines(found, NOW))


def test_ours_whole() -> None:
    assert text(OURS).splitlines() == [
        "Secret billing/acme (Opaque)",
        "  Written by  TokenRequest acme, which is there",
        "  Data        as issued",
        f"  Principal   {ROLE}",
        "  Issued      2026-01-02T03:04:05Z (in 0 s)",
        "  Expires     2026-01-02T04:04:05Z (in 60 min)",
        "  Renews      2026-01-02T03:04:05Z (in 0 s)",
        "  Revision    1",
        "Keys",
        "  AWS_ACCESS_KEY_ID              11 B  env",
        "  credentials.json               20 B  credentialProcess",
        "  expiration                      4 B  when the first of it expires",
    ]


@pytest.mark.parametrize(
    ("found", "says"),
    [
        pytest.param(replace(OURS, requests=()), "TokenRequest acme, which is gone", id="its request is gone"),
        pytest.param(replace(OURS, requests=(request(uid="new"),)), "was made anew and takes it over", id="made anew"),
        pytest.param(
            replace(OURS, requests=(request(target={"secretName": "other"}),)),
            "which now writes Secret other",
            id="a former Secret",
        ),
        pytest.param(replace(OURS, requests=None), "TokenRequests may not be listed here", id="no right to list"),
        pytest.param(
            replace(OURS, body=DATA | {"credentials.json": b"edited"}), "(DriftDetected)", id="edited by hand"
        ),
        pytest.param(replace(OURS, body=DATA | {"mine": b"x"}), "1 B  not Keyturn's", id="a key of the user"),
        pytest.param(replace(OURS, annotations={ISSUANCE_ANNOTATION: "edited"}), "gone or were edited", id="bad marks"),
        pytest.param(replace(OURS, annotations={}), "marks are gone or were edited", id="no marks"),
        pytest.param(replace(OURS, annotations={}, labels={}), "somebody else", id="of somebody else"),
        pytest.param(
            replace(OURS, name="license", annotations={}, labels={}), "Read by     TokenRequest acme", id="source"
        ),
        pytest.param(replace(OURS, annotations=marked(once=True)), "never: its source works once", id="once"),
        pytest.param(
            replace(OURS, annotations=marked(source_expires=NOW + 3 * DAY)), "(in 3 days)", id="its source ends"
        ),
        pytest.param(
            replace(
                OURS,
                requests=(request(target={"formats": [{"credentialProcess": {"key": "mine.json"}}]}),),
                annotations=marked(keys=("mine.json",)),
                body={"mine.json": b"{}"},
            ),
            "mine.json                       2 B  credentialProcess",
            id="a key that the spec names",
        ),
    ],
)
def test_what_is_told(found: Found, says: str) -> None:
    assert says in text(found)


def fingerprint(token: str) -> str:
    return token_fingerprint(token, "billing", "source-keyturn")


SPENDS = request(
    source={"token": {"secretKeyRef": {"name": "source", "key": "rt"}}},
    exchanges=[REFRESH],
    target={"formats": [{"token": {}}]},
)
LINE = TokenFamily(
    source_id="source/rt",
    initial_tokens=(fingerprint("seed"),),
    live=fingerprint("live"),
    consumed=(fingerprint("seed"),),
)
INTENT = Intent(holder="pod-1", consumes=LINE.live, start=NOW - 10 * SECOND, give_up_seconds=30)


def token_secret(family: TokenFamily = LINE, token: bytes = b"live") -> Found:
    return replace(
        OURS,
        name="source-keyturn",
        annotations={TOKEN_FAMILY_ANNOTATION: family.encoded()},
        body={"rt": token, "rt.previous": b"seed"},
        requests=(SPENDS,),
    )


@pytest.mark.parametrize(
    ("found", "says"),
    [
        pytest.param(token_secret(), "Keeps       the live token of Secret source, key rt", id="what it keeps"),
        pytest.param(token_secret(), "Used by     TokenRequest acme", id="who uses it"),
        pytest.param(replace(token_secret(), requests=()), "no TokenRequest here", id="nobody uses it"),
        pytest.param(token_secret(), "Lineage     1 handed in, 1 spent", id="its lineage"),
        pytest.param(token_secret(), "Shows       the live token", id="live"),
        pytest.param(
            token_secret(msgspec.structs.replace(LINE, live=fingerprint("seed"), consumed=()), b"seed"),
            "the live token, as it was handed in",
            id="never rotated",
        ),
        pytest.param(token_secret(token=b"seed"), "a spent token (StaleTokenRestored)", id="put back"),
        pytest.param(token_secret(token=b"late"), "younger than its lineage", id="a late save"),
        pytest.param(token_secret(token=b""), "no token", id="emptied"),
        pytest.param(token_secret(msgspec.structs.replace(LINE, live=""), b""), "worked once, and is used", id="used"),
        pytest.param(token_secret(), "nobody is spending the token", id="no intent"),
        pytest.param(
            token_secret(LINE.with_intent(INTENT)),
            "pod-1 began to spend the token 10 s ago, for 30 s",
            id="an intent",
        ),
        pytest.param(
            token_secret(LINE.with_intent(msgspec.structs.replace(INTENT, final_attempt=True))),
            "; tried once more",
            id="finalAttempt",
        ),
    ],
)
def test_what_is_told_of_a_token_secret(found: Found, says: str) -> None:
    assert says in text(found)


@pytest.mark.parametrize(
    "found",
    [
        OURS,
        token_secret(),
        token_secret(token=b"seed"),
        replace(OURS, annotations={}, labels={}),
        replace(OURS, annotations={"kubectl.kubernetes.io/last-applied-configuration": PLANTED},
                body={"AWS_SECRET_ACCESS_KEY": PLANTED.encode(), "bytes": b"\xff\xfeplanted"}),
    ],
)  # fmt: skip
def test_no_value_is_told(found: Found) -> None:
    told = text(found) + repr(found)

    assert [it for it in found.body.values() if len(it) > 4 and it.decode(errors="replace") in told] == []
    assert PLANTED not in told
    assert LINE.live not in told


@pytest.mark.parametrize(
    ("source", "says"),
    [
        pytest.param("live", "the same token, unspent: nothing is lost", id="never rotated"),
        pytest.param("seed", "a SPENT token", id="consumed"),
        pytest.param("new", "a new token, which is used by itself", id="signed in again"),
        pytest.param(None, "no token that can be read", id="gone"),
    ],
)
def test_what_it_means_to_forget(source: str | None, says: str) -> None:
    assert says in _state(fingerprint(source) if source else None, LINE, "source")


def test_the_times_are_of_this_moment() -> None:
    assert "(59 min ago)" not in text(OURS)
    assert "(2 days ago)" in "\n".join(lines(OURS, NOW + timedelta(days=2)))
