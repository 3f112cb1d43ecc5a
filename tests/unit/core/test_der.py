from keyturn.core.der import count_elements, describe_der, is_element
from tests.support.cases import cases
from tests.support.client_key_forms import BINARY


@cases("content, description", BINARY)
def test_binary_key_or_certificate_is_recognized(content: bytes, description: str | None) -> None:
    assert describe_der(content) == description


@cases(
    "content, expected",
    {
        "an element": (b"\x30\x01\x00", True),
        "an element in the long form": (b"\x30\x81\x01\x00", True),
        "two elements": (b"\x30\x01\x00\x30\x01\x00", False),
        "an incomplete element": (b"\x30\x02\x00", False),
        "an element of indefinite length": (b"\x30\x80\x00\x00", False),
        "nothing": (b"", False),
        "a single byte": (b"\x30", False),
    },
)
def test_single_element_is_recognized(content: bytes, *, expected: bool) -> None:
    assert is_element(content) is expected


@cases(
    "content, number",
    {
        "one element": (b"\x02\x01\x07", 1),
        "a sequence of two": (b"\x30\x04\x05\x00\x05\x00", 3),
        "names in an extension": (b"\x30\x0b\x06\x01\x2a\x04\x06\x30\x04\x82\x00\x82\x00", 6),
        "a sequence of indefinite length": (b"\x30\x80\x05\x00\x05\x00\x00\x00", 4),
        "an incomplete element": (b"\x30\x04\x05\x00\x05", 2),
        "an element that is longer than its sequence": (b"\x30\x02\x05\x02", 2),
        "a sequence of indefinite length in another": (b"\x30\x0c\x30\x08\x30\x80" + 4 * b"\x05\x00", 7),
        "names of indefinite length in an extension": (b"\x30\x0c\x04\x08\x30\x80" + 3 * b"\x82\x00" + b"\x05\x00", 7),
        "an octet string in pieces": (b"\x30\x0a\x24\x08\x04\x02\x30\x04\x04\x02\x82\x00", 6),
        "an octet string in pieces that look like one element": (b"\x30\x0b\x24\x09\x04\x07\x82\x05" + 5 * b"\0", 6),
        "a tag of two bytes": (b"\x30\x06\x3f\x20\x30\x02\x05\x00", 4),
        "a tag of two bytes that looks like tag and length": (b"\x30\x08\x9f\x06\x00\x82\x00\x82\x01\x00", 5),
        "a name of indefinite length": (b"\x30\x08\x82\x80" + 3 * b"\x82\x00", 5),
        "nothing": (b"", 0),
        "more than the limit": (b"\x30\x14" + 10 * b"\x05\x00", 8),
    },
)
def test_elements_at_any_depth_are_counted(content: bytes, number: int) -> None:
    assert count_elements(content, 8) == number
