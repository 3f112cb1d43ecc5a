import configparser
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.configloader import raw_config_parse
from botocore.credentials import ProcessProvider, SharedCredentialProvider
from hypothesis import given
from hypothesis import strategies as st

from keyturn.core.formats.registry import expiry, render
from keyturn.core.pipeline_values import Credentials, PipelineValues, Token, safe
from tests.support.dependencies import ACCESS_TOKEN, HOUR, MINUTE, NOW, request
from tests.support.manifest_text import writing

KEYS = Credentials("ASIA1", "secret/key+", "session==", NOW + HOUR)
HELD = PipelineValues(Token("refresh"), Token("access", NOW + 30 * MINUTE), credentials=KEYS)
VALUE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters='"\\'), min_size=1)
# botocore looks at the real clock, and has no use for what has expired.
CREDENTIALS = st.builds(Credentials, VALUE, VALUE, st.none() | VALUE, st.just(NOW.replace(year=9000)))
PROFILE = st.from_regex(r"^[-A-Za-z0-9_.@]{1,64}\Z")


def rendered(*formats: dict[str, Any], held: PipelineValues = HELD, region: str | None = "us-east-1") -> dict[str, str]:
    return render(writing(*formats, region=region), held)


def without_session() -> PipelineValues:
    return PipelineValues(credentials=Credentials("AKIA1", "secret"))


def test_env() -> None:
    assert rendered({"env": {}}) == {
        "AWS_ACCESS_KEY_ID": "ASIA1",
        "AWS_SECRET_ACCESS_KEY": "secret/key+",
        "AWS_SESSION_TOKEN": "session==",
        "AWS_REGION": "us-east-1",
        "expiration": "2026-01-02T04:04:05Z",
    }


def test_env_leaves_out_what_there_is_not() -> None:
    data = rendered({"env": {}}, held=without_session(), region=None)

    assert data == {"AWS_ACCESS_KEY_ID": "AKIA1", "AWS_SECRET_ACCESS_KEY": "secret"}


def test_credential_process() -> None:
    assert json.loads(rendered({"credentialProcess": {}})["credentials.json"]) == {
        "Version": 1,
        "AccessKeyId": "ASIA1",
        "SecretAccessKey": "secret/key+",
        "SessionToken": "session==",
        "Expiration": "2026-01-02T04:04:05Z",
    }


def test_credentials_file() -> None:
    assert rendered({"credentialsFile": {"profile": "me"}})["credentials"] == (
        "[me]\naws_access_key_id = ASIA1\naws_secret_access_key = secret/key+\naws_session_token = session==\n"
    )


def test_token_is_the_newest_without_a_newline() -> None:
    assert rendered({"token": {}}) == {"token": "access", "expiration": "2026-01-02T03:34:05Z"}


@pytest.mark.parametrize("name", ["credentialProcess", "credentialsFile", "token", "webIdentityToken"])
def test_the_key_is_the_one_that_was_asked_for(name: str) -> None:
    assert rendered({name: {"key": "other"}}).keys() == {"other", "expiration"}


@pytest.mark.parametrize("name", ["env", "credentialProcess", "credentialsFile", "token"])
def test_no_key_that_is_written_is_unknown_to_the_format(name: str) -> None:
    wanted = writing({name: {}})

    assert render(wanted, HELD).keys() == {*wanted.spec.formats[0].options.keys, "expiration"}


@pytest.mark.parametrize(
    ("formats", "expires"),
    [
        pytest.param([{"env": {}}], NOW + HOUR, id="credentials"),
        pytest.param([{"token": {}}], NOW + 30 * MINUTE, id="a token"),
        pytest.param([{"env": {}}, {"token": {}}], NOW + 30 * MINUTE, id="the earlier of both"),
    ],
)
def test_expiry_is_the_earliest_of_what_is_held(formats: list[dict[str, Any]], expires: datetime) -> None:
    assert expiry(request(target={"formats": formats}).spec.formats, HELD) == expires


def test_nothing_ends_where_nobody_says_when() -> None:
    formats = request(exchanges=[ACCESS_TOKEN]).spec.formats

    assert expiry(formats, PipelineValues(Token("refresh"))) is None


def test_credentials_that_no_exchange_gives_are_a_bug() -> None:
    with pytest.raises(AssertionError, match="no exchange gives them"):
        rendered({"env": {}}, held=PipelineValues(Token("refresh")))


@given(CREDENTIALS, PROFILE)
def test_any_credentials_come_back_from_a_credentials_file(given: Credentials, profile: str) -> None:
    text = rendered({"credentialsFile": {"profile": profile}}, held=PipelineValues(credentials=given))["credentials"]
    parser = configparser.RawConfigParser(default_section="")
    parser.read_string(text)
    found = parser[profile]

    assert (found["aws_access_key_id"], found["aws_secret_access_key"]) == (
        given.access_key_id,
        given.secret_access_key,
    )
    assert found.get("aws_session_token") == given.session_token


@given(CREDENTIALS)
def test_any_credentials_come_back_from_credential_process(given: Credentials) -> None:
    text = rendered({"credentialProcess": {}}, held=PipelineValues(credentials=given))["credentials.json"]
    found = ProcessProvider("p", lambda: {"profiles": {"p": {"credential_process": "cat"}}}, _Cat(text).popen)
    loaded = found.load()

    assert loaded
    assert tuple(loaded.get_frozen_credentials())[:3] == (
        given.access_key_id,
        given.secret_access_key,
        given.session_token,
    )


@given(VALUE)
def test_every_value_that_is_safe_is_rendered_as_it_is(value: str) -> None:
    assert rendered({"token": {}}, held=PipelineValues(Token(safe(value, "it"))))["token"] == value


@pytest.mark.parametrize("given", [KEYS, Credentials("#;%[a]", "'=%(x)s", ";#${x}", NOW), Credentials("AKIA1", "=")])
def test_botocore_reads_the_credentials_file(given: Credentials, tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    path.write_text(rendered({"credentialsFile": {}}, held=PipelineValues(credentials=given))["credentials"])
    found = SharedCredentialProvider(str(path), ini_parser=raw_config_parse).load()

    assert found
    assert (found.access_key, found.secret_key, found.token) == (
        given.access_key_id,
        given.secret_access_key,
        given.session_token,
    )


class _Cat:
    """What botocore runs for `credential_process = cat FILE`, without a process."""

    returncode = 0

    def __init__(self, text: str) -> None:
        self._text = text

    def popen(self, *_: object, **__: object) -> "_Cat":
        return self

    def communicate(self) -> tuple[bytes, bytes]:
        return self._text.encode(), b""
