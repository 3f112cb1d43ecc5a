"""Key pairs of OAuth clients."""

import base64

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat


def keys(kind: str) -> tuple[str, str]:
    """Generate a private and a public key in PEM."""
    key = ec.generate_private_key(ec.SECP256R1()) if kind == "ec" else rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return private, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def forged_key(n: int, p: int, q: int, e: int = 65537) -> str:
    """An RSA key (RFC 8017 appendix A.1.2) with inconsistent numbers."""
    numbers = b"".join(_der(2, _integer(number)) for number in (0, n, e, 3, p, q, 1, 1, 1))
    encoded = base64.encodebytes(_der(0x30, numbers)).decode()
    return f"-----BEGIN RSA PRIVATE KEY-----\n{encoded}-----END RSA PRIVATE KEY-----\n"


def _integer(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = size.to_bytes((size.bit_length() + 7) // 8 or 1, "big")
    return bytes([tag]) + (bytes([size]) if size < 128 else bytes([0x80 + len(length)]) + length) + content


RSA, EC = keys("rsa"), keys("ec")
