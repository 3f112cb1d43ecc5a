"""Private keys of OAuth clients in many forms: those that people store, and those that are not private keys."""

import base64
import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from tests.support.certificates import issue_client_certificate
from tests.support.clock import real_now

KEY, EC_KEY = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())
CERTIFICATE = issue_client_certificate(real_now(), KEY)
OTHER_CERTIFICATE = issue_client_certificate(real_now(), EC_KEY)


def private(key: Any, form: PrivateFormat = PrivateFormat.PKCS8, *, encrypted: bool = False) -> str:
    encryption = BestAvailableEncryption(b"passphrase") if encrypted else NoEncryption()
    return str(key.private_bytes(Encoding.PEM, form, encryption).decode())


def public(key: Any, encoding: Encoding = Encoding.PEM, form: PublicFormat | None = None) -> bytes:
    return bytes(key.public_key().public_bytes(encoding, form or PublicFormat.SubjectPublicKeyInfo))


def in_pem(certificate: Any) -> str:
    return str(certificate.public_bytes(Encoding.PEM).decode())


def in_base64(content: str | bytes) -> str:
    return base64.b64encode(content.encode() if isinstance(content, str) else content).decode()


def jwk_set(*jwks: dict[str, Any]) -> str:
    return json.dumps({"keys": jwks})


def generated(kind: str) -> Any:
    """A new private key of another kind than RSA."""
    curves = {"P-384": ec.SECP384R1(), "P-521": ec.SECP521R1(), "secp256k1": ec.SECP256K1()}
    if kind in curves:
        return ec.generate_private_key(curves[kind])
    kinds = {"Ed25519": ed25519.Ed25519PrivateKey, "X25519": x25519.X25519PrivateKey}
    return kinds[kind].generate()  # type: ignore[attr-defined]


PEM, SEC1 = private(KEY), private(EC_KEY, PrivateFormat.TraditionalOpenSSL)
CERTIFICATE_PEM, OTHER_CERTIFICATE_PEM = in_pem(CERTIFICATE), in_pem(OTHER_CERTIFICATE)
JWK: dict[str, Any] = json.loads(RSAAlgorithm.to_jwk(KEY)) | {"kid": "one", "alg": "PS256"}
PUBLIC_JWK: dict[str, Any] = json.loads(RSAAlgorithm.to_jwk(KEY.public_key())) | {"kid": "one"}
EC_JWK: dict[str, Any] = json.loads(ECAlgorithm.to_jwk(EC_KEY)) | {"kid": "two"}
_DER, _BODY = KEY.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), PEM.splitlines()[1:-1]
_ENCRYPTED_DER = KEY.private_bytes(Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(b"passphrase"))
PKCS12 = serialize_key_and_certificates(b"client", KEY, CERTIFICATE, None, BestAvailableEncryption(b"passphrase"))
_DIFFIE_HELLMAN = bytes.fromhex("301d020100301306092a864886f70d01030130060201170201050403020106")

# Each is the same RSA key.
READABLE = {
    "PKCS #8": PEM,
    "PKCS #1": private(KEY, PrivateFormat.TraditionalOpenSSL),
    "CRLF": PEM.replace("\n", "\r\n"),
    "indented": PEM.replace("\n", "\n    "),
    "spaces for line breaks": PEM.replace("\n", " "),
    "escaped line breaks": PEM.replace("\n", "\\n"),
    "escaped CRLF": PEM.replace("\n", "\\r\\n"),
    "line breaks escaped twice": PEM.replace("\n", "\\\\n"),
    "quoted": f'"{PEM}"',
    "single quotes": f"'{PEM}'\n",
    "quoted and escaped": json.dumps(PEM),
    "byte order mark": f"\ufeff{PEM}",
    "text around it": f"Bag Attributes\n    friendlyName: client\n{PEM}# end\n",
    "certificate before the key": CERTIFICATE_PEM + PEM,
    "certificate after the key": PEM + CERTIFICATE_PEM,
    "public key after the private key": PEM + public(KEY).decode(),
    "JWK": json.dumps(JWK),
    "JWK on many lines": json.dumps(JWK, indent=2),
    "JWK in quotes and escaped": json.dumps(json.dumps(JWK)),
    "JWK set with one key": jwk_set(JWK),
    "JWK set with one private key": jwk_set(PUBLIC_JWK | {"kid": "three"}, JWK),
    "JWK set with one signing key": jwk_set(EC_JWK | {"use": "enc"}, EC_JWK | {"alg": "ECDH-ES"}, JWK),
}
# Each with a part of the message.
UNREADABLE = {
    "encrypted PKCS #8": (private(KEY, encrypted=True), "an encrypted private key: store it without a passphrase"),
    "encrypted PKCS #1": (
        private(KEY, PrivateFormat.TraditionalOpenSSL, encrypted=True),
        "an encrypted private key: store it without a passphrase",
    ),
    "encrypted with escaped line breaks": (
        private(KEY, encrypted=True).replace("\n", "\\n"), "an encrypted private key: store it",
    ),
    "base64 of PEM": (in_base64(PEM), "the base64 encoding of a PEM file or JWK"),
    "base64url of PEM": (in_base64(PEM).rstrip("=").replace("+", "-"), "the base64 encoding of a PEM file or JWK"),
    "base64 of a JWK": (in_base64(json.dumps(JWK)), "the base64 encoding of a PEM file or JWK"),
    "body of PEM": ("\n".join(_BODY), "the body of a PEM file without its BEGIN and END lines"),
    "body of PEM on one line": ("".join(_BODY), "the body of a PEM file without its BEGIN and END lines"),
    "body of SEC 1": ("".join(SEC1.splitlines()[1:-1]), "the body of a PEM file without its BEGIN and END lines"),
    "base64 of encrypted DER": (in_base64(_ENCRYPTED_DER), "an encrypted private key in base64"),
    "base64 of PKCS #12": (in_base64(PKCS12), "a PKCS #12 archive in base64"),
    "base64 of a certificate": (in_base64(CERTIFICATE.public_bytes(Encoding.DER)), "a certificate in base64"),
    "certificate": (CERTIFICATE_PEM, "a certificate without its private key"),
    "public key": (public(KEY).decode(), "a public key"),
    "public key of PKCS #1": (public(KEY, Encoding.PEM, PublicFormat.PKCS1).decode(), "a public key"),
    "public key of OpenSSH": (public(KEY, Encoding.OpenSSH, PublicFormat.OpenSSH).decode(), "a public key"),
    "OpenSSH": (private(KEY, PrivateFormat.OpenSSH), "a key in OpenSSH format: convert it"),
    "DSA in PKCS #8": (private(dsa.generate_private_key(2048)), "a DSA or Diffie-Hellman key, which cannot sign"),
    "Diffie-Hellman": (
        f"-----BEGIN PRIVATE KEY-----\n{in_base64(_DIFFIE_HELLMAN)}\n-----END PRIVATE KEY-----",
        "a DSA or Diffie-Hellman key, which cannot sign",
    ),
    "DSA": ("-----BEGIN DSA PRIVATE KEY-----\nMIIB\n-----END DSA PRIVATE KEY-----", "a DSA key"),
    "PuTTY": ("PuTTY-User-Key-File-3: ssh-rsa\nEncryption: none\n", "a PuTTY key: export it as PEM"),
    "two private keys": (PEM + SEC1, "2 private keys: store only one"),
    "PEM without its end": (PEM[:400], "PEM that is incomplete or damaged"),
    "PEM with a gap": (PEM[:400] + PEM[480:], "a private key that is damaged"),
    "PEM with other characters": (PEM.replace("a", "é"), "a private key that is damaged"),
    "public JWK": (json.dumps(PUBLIC_JWK), "a public JWK"),
    "symmetric JWK": (json.dumps({"kty": "oct", "k": "planted"}), "a symmetric JWK (oct)"),
    "JWK of an unknown kind": (json.dumps({"kty": "AKP", "d": "planted"}), "a JWK of an unknown kind"),
    "JWK without primes": (
        json.dumps({name: JWK[name] for name in ("kty", "n", "e", "d")}), "an RSA JWK without exactly two primes",
    ),
    "JWK with a number": (json.dumps(JWK | {"d": 7}), "a JWK that is damaged or incomplete"),
    "JWK with a long number": (json.dumps(JWK | {"p": "A" * 701}), "an RSA key of more than 4096 bits"),
    "EC JWK without a curve": (json.dumps({"kty": "EC", "d": "AA"}), "a JWK that is damaged or incomplete"),
    "JWK set without a private key": (jwk_set(PUBLIC_JWK), "a JWK set without a private key that can sign"),
    "empty JWK set": (jwk_set(), "a JWK set without a private key that can sign"),
    "JWK set with two keys": (jwk_set(JWK, EC_JWK), "a JWK set with 2 private keys that can sign: set keyId"),
    "JSON with a key in it": (json.dumps({"client_id": "x", "private_key": PEM}), "a JSON file with a private key"),
    "other JSON": ('{"d": "planted"}', "JSON that is not a JWK"),
    "damaged JSON": ('{"d": "planted"', "invalid JSON"),
    "something else": ("planted", "no private key in PEM or JWK"),
    "empty quotes": ('""', "no private key in PEM or JWK"),
}  # fmt: skip
# The contents of binary files.
BINARY = {
    "PKCS #12": (PKCS12, "a PKCS #12 archive"),
    "PKCS #12 of indefinite length": (b"\x30\x80\x02\x01\x03\x30\x80", "a PKCS #12 archive"),
    "certificate": (CERTIFICATE.public_bytes(Encoding.DER), "a certificate"),
    "private key": (_DER, "a private key"),
    "PKCS #1": (KEY.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()), "a private key"),
    "encrypted private key": (_ENCRYPTED_DER, "an encrypted private key"),
    "public key": (public(KEY, Encoding.DER), "a public key"),
    "public key of PKCS #1": (public(KEY, Encoding.DER, PublicFormat.PKCS1), "a public key"),
    "Java keystore": (b"\xfe\xed\xfe\xed\x00\x00\x00\x02", "a Java keystore"),
    "truncated DER": (_DER[:3], None),
    "text": (b"planted", None),
    "nothing": (b"", None),
    "bytes of a length": (b"\x30\xff\xff", None),
}
