"""Loads private keys and certificates of OAuth clients from the formats that users store: PEM, JWK and JWK set."""

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import jwt
from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPrivateNumbers, RSAPublicNumbers
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_der_private_key
from cryptography.x509 import Certificate, load_der_x509_certificate
from jwt.algorithms import ECAlgorithm, OKPAlgorithm

from keyturn.core.bounded_json import decode_object
from keyturn.core.der import PRIVATE_KEY, describe_der

_MAX_KEY_LENGTH, _MAX_KEY_BITS = 8192, 4096
# Key generators choose primes of equal length, and the exponent 65537.
_MAX_DIFFERENCE_BITS, _MAX_EXPONENT_BITS = 64, 64
# Slightly more than a number of 4096 bits takes in base64url.
_MAX_NUMBER_LENGTH = 700
_MARKER = re.compile(r"-----(BEGIN|END) ([A-Z0-9 ]{1,40})-----")
# Without the lookbehind, a long run of backslashes would be scanned again from each of them.
_ESCAPED_LINE_BREAK, _ESCAPED_QUOTE = re.compile(r"(?<!\\)\\++[rn]"), re.compile(r'(?<!\\)\\++"')
# The object IDs of DSA and Diffie-Hellman (RFC 3279 sections 2.3.2 and 2.3.3, PKCS #3). OpenSSL computes the public key
# of a private one, which takes up to 2 s and blocks the event loop.
_SLOW_ALGORITHMS = tuple(map(bytes.fromhex, ("2a8648ce380401", "2a8648ce3e0201", "2a864886f70d010301")))
_PRIVATE_KEYS = ("PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY")
_ENCRYPTED = "an encrypted private key: store it without a passphrase (openssl pkey -in FILE)"
_PUBLIC = "a public key: the client signs with the private key"
# Other contents of PEM, and what to do about them.
_OTHER_LABELS = {
    "ENCRYPTED PRIVATE KEY": _ENCRYPTED,
    "OPENSSH PRIVATE KEY": "a key in OpenSSH format: convert it (ssh-keygen -p -m PKCS8 -f FILE)",
    "DSA PRIVATE KEY": "a DSA key, which cannot sign JWTs",
    "PGP PRIVATE KEY BLOCK": "a PGP key, which cannot sign JWTs",
    "PUBLIC KEY": _PUBLIC,
    "RSA PUBLIC KEY": _PUBLIC,
    "SSH2 PUBLIC KEY": _PUBLIC,
    "PGP PUBLIC KEY BLOCK": _PUBLIC,
    "CERTIFICATE": "a certificate without its private key",
    "CERTIFICATE REQUEST": "a certificate request without its private key",
    "NEW CERTIFICATE REQUEST": "a certificate request without its private key",
}
_PREFIXES = {"PuTTY-User-Key-File": "a PuTTY key: export it as PEM", "ssh-": _PUBLIC, "ecdsa-sha2-": _PUBLIC}
_EC_ALGORITHMS = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_RSA_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")

# The prefixes of the encryption algorithms that use private keys (RFC 7518 section 4.1).
_ENCRYPTION_ALGORITHMS = ("RSA", "ECDH")
_KEY_AGREEMENT_CURVES = ("X25519", "X448")


class UnusableKeyError(Exception):
    """A value without a usable key or certificate. The message describes what it contains, but quotes none of it."""


@dataclass(frozen=True, slots=True)
class ClientKey:
    """A private key, what the value states about it, and the certificates in the same value."""

    key: PrivateKeyTypes = field(repr=False)
    key_id: str | None = None
    algorithm: str | None = None
    certificates: tuple[Certificate, ...] = ()


class _Block(NamedTuple):
    label: str
    body: str


def load_client_key(text: str, key_id: str | None = None) -> ClientKey:
    """Load a private key from PEM, a JWK (RFC 7517) or a JWK set. In a set it has the ID `key_id`, or is the only one.

    White space, quotes and escaped line breaks are accepted. Raises UnusableKeyError.
    """
    text = _without_quotes(text)
    if text.startswith("{"):
        return _from_json(decode_object(text.encode()) or decode_object(_without_escapes(text).encode()), key_id)
    blocks = list(_blocks(_without_escapes(text)))
    keys = [block for block in blocks if block.label in _PRIVATE_KEYS]
    if len(keys) != 1:
        raise UnusableKeyError(_describe(text, blocks, len(keys)))
    return ClientKey(_from_pem(keys[0].body), certificates=_certificates(blocks))


def load_certificates(text: str) -> tuple[Certificate, ...]:
    """Load certificates from PEM; raises UnusableKeyError if there is none."""
    certificates = _certificates(_blocks(_without_escapes(_without_quotes(text))))
    if not certificates:
        raise UnusableKeyError("no certificate in PEM")
    return certificates


def signing_algorithm(key: ClientKey, algorithm: str | None) -> str:
    """Return the algorithm to sign with; raises UnusableKeyError if the key cannot be used with `algorithm`."""
    kind, fitting = _kind(key.key)
    if not fitting:
        raise UnusableKeyError(f"{kind}, which no supported signature algorithm can use")
    algorithm = algorithm or (key.algorithm if key.algorithm in fitting else fitting[0])
    if algorithm not in fitting:
        raise UnusableKeyError(f"{kind}, which algorithm {algorithm} cannot use: set {' or '.join(fitting)}")
    return algorithm


def certificate_chain(key: ClientKey, certificates: Sequence[Certificate]) -> tuple[Certificate, ...]:
    """Return the certificates, starting with the one of the key; empty if none of them belongs to the key."""
    public_key = key.key.public_key()
    try:
        leaf = next((certificate for certificate in certificates if certificate.public_key() == public_key), None)
    except (UnsupportedAlgorithm, ValueError):
        return ()
    return (leaf, *(certificate for certificate in certificates if certificate != leaf)) if leaf else ()


def _kind(key: PrivateKeyTypes) -> tuple[str, tuple[str, ...]]:
    """Return the kind of a key, and the signature algorithms that can use it (RFC 7518 section 3.1, RFC 8037)."""
    match key:
        case RSAPrivateKey():
            return "an RSA key", _RSA_ALGORITHMS
        case EllipticCurvePrivateKey():
            algorithm = _EC_ALGORITHMS.get(key.curve.name)
            return f"an EC key on the curve {key.curve.name}", (algorithm,) if algorithm else ()
        case Ed25519PrivateKey() | Ed448PrivateKey():
            return "an Edwards curve key", ("EdDSA",)
    return "a private key that is not RSA, EC or EdDSA", ()


def _without_quotes(text: str) -> str:
    text = text.strip("\ufeff \t\r\n")
    while len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].strip()
    return text


def _without_escapes(text: str) -> str:
    """Return the text with line breaks and quotes that were escaped, for example in JSON or an environment variable."""
    return _ESCAPED_QUOTE.sub('"', _ESCAPED_LINE_BREAK.sub("\n", text))


def _blocks(text: str) -> Iterator[_Block]:
    for begin, end in pairwise(_MARKER.finditer(text)):
        if (begin[1], end[1], begin[2]) == ("BEGIN", "END", end[2]):
            yield _Block(begin[2], text[begin.end() : end.start()])


def _from_pem(body: str) -> PrivateKeyTypes:
    """Load a private key: PKCS #8, PKCS #1 or SEC 1.

    OpenSSL and PyJWT would check the primes of an RSA key, which takes 5 s for 8192 bits and minutes for a crafted key:
    the event loop would be blocked and the Lease lost. Without the check, the issuer refuses signatures of an invalid
    key.
    """
    if "ENCRYPTED" in body:
        raise UnusableKeyError(_ENCRYPTED)
    if len(body) > _MAX_KEY_LENGTH:
        raise UnusableKeyError(f"a private key of {len(body)} characters; RSA keys may have at most 4096 bits")
    try:
        encoded = _decoded(body)
        if any(algorithm in encoded for algorithm in _SLOW_ALGORITHMS):
            raise UnusableKeyError("a DSA or Diffie-Hellman key, which cannot sign JWTs")
        key = load_der_private_key(encoded, None, unsafe_skip_rsa_key_validation=True)
    except (UnsupportedAlgorithm, InternalError, ValueError, TypeError):
        # Not "from error": the original message may contain a line of the key.
        raise UnusableKeyError("a private key that is damaged, or of a kind that is not supported") from None
    return _checked(key)


def _checked(key: PrivateKeyTypes) -> PrivateKeyTypes:
    if isinstance(key, RSAPrivateKey):
        private = key.private_numbers()
        numbers = (private.p, private.q, private.d, private.dmp1, private.dmq1, private.iqmp)
        if max(key.key_size, *(number.bit_length() for number in numbers)) > _MAX_KEY_BITS:
            raise UnusableKeyError("an RSA key of more than 4096 bits")
        public, largest = private.public_numbers, max(private.p, private.q).bit_length()
        # With larger numbers, a signature takes up to 75 ms.
        is_usual = largest <= key.key_size // 2 + _MAX_DIFFERENCE_BITS and public.e.bit_length() <= _MAX_EXPONENT_BITS
        if not is_usual or private.p * private.q != public.n:
            raise UnusableKeyError("an RSA key with inconsistent or unusually large numbers")
    return key


def _from_json(members: Mapping[str, Any] | None, key_id: str | None) -> ClientKey:
    if members is None:
        raise UnusableKeyError("invalid JSON")
    if isinstance(members.get("keys"), list):
        return _from_jwk(_chosen([jwk for jwk in members["keys"] if isinstance(jwk, dict)], key_id))
    if "private_key" in members:
        raise UnusableKeyError("a JSON file with a private key in it: store only the value of private_key")
    if "kty" not in members:
        raise UnusableKeyError("JSON that is not a JWK")
    return _from_jwk(members)


def _chosen(jwks: Sequence[Mapping[str, Any]], key_id: str | None) -> Mapping[str, Any]:
    """Choose the key of a JWK set: by its ID, or the only private key that may sign.

    Keys of different kinds may have the same ID (RFC 7517 section 4.5), and so may a private key and its public key.
    """
    named, which = jwks, "that can sign"
    if key_id is not None:
        named, which = [jwk for jwk in jwks if jwk.get("kid") == key_id], "with the ID in keyId"
    chosen = [jwk for jwk in named if "d" in jwk and _may_sign(jwk)]
    if not chosen and key_id is not None:
        # A key that is named is loaded even if it does not look suitable, so that the error describes it.
        chosen = list(named)
    if not chosen:
        raise UnusableKeyError(f"a JWK set without a private key {which}")
    if len(chosen) > 1:
        raise UnusableKeyError(f"a JWK set with {len(chosen)} private keys {which}: set keyId to the `kid` of one")
    return chosen[0]


def _may_sign(jwk: Mapping[str, Any]) -> bool:
    """Whether the members of a JWK (RFC 7517 sections 4.2 to 4.4) and its curve allow signatures."""
    operations = jwk.get("key_ops")
    return (
        jwk.get("use", "sig") == "sig"
        and (not isinstance(operations, list) or "sign" in operations)
        and not str(jwk.get("alg", "")).startswith(_ENCRYPTION_ALGORITHMS)
        and jwk.get("crv") not in _KEY_AGREEMENT_CURVES
    )


def _from_jwk(jwk: Mapping[str, Any]) -> ClientKey:
    kind, key_id, algorithm, chain = (jwk.get(name) for name in ("kty", "kid", "alg", "x5c"))
    if kind == "oct":
        raise UnusableKeyError("a symmetric JWK (oct): if it is the client secret, use clientSecretFrom")
    if kind not in ("RSA", "EC", "OKP"):
        raise UnusableKeyError("a JWK of an unknown kind (kty)")
    if "d" not in jwk:
        raise UnusableKeyError("a public JWK: the client signs with the private key")
    try:
        key = _rsa_key(jwk) if kind == "RSA" else (ECAlgorithm if kind == "EC" else OKPAlgorithm).from_jwk(dict(jwk))
        certificates = tuple(load_der_x509_certificate(_decoded(certificate)) for certificate in chain or ())
    except (jwt.PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, AttributeError):
        raise UnusableKeyError("a JWK that is damaged or incomplete") from None
    return ClientKey(
        key=_checked(key),  # type: ignore[arg-type]
        key_id=key_id if isinstance(key_id, str) else None,
        algorithm=algorithm if isinstance(algorithm, str) else None,
        certificates=certificates,
    )


def _rsa_key(jwk: Mapping[str, Any]) -> RSAPrivateKey:
    """Load an RSA JWK (RFC 7518 section 6.3), unlike PyJWT without checking the primes."""
    names = ("p", "q", "d", "dp", "dq", "qi", "e", "n")
    if "oth" in jwk or any(name not in jwk for name in names):
        # Finding the primes would take many seconds.
        raise UnusableKeyError(f"an RSA JWK without exactly two primes: it must have {', '.join(names)}")
    numbers = [jwk[name] for name in names]
    if any(len(number) > _MAX_NUMBER_LENGTH for number in numbers):
        raise UnusableKeyError("an RSA key of more than 4096 bits")
    p, q, d, dp, dq, qi, e, n = (int.from_bytes(base64.urlsafe_b64decode(f"{number}==")) for number in numbers)
    private_numbers = RSAPrivateNumbers(p, q, d, dp, dq, qi, RSAPublicNumbers(e, n))
    return private_numbers.private_key(unsafe_skip_rsa_key_validation=True)


def _certificates(blocks: Iterator[_Block] | Sequence[_Block]) -> tuple[Certificate, ...]:
    try:
        return tuple(load_der_x509_certificate(_decoded(body)) for label, body in blocks if label == "CERTIFICATE")
    except (UnsupportedAlgorithm, ValueError):
        raise UnusableKeyError("a certificate that is damaged") from None


def _decoded(text: str) -> bytes:
    """Decode base64 or base64url, with any white space in it and with or without padding. Raises ValueError."""
    text = "".join(text.split()).translate({ord("-"): "+", ord("_"): "/"}).rstrip("=")
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def _describe(text: str, blocks: Sequence[_Block], keys: int) -> str:
    """Describe a text that does not contain exactly one private key in PEM."""
    if keys:
        return f"{keys} private keys: store only one"
    if other := next((_OTHER_LABELS[label] for label, _ in blocks if label in _OTHER_LABELS), None):
        return other
    if "-----BEGIN" in text:
        return "PEM that is incomplete or damaged: it must have matching BEGIN and END lines"
    if prefix := next((prefix for prefix in _PREFIXES if text.startswith(prefix)), None):
        return _PREFIXES[prefix]
    return _describe_base64(text)


def _describe_base64(text: str) -> str:
    try:
        content = _decoded(text)
    except ValueError:
        content = b""
    if b"-----BEGIN" in content or content.lstrip().startswith(b"{"):
        return "the base64 encoding of a PEM file or JWK: store the file itself; kubectl and stringData encode it"
    binary = describe_der(content)
    if binary == PRIVATE_KEY:
        return "the body of a PEM file without its BEGIN and END lines"
    return f"{binary} in base64: convert it to a private key in PEM" if binary else "no private key in PEM or JWK"
