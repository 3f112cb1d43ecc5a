"""Recognizes binary keys and certificates (DER, ITU-T X.690) by their first elements, without decoding them."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

_INTEGER, _BIT_STRING, _OCTET_STRING, _OBJECT_ID, _SEQUENCE = 0x02, 0x03, 0x04, 0x06, 0x30
_INDEFINITE, _CONSTRUCTED, _CLASS, _LONG_TAG, _SET = 0x80, 0x20, 0xC0, 0x1F, 0x31
_JAVA_KEYSTORE = b"\xfe\xed\xfe\xed"
PRIVATE_KEY = "a private key"
# The tags of the first two elements; for an integer, also its value: the version of the structure.
_STRUCTURES = {
    (_INTEGER, 0, _SEQUENCE): PRIVATE_KEY,  # PKCS #8, RFC 5208
    (_INTEGER, 1, _SEQUENCE): PRIVATE_KEY,  # RFC 5958
    (_INTEGER, 0, _INTEGER): PRIVATE_KEY,  # PKCS #1, RFC 8017
    (_INTEGER, 1, _OCTET_STRING): PRIVATE_KEY,  # SEC 1, RFC 5915
    (_INTEGER, 3, _SEQUENCE): "a PKCS #12 archive",
    (_SEQUENCE, None, _OCTET_STRING): "an encrypted private key",
    (_SEQUENCE, None, _BIT_STRING): "a public key",
    (_SEQUENCE, None, _SEQUENCE): "a certificate",
}


def describe_der(content: bytes) -> str | None:
    """Return what a file contains, such as "a PKCS #12 archive"; None if it is not recognized."""
    if content.startswith(_JAVA_KEYSTORE):
        return "a Java keystore"
    try:
        [(tag, start, _)] = islice(_elements(content, 0), 1)
        if tag != _SEQUENCE:
            return None
        first, *others = islice(_elements(content, start), 2)
    except (IndexError, ValueError):
        return None
    tag, start, end = first
    if tag == _OBJECT_ID:
        return "a PKCS #7 file"
    version = int.from_bytes(content[start:end]) if tag == _INTEGER else None
    following = others[0][0] if others else None
    is_modulus = tag == _INTEGER and following == _INTEGER and version != 0
    return "a public key" if is_modulus else _STRUCTURES.get((tag, version, following))  # type: ignore[arg-type]


def binary_hint(content: bytes) -> str:
    """Return what a value that is not text contains, to append to a message; empty if it is not recognized."""
    known = describe_der(content)
    return f"; it contains {known} in binary form: convert it to PEM" if known else ""


def is_element(content: bytes) -> bool:
    """Whether the content is exactly one element of definite length."""
    try:
        [(_, _, end)] = islice(_elements(content, 0), 1)
    except IndexError:
        return False
    return end == len(content) and content[1] != _INDEFINITE


def count_elements(content: bytes, limit: int) -> int:
    """Return the number of elements at any depth, also in octet strings, but at most `limit`.

    A part that is not DER counts as one element for every two bytes. OpenSSL also accepts elements of indefinite
    length and strings in pieces, and could find so many in it.
    """
    number, ranges = 0, [(0, len(content))]
    while ranges and number < limit:
        position, end = ranges.pop()
        with suppress(IndexError):
            for tag, start, following in _elements(content, position):
                if following > end or not _is_der(tag, content[position + 1]):
                    break
                number, position = number + 1, following
                if tag & _CONSTRUCTED or tag == _OCTET_STRING:
                    ranges.append((start, following))
                if following == end or number >= limit:
                    break
        number += (end - position) // 2
    return min(number, limit)


def _is_der(tag: int, length: int) -> bool:
    """Whether an element may begin like this in DER, with a tag of one byte."""
    is_string_in_pieces = tag & _CLASS == 0 and tag & _CONSTRUCTED and tag not in (_SEQUENCE, _SET)
    return length != _INDEFINITE and tag & _LONG_TAG != _LONG_TAG and not is_string_in_pieces


def _elements(content: bytes, position: int) -> Iterator[tuple[int, int, int]]:
    """Yield the elements from a position: the tag, and where the value starts and ends. Raises IndexError."""
    while True:
        tag, length, start = content[position], content[position + 1], position + 2
        if length > _INDEFINITE:  # the long form: that many bytes contain the length
            size = length - 0x80
            length, start = int.from_bytes(content[start : start + size]), start + size
        elif length == _INDEFINITE:  # up to an end mark
            length = len(content) - start
        position = start + length
        yield tag, start, position
