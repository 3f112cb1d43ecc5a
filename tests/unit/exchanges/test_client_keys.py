import json
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from keyturn.exchanges.client_keys import UnusableKeyError, load_client_key, signing_algorithm
from tests.support import client_key_forms as forms
from tests.support.cases import cases
from tests.support.client_key_forms import EC_JWK, JWK, PUBLIC_JWK, generated, jwk_set, private
from tests.support.signing_keys import forged_key


@cases("text", forms.READABLE)
def test_private_key_is_read_in_the_forms_that_people_store(text: str) -> None:
    key = load_client_key(text).key

    assert isinstance(key, RSAPrivateKey)
    assert key.private_numbers() == forms.KEY.private_numbers()


@cases("text, message", forms.UNREADABLE)
def test_other_content_is_named_and_not_shown(text: str, message: str) -> None:
    with pytest.raises(UnusableKeyError) as raised:
        load_client_key(text)

    assert str(raised.value).startswith(message)
    assert "planted" not in str(raised.value)
    assert (raised.value.__cause__, raised.value.__context__ is None or raised.value.__suppress_context__) == (
        None,
        True,
    )


@cases(
    "key_id, key_type",
    {"the first key": ("one", "RS"), "the second key": ("two", "ES256")},
)
def test_key_id_chooses_a_key_of_a_jwk_set(key_id: str, key_type: str) -> None:
    key = load_client_key(jwk_set(JWK | {"alg": "RS256"}, EC_JWK), key_id)

    assert signing_algorithm(key, None).startswith(key_type)
    assert key.key_id == key_id


@cases(
    "other",
    {
        "for encryption by `use`": JWK | {"use": "enc"},
        "for encryption by `alg`": JWK | {"alg": "RSA-OAEP-256"},
        "for decryption by `key_ops`": JWK | {"key_ops": ["decrypt", "unwrapKey"]},
        "for key agreement by `key_ops`": EC_JWK | {"kid": "three", "key_ops": ["deriveKey", "deriveBits"]},
        "for key agreement by its curve": {"kty": "OKP", "crv": "X25519", "kid": "two", "x": "eA", "d": "ZA"},
        "public, with the same ID": {name: value for name, value in EC_JWK.items() if name != "d"},
        "of another kind, for encryption, with the same ID": JWK | {"kid": "two", "use": "enc"},
    },
)
@pytest.mark.parametrize("key_id", [None, "two"])
def test_key_that_cannot_sign_is_passed_over_in_a_jwk_set(other: dict[str, Any], key_id: str | None) -> None:
    signing = EC_JWK | {"key_ops": ["sign"], "ext": True}

    assert load_client_key(jwk_set(other, signing), key_id).key_id == "two"


@pytest.mark.parametrize("key_ops", [["decrypt"], "sign", 5, None, {}])
def test_key_id_chooses_whatever_key_ops_contains(key_ops: object) -> None:
    assert load_client_key(jwk_set(JWK, EC_JWK | {"key_ops": key_ops}), "two").key_id == "two"


@cases(
    "jwks, message",
    {
        "no such key": ([JWK], "a JWK set without a private key with the ID in keyId"),
        "two such keys": ([EC_JWK, EC_JWK], "a JWK set with 2 private keys with the ID in keyId"),
        "a public key": ([PUBLIC_JWK | {"kid": "two"}], "a public JWK"),
    },
)
def test_key_id_that_does_not_choose_one_private_key(jwks: list[dict[str, str]], message: str) -> None:
    with pytest.raises(UnusableKeyError, match=message):
        load_client_key(jwk_set(*jwks), "two")


@cases(
    "text, algorithm",
    {
        "RSA": (forms.PEM, "RS256"),
        "P-256": (forms.SEC1, "ES256"),
        "P-384": (private(generated("P-384")), "ES384"),
        "P-521": (private(generated("P-521")), "ES512"),
        "Ed25519": (private(generated("Ed25519")), "EdDSA"),
        "a JWK with `alg`": (jwk_set(JWK), "PS256"),
        "a JWK whose `alg` does not sign": (json.dumps(JWK | {"alg": "RSA-OAEP"}), "RS256"),
    },
)
def test_default_algorithm_fits_the_key(text: str, algorithm: str) -> None:
    assert signing_algorithm(load_client_key(text), None) == algorithm


@cases(
    "text, algorithm, message",
    {
        "EC key for RS256": (forms.SEC1, "RS256", "which algorithm RS256 cannot use: set ES256$"),
        "RSA key for ES256": (forms.PEM, "ES256", "algorithm ES256 cannot use: set RS256 or RS384 or RS512 or PS256"),
        "P-384 for ES256": (private(generated("P-384")), "ES256", "EC key on the curve secp384r1, .* set ES384$"),
        "Ed25519 for RS256": (private(generated("Ed25519")), "RS256", "set EdDSA$"),
        "secp256k1": (private(generated("secp256k1")), None, "curve secp256k1, which no supported signature"),
        "X25519": (private(generated("X25519")), None, "which no supported signature algorithm can use"),
    },
)
def test_algorithm_that_does_not_fit_the_key_is_named(text: str, algorithm: str | None, message: str) -> None:
    with pytest.raises(UnusableKeyError, match=message):
        signing_algorithm(load_client_key(text), algorithm)


@cases(
    "text",
    {
        "backslashes": "\\" * 16384,
        "quotes": '"' * 16384,
        "BEGIN lines": "-----BEGIN A-----" * 963,
        "dashes": "-----BEGIN " + "-" * 16000,
        "brackets": "{" * 16384,
    },
)
def test_long_value_is_refused_at_once(text: str) -> None:
    started = time.monotonic()
    with pytest.raises(UnusableKeyError):
        load_client_key(text)

    assert time.monotonic() - started < 0.5


@cases(
    "text, bits",
    {
        "a long modulus": (forged_key(n=2**8191 + 1, p=2**4423 - 1, q=3), 8192),
        "a long prime": (forged_key(n=2**2047 + 1, p=2**9941 - 1, q=3), 2048),
        "the size limit of a Secret": (forged_key(n=2**49151 + 1, p=3, q=5), 49152),
    },
)
def test_oversized_key_is_not_loaded(text: str, bits: int) -> None:
    started = time.monotonic()
    with pytest.raises(UnusableKeyError, match="4096 bits"):
        load_client_key(text)

    assert time.monotonic() - started < 0.5, bits


@cases(
    "text",
    {
        "primes of 4096 bits": forged_key(n=2**4095 + 1, p=2**4095 + 3, q=2**4095 + 5),
        "primes of different lengths": forged_key(n=(2**2047 + 1) * 3, p=2**2047 + 1, q=3),
        "another modulus": forged_key(n=2**2047 + 1, p=2**1023 + 1, q=2**1023 + 3),
        "a long exponent": forged_key(n=(2**1023 + 1) * (2**1023 + 3), p=2**1023 + 1, q=2**1023 + 3, e=2**64 + 1),
    },
)
def test_key_with_unusual_numbers_is_refused(text: str) -> None:
    with pytest.raises(UnusableKeyError, match="inconsistent or unusually large numbers"):
        load_client_key(text)
