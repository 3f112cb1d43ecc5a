from datetime import UTC, datetime, timedelta

import jwt
import pytest

from keyturn.core.errors import RefusedError
from keyturn.core.pipeline_values import Credentials, PipelineValues, Token, jwt_times, safe, unwrapped
from tests.support.dependencies import HOUR, NOW, signed

NOBODY = (None, None)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("eyJhbGciOi.J9.s-_", id="a JWT"),
        pytest.param("abc+/=~", id="base64"),
        pytest.param("!#$%&'()*,:;<>?@[]^`{|}", id="every other sign but quote and backslash"),
    ],
)
def test_a_token_that_no_file_can_misread_is_safe(value: str) -> None:
    assert safe(value, "the token") == value


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("", id="empty"),
        pytest.param("a b", id="a space"),
        pytest.param("a\n", id="a newline at the end"),
        pytest.param('a"b', id="a quote"),
        pytest.param("a\\b", id="a backslash"),
        pytest.param("a\x00b", id="a zero byte"),
        pytest.param("a\x7f", id="a control character"),
        pytest.param("tökén", id="other than ASCII"),
    ],
)
def test_another_is_refused_and_not_repeated(value: str) -> None:
    with pytest.raises(RefusedError) as refused:
        safe(value, "the token")

    assert refused.value.reason == "SourceInvalid"
    assert refused.value.message == "the token is empty or holds characters that no token has"


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param("token", id="as it is"),
        pytest.param("token\n", id="by echo"),
        pytest.param('"token"\n', id="by jq without -r"),
        pytest.param("'token'", id="in single quotes"),
        pytest.param(' " token " ', id="in quotes with spaces on both sides"),
        pytest.param("\ttoken\r\n", id="with tabs and a Windows newline"),
    ],
)
def test_a_token_is_unwrapped(stored: str) -> None:
    assert unwrapped(stored, "the token") == "token"


@pytest.mark.parametrize(
    ("token", "times"),
    [
        pytest.param(signed(NOW, NOW + HOUR), (NOW, NOW + HOUR), id="both"),
        pytest.param(signed(expires=NOW), (None, NOW), id="exp only"),
        pytest.param(signed(), NOBODY, id="neither"),
        pytest.param(signed(exp=1.9), (None, datetime.fromtimestamp(1, UTC)), id="a fraction is cut"),
        pytest.param(signed(exp="soon"), NOBODY, id="a word"),
        pytest.param(signed(exp=None), NOBODY, id="null"),
        pytest.param(signed(exp=10**30), NOBODY, id="a time beyond time"),
        pytest.param(signed(exp=float("inf")), NOBODY, id="infinity"),
        pytest.param(signed(exp=[1]), NOBODY, id="a list"),
        pytest.param("", NOBODY, id="nothing"),
        pytest.param("opaque", NOBODY, id="no JWT"),
        pytest.param("a.b.c", NOBODY, id="something with two dots"),
        pytest.param(jwt.encode({}, "k" * 32, "HS256").replace(".", ".e", 1), NOBODY, id="broken claims"),
    ],
)
def test_the_times_of_a_jwt(token: str, times: tuple[datetime | None, datetime | None]) -> None:
    assert jwt_times(token) == times


def test_the_newest_token_is_the_one_that_was_exchanged() -> None:
    source, access = Token("source"), Token("access")

    assert PipelineValues(source_token=source).newest_token == source
    assert PipelineValues(source_token=source, access_token=access).newest_token == access


def test_without_a_token_an_exchange_is_refused() -> None:
    with pytest.raises(RefusedError, match="needs a token"):
        _ = PipelineValues().newest_token


def test_without_credentials_an_exchange_is_refused() -> None:
    with pytest.raises(RefusedError, match="needs credentials"):
        _ = PipelineValues().own_credentials


def test_nothing_secret_is_in_a_repr() -> None:
    token, keys = Token("planted", NOW + timedelta()), Credentials("AKIA", "planted", "planted")

    assert "planted" not in repr(PipelineValues(source_token=token, access_token=token, credentials=keys))
