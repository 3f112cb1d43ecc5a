import json

import msgspec
import pytest

from keyturn.core.issuance import ISSUANCE_ANNOTATION, Issuance, IssuanceKeys, with_digest
from tests.support.cases import cases
from tests.support.issuance import ISSUANCE
from tests.support.issuance_keys import KEYS, OTHER_KEYS

SIGNED = KEYS.encode(ISSUANCE, "billing", "acme")


def read(text: str, keys: IssuanceKeys = KEYS) -> tuple[Issuance | None, Issuance | None]:
    return keys.read({ISSUANCE_ANNOTATION: text}, "billing", "acme")


def test_signed_record_is_verified() -> None:
    assert read(SIGNED) == (ISSUANCE, None)


@cases(
    "text",
    {
        "signed by another operator": OTHER_KEYS.encode(ISSUANCE, "billing", "acme"),
        "signed with an unknown number": IssuanceKeys({2: KEYS.keys[1]}).encode(ISSUANCE, "billing", "acme"),
        "copied from another Secret": KEYS.encode(ISSUANCE, "billing", "other"),
        "copied from another namespace": KEYS.encode(ISSUANCE, "other", "acme"),
        "names that join to the same text": KEYS.encode(ISSUANCE, "bill", "ingacme"),
        "of a release without keys": ISSUANCE.encoded(),
    },
)
def test_record_of_somebody_else_is_unverified(text: str) -> None:
    assert read(text) == (None, ISSUANCE)


def forged(**fields: object) -> str:
    """Return the signed record with other fields and a correct digest, which needs no key."""
    members = json.loads(SIGNED) | fields
    del members["digest"]
    return with_digest(msgspec.json.encode(members).decode())


@cases(
    "text",
    {
        "a later renewal": forged(renew="2026-01-02T03:50:00Z"),
        "a token to revoke": forged(superseded=[{"token_id": "theirs", "at": "2026-01-02T03:04:05Z"}]),
        "another MAC": forged(mac="0" * 64),
        "a MAC that is too short": forged(mac=json.loads(SIGNED)["mac"][:32]),
        "an added field": forged(added="x"),
    },
)
def test_forged_record_is_unverified(text: str) -> None:
    verified, unverified = read(text)

    assert verified is None
    assert unverified


@cases("text", {"no record": "", "edited by hand": SIGNED.replace("acme-0001", "acme-0002"), "not JSON": "\ud800"})
def test_unreadable_record_is_neither(text: str) -> None:
    assert read(text) == (None, None)


def test_highest_number_signs_and_all_keys_verify() -> None:
    rotated = IssuanceKeys({1: KEYS.keys[1], 10: b"x" * 32, 9: b"y" * 32})
    signed = rotated.encode(ISSUANCE, "billing", "acme")

    assert json.loads(signed)["key"] == 10
    assert read(SIGNED, rotated) == read(signed, rotated) == (ISSUANCE, None)
    assert read(signed) == (None, ISSUANCE)


def test_release_without_keys_reads_a_signed_record() -> None:
    assert msgspec.json.decode(SIGNED, type=Issuance) == ISSUANCE


def test_keys_are_not_in_the_representation() -> None:
    assert "1111" not in repr(KEYS)


@pytest.mark.parametrize("depth", [100_000])
def test_hostile_text_is_read_in_linear_time(depth: int) -> None:
    assert read(with_digest('{"a":' + ',"key":1,"mac":"' * depth + "}")) == (None, None)
