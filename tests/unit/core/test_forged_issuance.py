"""What a tenant may write into annotations: it counts as nothing, and stops nobody."""

import hashlib
import json
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from keyturn.core.issuance import ISSUANCE_ANNOTATION, read_issuance
from keyturn.core.token_family import read_family
from tests.support.dependencies import HOUR, NOW
from tests.unit.core.test_issuance import MADE

DEEP = '{"x":' + "[" * 100_000 + "]" * 100_000 + "}"


def forged(text: str) -> dict[str, str]:
    """Marks with a right digest, which anybody can make: it has no key."""
    return {ISSUANCE_ANNOTATION: f'{text[:-1]},"digest":"{hashlib.sha256(text.encode()).hexdigest()[:16]}"}}'}


def with_fields(**fields: Any) -> str:
    return msgspec.json.encode(json.loads(msgspec.json.encode(MADE)) | fields).decode()


def test_marks_with_a_right_digest_are_read() -> None:
    assert read_issuance(forged(with_fields())) == MADE


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(DEEP, id="nested deeper than can be read"),
        pytest.param(with_fields(jitter=1e300), id="a jitter beyond one"),
        pytest.param(with_fields(revision=2**63 - 1), id="a revision whose next is no int64"),
        pytest.param(with_fields(expires="2026-01-02T03:04:05"), id="a time without a zone"),
        pytest.param(with_fields(expires="9999-12-31T23:59:59Z"), id="a life of thousands of years"),
        pytest.param(with_fields(renew=(NOW - 9 * HOUR).isoformat()), id="renewed before it was issued"),
        pytest.param(with_fields(request="x" * 40_000), id="a name longer than names are"),
        pytest.param(with_fields(issued=(NOW + timedelta(days=9000)).isoformat()), id="issued after it expires"),
    ],
)
def test_forged_marks_count_as_none(text: str) -> None:
    assert read_issuance(forged(text)) is None


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(DEEP, id="nested deeper than can be read"),
        pytest.param('{"sourceId":"a","initialTokens":[],"live":"x","consumed":3}', id="of other types"),
        pytest.param(
            json.dumps({"sourceId": "x" * 40_000, "initialTokens": [], "live": "x"}),
            id="a source longer than names are",
        ),
        pytest.param(json.dumps({"sourceId": "a\nforged log line", "initialTokens": [], "live": "x"}), id="a line end"),
    ],
)
def test_a_forged_lineage_counts_as_none(text: str) -> None:
    assert read_family(text) is None
