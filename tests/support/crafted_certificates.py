"""Certificates of 500 bytes that take OpenSSL half a second to decode."""

import base64

# A prime q with q - 1 divisible by a high power of two: a square root modulo q takes 600 * 600 / 2 multiplications.
_PRIME = 133 * 2**600 + 1
_BYTES = (_PRIME.bit_length() + 7) // 8
# A compressed point, of which OpenSSL computes the second coordinate. For 4, it needs nearly all of the steps.
_POINT = b"\x02" + (4).to_bytes(_BYTES)


def crafted_certificate(number: int) -> str:
    """Return a certificate in PEM with explicit parameters of an elliptic curve."""
    field = _sequence(_object_id("2a8648ce3d0101"), _integer(_PRIME))
    curve = _sequence(_encode(0x04, b"\x03"), _encode(0x04, b"\x05"))
    parameters = _sequence(_integer(1), field, curve, _encode(0x04, _POINT), _integer(_PRIME), _integer(1))
    algorithm = _sequence(_object_id("2a8648ce3d0201"), parameters)
    signature_algorithm = _sequence(_object_id("2a8648ce3d040302"))
    name = _sequence(_encode(0x31, _sequence(_object_id("550403"), _encode(0x0C, str(number).encode()))))
    validity = _sequence(_encode(0x17, b"260101000000Z"), _encode(0x17, b"300101000000Z"))
    public_key = _sequence(algorithm, _encode(0x03, b"\0" + _POINT))
    content = _sequence(_integer(number + 1), signature_algorithm, name, validity, name, public_key)
    certificate = _sequence(content, signature_algorithm, _encode(0x03, b"\0\x30\x06\x02\x01\x01\x02\x01\x01"))
    return f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(certificate).decode()}-----END CERTIFICATE-----\n"


def _encode(tag: int, content: bytes) -> bytes:
    """Encode an element of DER."""
    size = len(content)
    length = bytes([size]) if size < 0x80 else b"\x82" + size.to_bytes(2) if size > 0xFF else bytes([0x81, size])
    return bytes([tag]) + length + content


def _sequence(*elements: bytes) -> bytes:
    return _encode(0x30, b"".join(elements))


def _integer(number: int) -> bytes:
    return _encode(0x02, number.to_bytes(number.bit_length() // 8 + 1))


def _object_id(encoded: str) -> bytes:
    return _encode(0x06, bytes.fromhex(encoded))
