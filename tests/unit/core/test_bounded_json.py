import json
import math
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from keyturn.core.bounded_json import decode_object, decode_response


@pytest.fixture
def raised_recursion_limit() -> Iterator[None]:
    """A recursion limit that does not protect the stack."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(40_000)
    yield
    sys.setrecursionlimit(before)


def nested(levels: int) -> bytes:
    return b'{"a":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


def test_object_is_decoded() -> None:
    text = b'{"a": [1, {"b": null}], "c": "[[[[{{{{\\"[[[["}'

    assert decode_object(text) == json.loads(text)


@pytest.mark.parametrize(
    ("number", "value"), [(b"NaN", None), (b"-Infinity", None), (b"1e400", math.inf), (b"9" * 5000, math.inf)]
)
def test_odd_number_does_not_spoil_the_other_members(number: bytes, value: float | None) -> None:
    assert decode_object(b'{"a": %b, "b": "\xc3\xa9"}' % number) == {"a": value, "b": "é"}


@pytest.mark.parametrize("text", [b'{"a": NaN, "b": "\\x"}', b'{"a": NaN, "b": "\xff"}', b"[NaN]", b"NaN"], ids=repr)
def test_odd_number_does_not_allow_other_mistakes(text: bytes) -> None:
    assert decode_object(text) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param(b"\\ud83d", "\ufffd", id="half of a surrogate pair"),
        pytest.param(b"\\udc00\\ud83d\\ude00", "\ufffd\U0001f600", id="half of a pair before a whole one"),
        pytest.param(b"a\nb\x00", "a\nb\x00", id="control characters"),
    ],
)
def test_odd_text_does_not_spoil_the_other_members(text: bytes, value: str) -> None:
    assert decode_object(b'{"a": "%b", "b": 1}' % text) == {"a": value, "b": 1}


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"null", b"\xff", b'{"a":"\xff"}', b'{"a":"'], ids=repr)
def test_anything_but_an_object_is_none(text: bytes) -> None:
    assert decode_object(text) is None


@pytest.mark.parametrize(
    ("body", "value"),
    [
        pytest.param(b'\xef\xbb\xbf{"a": "b"}', "b", id="a byte order mark"),
        pytest.param('{"a": "\u20ac"}'.encode("utf-16"), "\u20ac", id="UTF-16"),
        pytest.param('{"a": "\u20ac"}'.encode("utf-32-le"), "\u20ac", id="UTF-32 without a byte order mark"),
        pytest.param(b'{"a": "\xe9"}', "\ufffd", id="another encoding"),
    ],
)
def test_response_in_another_encoding_is_decoded(body: bytes, value: str) -> None:
    assert decode_response(body) == {"a": value}


def test_object_of_32_levels_is_decoded() -> None:
    assert decode_object(nested(32)) is not None


@pytest.mark.usefixtures("raised_recursion_limit")
@pytest.mark.parametrize(
    "text",
    [
        pytest.param(nested(33), id="33 levels"),
        pytest.param(nested(30_000), id="30,000 levels"),
        pytest.param(b'{"]]]]]]":' + b"[" * 40 + b"]" * 40 + b"}", id="with brackets in a string"),
        pytest.param(b'{"\\"]]]]]]":' + b"[" * 40 + b"]" * 40 + b"}", id="after an escaped quote"),
    ],
)
def test_deep_object_is_none(text: bytes) -> None:
    assert decode_object(text) is None


@pytest.mark.parametrize(
    "text", [b'"\\' * 32768, b'{"' + b'\\"' * 32768, b'"' * 65537], ids=["backslashes", "escaped quotes", "quotes"]
)
def test_unterminated_string_is_scanned_once(text: bytes) -> None:
    assert decode_object(text) is None


def test_depth_of_many_brackets_is_computed_quickly() -> None:
    """An issuer could otherwise keep the event loop busy with JWTs that it releases to all workers at once."""
    text = b'{"a":[' + b"[]," * 20_000 + b"[]]}"

    def seconds(decode: Callable[[bytes], object]) -> float:
        started = time.thread_time()
        decode(text)
        return time.thread_time() - started

    # With a loop over the brackets in Python, it is 14 times as long.
    assert min(seconds(decode_object) for _ in range(10)) < 6 * min(seconds(json.loads) for _ in range(10))
