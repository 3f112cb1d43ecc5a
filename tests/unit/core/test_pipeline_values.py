from collections.abc import Callable

import pytest

from keyturn.core.errors import RefusedError
from keyturn.core.pipeline_values import (
    MAX_VALUE_LENGTH,
    Credentials,
    PipelineValues,
    Token,
    check_lengths,
    parse_source,
    require_safe,
    unwrap,
)

TOO_LONG = "x" * (MAX_VALUE_LENGTH + 1)


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
        pytest.param("token", id="plain"),
        pytest.param("token\n", id="by echo"),
        pytest.param('"token"\n', id="by jq without -r"),
        pytest.param("'token'", id="in single quotes"),
        pytest.param(' " token " ', id="in quotes with spaces on both sides"),
        pytest.param("\ttoken\r\n", id="with tabs and a Windows newline"),
    ],
)
def test_token_is_unwrapped(stored: str) -> None:
    assert unwrap(stored, "the token") == "token"


@pytest.mark.parametrize("read", [require_safe, unwrap])
def test_long_value_is_refused(read: Callable[[str, str], str]) -> None:
    assert read("x" * MAX_VALUE_LENGTH, "the token") == "x" * MAX_VALUE_LENGTH
    with pytest.raises(RefusedError, match=r"^the token has 20001 characters; at most 20000 are allowed$") as error:
        read("x" * (MAX_VALUE_LENGTH + 1), "the token")

    assert error.value.reason == "SourceInvalid"


def test_long_access_key_id_is_refused() -> None:
    keys = {"AWS_ACCESS_KEY_ID": "A" * 129, "AWS_SECRET_ACCESS_KEY": "x" * 40}
    with pytest.raises(RefusedError, match=r"^AWS_ACCESS_KEY_ID has 129 characters; at most 128 are allowed$") as error:
        parse_source(None, keys)

    assert error.value.reason == "SourceInvalid"
    assert parse_source(None, keys | {"AWS_ACCESS_KEY_ID": "A" * 128}).credentials


@pytest.mark.parametrize(
    ("values", "what"),
    [
        pytest.param(PipelineValues(access_token=Token(TOO_LONG)), "an access token", id="an access token"),
        pytest.param(PipelineValues(id_token=Token(TOO_LONG)), "an ID token", id="an ID token"),
        pytest.param(PipelineValues(identity_context=TOO_LONG), "an identity context", id="an identity context"),
        pytest.param(PipelineValues(principal="x" * 2049), "a principal", id="a principal"),
        pytest.param(PipelineValues(token_id="x" * 2049), "a token ID", id="a token ID"),
        pytest.param(PipelineValues(identity_id="x" * 2049), "an identity ID", id="an identity ID"),
    ],
)
def test_long_result_of_an_exchange_is_refused_by_name(values: PipelineValues, what: str) -> None:
    with pytest.raises(RefusedError, match=f"^an exchange returned {what} of ") as error:
        check_lengths(values)

    assert error.value.reason == "InvalidSpec"
    check_lengths(PipelineValues(access_token=Token(TOO_LONG[1:]), principal="x" * 2048))


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
