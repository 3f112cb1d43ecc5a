from keyturn.core.der import describe_der, is_element
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
