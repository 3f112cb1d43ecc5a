import configparser
import json
import shlex
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.configloader import load_config, raw_config_parse
from botocore.credentials import ProcessProvider, SharedCredentialProvider
from botocore.session import Session
from hypothesis import given, settings
from hypothesis import strategies as st

from keyturn.core.formats.registry import expiry, render
from keyturn.core.pipeline_values import Credentials, PipelineValues, Token, require_safe
from tests.support.dependencies import ACCESS_TOKEN, HOUR, MINUTE, NOW, request
from tests.support.manifest_text import with_formats
from tests.support.pipeline_values import CREDENTIALS, SAFE_TEXTS, VALUES, rendered

LONG_LIVED = PipelineValues(credentials=Credentials("AKIA1", "secret"))
# botocore compares with the real clock and refuses expired credentials.
SESSIONS = st.builds(Credentials, SAFE_TEXTS, SAFE_TEXTS, st.none() | SAFE_TEXTS, st.just(NOW.replace(year=9000)))
PROFILES = st.from_regex(r"^[-A-Za-z0-9_.@]{1,64}\Z")


def test_env_writes_the_variables() -> None:
    assert rendered({"env": {}}) == {
        "AWS_ACCESS_KEY_ID": "ASIA1",
        "AWS_SECRET_ACCESS_KEY": "secret/key+",
        "AWS_SESSION_TOKEN": "session==",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "expiration": "2026-01-02T04:04:05Z",
    }


def test_botocore_finds_the_region_of_env(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in rendered({"env": {}}).items():
        monkeypatch.setenv(name, value)

    assert Session().get_config_variable("region") == "us-east-1"


def test_env_omits_variables_without_a_value() -> None:
    data = rendered({"env": {}}, values=LONG_LIVED, region=None)

    assert data == {"AWS_ACCESS_KEY_ID": "AKIA1", "AWS_SECRET_ACCESS_KEY": "secret"}


def test_credential_process_writes_version_1() -> None:
    assert json.loads(rendered({"credentialProcess": {}})["credentials.json"]) == {
        "Version": 1,
        "AccessKeyId": "ASIA1",
        "SecretAccessKey": "secret/key+",
        "SessionToken": "session==",
        "Expiration": "2026-01-02T04:04:05Z",
    }


def test_credentials_file_has_the_profile() -> None:
    assert rendered({"credentialsFile": {"profile": "me"}})["credentials"] == (
        "[me]\naws_access_key_id = ASIA1\naws_secret_access_key = secret/key+\naws_session_token = session==\n"
    )


@pytest.mark.parametrize(("name", "key"), [("token", "token"), ("webIdentityToken", "web_identity_token")])
def test_token_formats_write_no_newline(name: str, key: str) -> None:
    assert rendered({name: {}}) == {key: "access==", "expiration": "2026-01-02T03:34:05Z"}


@pytest.mark.parametrize("name", ["env", "credentialProcess", "credentialsFile", "token", "webIdentityToken"])
def test_format_writes_the_keys_that_it_declares(name: str) -> None:
    own, other = with_formats({name: {}}), with_formats({name: {"key": "other"} if name != "env" else {}})

    for request_with_format in (own, other):
        keys = request_with_format.spec.formats[0].options.keys
        assert render(request_with_format, VALUES).keys() == {*keys, "expiration"}


@pytest.mark.parametrize(
    ("formats", "expires"),
    [
        pytest.param([{"env": {}}], NOW + HOUR, id="credentials"),
        pytest.param([{"token": {}}], NOW + 30 * MINUTE, id="a token"),
        pytest.param([{"env": {}}, {"token": {}}], NOW + 30 * MINUTE, id="both"),
    ],
)
def test_expiry_is_the_earliest_of_the_rendered_values(formats: list[dict[str, Any]], expires: datetime) -> None:
    assert expiry(request(target={"formats": formats}).spec.formats, VALUES) == expires


def test_expiry_is_none_if_no_value_expires() -> None:
    formats = request(exchanges=[ACCESS_TOKEN]).spec.formats

    assert expiry(formats, PipelineValues(Token("refresh"))) is None


def test_missing_credentials_are_an_assertion_error() -> None:
    with pytest.raises(AssertionError, match="no exchange provides them"):
        rendered({"env": {}}, values=PipelineValues(Token("refresh")))


@settings(max_examples=50)
@given(SESSIONS, PROFILES)
def test_configparser_reads_any_credentials_file_back(credentials: Credentials, profile: str) -> None:
    data = rendered({"credentialsFile": {"profile": profile}}, values=PipelineValues(credentials=credentials))
    parser = configparser.RawConfigParser(default_section="")
    parser.read_string(data["credentials"])

    assert [parser[profile].get(f"aws_{name}") for name in ("access_key_id", "secret_access_key", "session_token")] == [
        credentials.access_key_id,
        credentials.secret_access_key,
        credentials.session_token,
    ]


@settings(max_examples=50)
@given(SESSIONS)
def test_botocore_reads_any_credential_process_back(credentials: Credentials) -> None:
    text = rendered({"credentialProcess": {}}, values=PipelineValues(credentials=credentials))["credentials.json"]
    profiles = {"profiles": {"p": {"credential_process": "cat"}}}
    loaded = ProcessProvider("p", lambda: profiles, _Cat(text).popen).load()

    assert loaded
    assert tuple(loaded.get_frozen_credentials())[:3] == (
        credentials.access_key_id,
        credentials.secret_access_key,
        credentials.session_token,
    )


@settings(max_examples=50)
@given(SAFE_TEXTS)
def test_token_is_rendered_unchanged(value: str) -> None:
    assert rendered({"token": {}}, values=PipelineValues(Token(require_safe(value, "it"))))["token"] == value


@pytest.mark.parametrize(
    "credentials",
    [VALUES.credentials, Credentials("#;%[a]", "'=%(x)s", ";#${x}", NOW), Credentials("AKIA1", "=")],
)
def test_botocore_reads_the_credentials_file_back(credentials: Credentials, tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    path.write_text(rendered({"credentialsFile": {}}, values=PipelineValues(credentials=credentials))["credentials"])
    loaded = SharedCredentialProvider(str(path), ini_parser=raw_config_parse).load()

    assert loaded
    assert (loaded.access_key, loaded.secret_key, loaded.token) == (
        credentials.access_key_id,
        credentials.secret_access_key,
        credentials.session_token,
    )


class _Cat:
    """Stands in for the process that botocore starts for `credential_process = cat FILE`."""

    returncode = 0

    def __init__(self, text: str) -> None:
        self._text = text

    def popen(self, *_: object, **__: object) -> "_Cat":
        return self

    def communicate(self) -> tuple[bytes, bytes]:
        return self._text.encode(), b""


PATHS = st.from_regex(r"(/[-A-Za-z0-9_.+@]{1,60}){1,8}", fullmatch=True)
SECRET_KEYS = st.from_regex(r"[.]?[-_A-Za-z0-9][-._A-Za-z0-9]{0,50}", fullmatch=True).filter(
    lambda key: key not in ("config", "expiration") and not key.startswith("AWS_")
)


def test_default_profile_reads_the_mounted_secret() -> None:
    assert rendered({"credentialProcess": {}}, {"awsConfig": {}})["config"] == (
        "[default]\nregion = us-east-1\ncredential_process = cat /var/run/secrets/keyturn/acme/credentials.json\n"
    )


def test_path_follows_secret_name_and_first_key() -> None:
    request = with_formats({"awsConfig": {"key": "it"}}, {"credentialProcess": {"key": "a"}}, {"credentialProcess": {}})
    text = render(replace(request, secret_name="other"), VALUES)["it"]

    assert text.endswith("credential_process = cat /var/run/secrets/keyturn/other/a\n")


def test_region_is_omitted_if_the_spec_has_none() -> None:
    data = rendered({"credentialProcess": {}}, {"awsConfig": {"mountPath": "/aws"}}, region=None)

    assert data["config"] == "[default]\ncredential_process = cat /aws/credentials.json\n"


@settings(max_examples=30)
@given(path=PATHS, key=SECRET_KEYS)
def test_config_parser_and_shell_read_the_path_back(path: str, key: str) -> None:
    text = rendered({"credentialProcess": {"key": key}}, {"awsConfig": {"mountPath": path}})["config"]
    parser = configparser.RawConfigParser()
    parser.read_string(text)

    assert shlex.split(parser["default"]["credential_process"]) == ["cat", f"{path}/{key}"]


def test_botocore_finds_region_and_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = replace(VALUES, credentials=replace(CREDENTIALS, expires_at=NOW.replace(year=9000)))
    data = rendered({"credentialProcess": {}}, {"awsConfig": {"mountPath": str(tmp_path)}}, values=values)
    for name, text in data.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    session = Session()
    credentials = session.get_credentials()

    assert session.get_config_variable("region") == "us-east-1"
    assert credentials
    assert tuple(credentials.get_frozen_credentials())[:3] == ("ASIA1", "secret/key+", "session==")
    assert load_config(str(tmp_path / "config"))["profiles"].keys() == {"default"}


def test_config_file_has_no_expiry_of_its_own() -> None:
    values = replace(VALUES, credentials=Credentials("AKIA1", "secret"))
    data = rendered({"awsConfig": {}}, {"credentialProcess": {}}, values=values)

    assert json.loads(data["credentials.json"])
    assert "expiration" not in data
