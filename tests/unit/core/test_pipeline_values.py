from datetime import UTC, datetime

import jwt
import pytest

from keyturn.core.errors import RefusedError
from keyturn.core.pipeline_values import Credentials, PipelineValues, Token, jwt_times, require_safe, unwrap
from tests.support.dependencies import HOUR, NOW, signed

NEITHER = (None, None)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("eyJhbGciOi.J9.s-_", id="a JWT"),
        pytest.param("abc+/=~", id="base64"),
        pytest.param("!#$%&'()*,:;<>?@[]^`{|}", id="all other characters except quote and backslash"),
    ],
)
def test_safe_value_is_accepted(value: str) -> None:
    assert require_safe(value, "the token") == value


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
        pytest.param("tökén", id="not ASCII"),
    ],
)
def test_unsafe_value_is_refused_without_repeating_it(value: str) -> None:
    with pytest.raises(RefusedError) as error:
        require_safe(value, "the token")

    assert error.value.reason == "SourceInvalid"
    assert error.value.message == "the token is empty or contains characters that are not valid in a token"


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
def test_token_is_unwrapped(stored: str) -> None:
    assert unwrap(stored, "the token") == "token"


@pytest.mark.parametrize(
    ("token", "times"),
    [
        pytest.param(signed(NOW, NOW + HOUR), (NOW, NOW + HOUR), id="both"),
        pytest.param(signed(expires=NOW), (None, NOW), id="exp only"),
        pytest.param(signed(), NEITHER, id="neither"),
        pytest.param(signed(exp=1.9), (None, datetime.fromtimestamp(1, UTC)), id="a fraction is cut"),
        pytest.param(signed(exp="soon"), NEITHER, id="a word"),
        pytest.param(signed(exp=None), NEITHER, id="null"),
        pytest.param(signed(exp=10**30), NEITHER, id="a number that is not a time"),
        pytest.param(signed(exp=float("inf")), NEITHER, id="infinity"),
        pytest.param(signed(exp=[1]), NEITHER, id="a list"),
        pytest.param("", NEITHER, id="nothing"),
        pytest.param("opaque", NEITHER, id="not a JWT"),
        pytest.param("a.b.c", NEITHER, id="something with two dots"),
        pytest.param(jwt.encode({}, "k" * 32, "HS256").replace(".", ".e", 1), NEITHER, id="broken claims"),
    ],
)
def test_jwt_times_are_read_or_none(token: str, times: tuple[datetime | None, datetime | None]) -> None:
    assert jwt_times(token) == times


def test_access_token_takes_precedence_over_source_token() -> None:
    source, access = Token("source"), Token("access")

    assert PipelineValues(source_token=source).current_token == source
    assert PipelineValues(source_token=source, access_token=access).current_token == access


def test_missing_token_is_refused() -> None:
    with pytest.raises(RefusedError, match="needs a token"):
        _ = PipelineValues().current_token


def test_missing_credentials_are_refused() -> None:
    with pytest.raises(RefusedError, match="needs credentials"):
        _ = PipelineValues().signing_credentials


def test_repr_contains_no_secret() -> None:
    token, credentials = Token("planted"), Credentials("AKIA", "planted", "planted")

    assert "planted" not in repr(PipelineValues(source_token=token, access_token=token, credentials=credentials))
