"""Decodes JSON from systems that Keyturn does not control."""

import json
import re
from itertools import accumulate
from typing import Any

import msgspec

_MAX_DEPTH = 32
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NO_BRACKETS = bytes(set(range(256)) - _STEPS.keys())
_SURROGATE = re.compile("[\ud800-\udfff]")


def decode_object(text: bytes) -> dict[str, Any] | None:
    """Decode a JSON object; None for anything else, and for an object that is nested deeper than 32 levels.

    The depth is checked before decoding: decoders recurse, and a recursion limit does not bound the size of the stack.
    """
    if text.count(b"[") + text.count(b"{") > _MAX_DEPTH:
        # Without a loop in Python, which would take 5 ms for 20,000 brackets.
        brackets = _STRING.sub(b"", text).translate(None, _NO_BRACKETS)
        if max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) > _MAX_DEPTH:
            return None
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        return _decode_leniently(text)


def decode_response(body: bytes) -> dict[str, Any] | None:
    """Decode a JSON object that may contain a token, which must not be lost because of anything next to it.

    A byte order mark is ignored (RFC 8259 section 8.1), UTF-16 and UTF-32 are read (RFC 4627 section 3), and characters
    in another encoding, for example in a description, are replaced.
    """
    return decode_object(body.decode(json.detect_encoding(body), "replace").encode())


def _decode_leniently(text: bytes) -> dict[str, Any] | None:
    """Decode an object with values that msgspec refuses: a token next to them must not be lost.

    NaN and Infinity become None. All other numbers become floats; 1e400 becomes infinite. Control characters are kept.
    Half of a surrogate pair, as in a name that was cut, becomes U+FFFD, because it cannot be stored.
    """
    try:
        value = json.loads(text.decode(), parse_int=float, parse_constant=lambda _: None, strict=False)
        encoded = json.dumps(value, ensure_ascii=False)
        if _SURROGATE.search(encoded):
            value = json.loads(encoded.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
