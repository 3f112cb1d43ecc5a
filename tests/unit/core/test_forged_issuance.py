"""Forged annotations: anyone who may write a Secret can write them, so implausible ones are ignored."""

import hashlib
import json
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from keyturn.core.issuance import ISSUANCE_ANNOTATION, read_issuance
from keyturn.core.token_family import read_family
from tests.support.dependencies import HOUR, NOW
from tests.support.issuance import ISSUANCE

DEEP = '{"x":' + "[" * 100_000 + "]" * 100_000 + "}"


def forged(text: str) -> dict[str, str]:
    """The annotation with a correct digest, which anyone can compute: it has no key."""
    return {ISSUANCE_ANNOTATION: f'{text[:-1]},"digest":"{hashlib.sha256(text.encode()).hexdigest()[:16]}"}}'}


def with_fields(**fields: Any) -> str:
    return msgspec.json.encode(json.loads(msgspec.json.encode(ISSUANCE)) | fields).decode()


def test_record_with_a_correct_digest_is_read() -> None:
    assert read_issuance(forged(with_fields())) == ISSUANCE


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(DEEP, id="nested too deep"),
        pytest.param(with_fields(jitter=1e300), id="a jitter above 1"),
        pytest.param(with_fields(revision=2**63 - 1), id="a revision whose successor overflows int64"),
        pytest.param(with_fields(expires="2026-01-02T03:04:05"), id="a time without a time zone"),
        pytest.param(with_fields(expires="9999-12-31T23:59:59Z"), id="a lifetime of thousands of years"),
        pytest.param(with_fields(renew=(NOW - 9 * HOUR).isoformat()), id="a renewal before the issue"),
        pytest.param(with_fields(request="x" * 40_000), id="a name that is too long"),
        pytest.param(with_fields(issued=(NOW + timedelta(days=9000)).isoformat()), id="an issue after the expiry"),
    ],
)
def test_implausible_record_is_ignored(text: str) -> None:
    assert read_issuance(forged(text)) is None


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(DEEP, id="nested too deep"),
        pytest.param('{"sourceId":"a","initialTokens":[],"live":"x","consumed":3}', id="fields of wrong types"),
        pytest.param(
            json.dumps({"sourceId": "x" * 40_000, "initialTokens": [], "live": "x"}),
            id="a source ID that is too long",
        ),
        pytest.param(json.dumps({"sourceId": "a\nforged log line", "initialTokens": [], "live": "x"}), id="a newline"),
    ],
)
def test_implausible_token_family_is_ignored(text: str) -> None:
    assert read_family(text) is None
