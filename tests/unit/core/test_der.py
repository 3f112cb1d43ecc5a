from keyturn.core.der import describe_der
from tests.support.cases import cases
from tests.support.client_key_forms import BINARY


@cases("content, description", BINARY)
def test_binary_key_or_certificate_is_recognized(content: bytes, description: str | None) -> None:
    assert describe_der(content) == description
