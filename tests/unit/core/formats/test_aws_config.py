import configparser
import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from botocore.configloader import load_config
from botocore.session import Session
from hypothesis import given, settings
from hypothesis import strategies as st

from keyturn.core.formats.registry import render
from keyturn.core.pipeline_values import Credentials
from tests.support.dependencies import NOW
from tests.support.manifest_text import with_formats
from tests.support.pipeline_values import CREDENTIALS, VALUES, rendered

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
