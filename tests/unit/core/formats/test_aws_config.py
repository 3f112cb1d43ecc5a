import configparser
import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from botocore.configloader import load_config
from botocore.session import Session
from hypothesis import given
from hypothesis import strategies as st

from keyturn.core.formats.registry import render
from keyturn.core.pipeline_values import Credentials
from tests.support.dependencies import NOW
from tests.support.manifest_text import writing
from tests.support.pipeline_values import HELD, KEYS, rendered

PATHS = st.from_regex(r"(/[-A-Za-z0-9_.+@]+)+", fullmatch=True).filter(lambda it: len(it) <= 512)
KEYS_OF_SECRETS = st.from_regex(r"[.]?[-_A-Za-z0-9][-._A-Za-z0-9]{0,50}", fullmatch=True).filter(
    lambda it: it not in ("config", "expiration") and not it.startswith("AWS_")
)


def test_aws_config() -> None:
    assert rendered({"credentialProcess": {}}, {"awsConfig": {}})["config"] == (
        "[default]\nregion = us-east-1\ncredential_process = cat /var/run/secrets/keyturn/acme/credentials.json\n"
    )


def test_it_goes_by_the_name_of_the_secret_and_the_key_of_the_file() -> None:
    made = writing({"awsConfig": {"key": "it"}}, {"credentialProcess": {"key": "a"}}, {"credentialProcess": {}})
    text = render(replace(made, secret_name="other"), HELD)["it"]

    assert text.endswith("credential_process = cat /var/run/secrets/keyturn/other/a\n")


def test_without_a_region() -> None:
    made = writing({"credentialProcess": {}}, {"awsConfig": {"mountPath": "/aws"}}, region=None)

    assert render(made, HELD)["config"] == "[default]\ncredential_process = cat /aws/credentials.json\n"


@given(path=PATHS, key=KEYS_OF_SECRETS)
def test_a_config_reader_and_a_shell_read_the_path_back(path: str, key: str) -> None:
    text = rendered({"credentialProcess": {"key": key}}, {"awsConfig": {"mountPath": path}})["config"]
    parser = configparser.RawConfigParser()
    parser.read_string(text)

    assert shlex.split(parser["default"]["credential_process"]) == ["cat", f"{path}/{key}"]


def test_botocore_finds_region_and_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = replace(HELD, credentials=replace(KEYS, expires_at=NOW.replace(year=9000)))
    data = rendered({"credentialProcess": {}}, {"awsConfig": {"mountPath": str(tmp_path)}}, held=held)
    for name, text in data.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    session = Session()
    found = session.get_credentials()

    assert session.get_config_variable("region") == "us-east-1"
    assert found
    assert tuple(found.get_frozen_credentials())[:3] == (KEYS.access_key_id, KEYS.secret_access_key, "session==")
    assert load_config(str(tmp_path / "config"))["profiles"].keys() == {"default"}


def test_a_token_for_an_sdk_has_no_newline() -> None:
    assert rendered({"webIdentityToken": {}}) == {
        "web_identity_token": "access==",
        "expiration": "2026-01-02T03:34:05Z",
    }


def test_a_config_file_does_not_end_by_itself() -> None:
    held = replace(HELD, credentials=Credentials("AKIA1", "secret"))

    assert json.loads(rendered({"awsConfig": {}}, {"credentialProcess": {}}, held=held)["credentials.json"])
    assert "expiration" not in rendered({"awsConfig": {}}, {"credentialProcess": {}}, held=held)
