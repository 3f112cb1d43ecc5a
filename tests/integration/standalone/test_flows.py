"""Standalone mode as a process, an SDK in front of it and the AWS emulator behind it."""

import json
import time
from pathlib import Path

import boto3
import pytest

from tests.support.cluster.namespace import count_exchanges, token_request
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import CLIENT_ID, OIDC_ROLE_ARN
from tests.support.processes import until
from tests.support.secret_search import find_secrets
from tests.support.standalone_process import Place, ready, renewals, who_am_i

SESSION = "arn:aws:sts::111122223333:assumed-role/LicenseConsumer/default.acme"


@pytest.fixture
def sdk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """boto3 that knows nothing but where to ask."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
    return monkeypatch


def test_an_sdk_goes_on_over_three_renewals(place: Place, aws: Emulator, sdk: pytest.MonkeyPatch) -> None:
    aws.settings(session_seconds=6)
    place.flagship()
    with place.running() as sidecar:
        sdk.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://{sidecar.credentials}/")
        session = boto3.Session()
        until(lambda: ready(sidecar))
        keys: set[str] = set()
        while len(keys) < 4:
            assert who_am_i(aws, session) == SESSION
            found = session.get_credentials()
            assert found
            keys.add(str(found.get_frozen_credentials().access_key))
            time.sleep(0.2)
        assert count_exchanges(aws) == 2 * renewals(sidecar)
        assert sidecar.stop() == 0


def test_files_change_at_once_and_an_sdk_follows_them(place: Place, aws: Emulator, sdk: pytest.MonkeyPatch) -> None:
    aws.settings(session_seconds=6)
    config = {"awsConfig": {"mountPath": str(place.path / "write")}}
    place.flagship(target={"formats": [{"env": {}}, {"credentialProcess": {}}, config]})
    with place.running("write") as sidecar:
        until(lambda: ready(sidecar))
        sdk.setenv("AWS_CONFIG_FILE", str(place.path / "write" / "config"))
        session = boto3.Session()
        first = place.written("AWS_ACCESS_KEY_ID")
        assert json.loads(place.written("credentials.json"))["AccessKeyId"] == first
        assert who_am_i(aws, session) == SESSION
        until(lambda: place.written("AWS_ACCESS_KEY_ID") != first)

        assert who_am_i(aws, session) == SESSION
        assert (place.path / "write" / "credentials.json").stat().st_mode & 0o777 == 0o440


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_restart_exchanges_nothing(place: Place, aws: Emulator, end: str) -> None:
    place.flagship()
    with place.running("write") as sidecar:
        until(lambda: ready(sidecar))
        before = place.ask(sidecar)
        getattr(sidecar, end)()
        sidecar.start()
        until(lambda: ready(sidecar))

        assert place.ask(sidecar) == before
        assert count_exchanges(aws) == 2


def test_while_aws_is_away_what_is_held_is_served(place: Place, aws: Emulator) -> None:
    aws.settings(session_seconds=9)
    place.flagship()
    with place.running() as sidecar:
        until(lambda: ready(sidecar))
        before = place.ask(sidecar)
        aws.fault("AssumeRoleWithWebIdentity", times=None, status=503)
        until(lambda: sidecar.metric('keyturn_request_failed_attempts{name="acme",namespace="default"}'))
        assert place.ask(sidecar) == before
        until(lambda: place.ask(sidecar)[0] == 503)
        _, text = place.ask(sidecar)
        aws.clear_faults()
        until(lambda: place.ask(sidecar)[0] == 200, seconds=70)

    assert json.loads(text)["code"] == "ServiceUnavailable"
    assert "the credentials expired at" in json.loads(text)["message"]


def test_another_manifest_is_followed(place: Place, aws: Emulator) -> None:
    place.flagship()
    with place.running() as sidecar:
        until(lambda: ready(sidecar))
        place.say(token_request(region="eu-west-1", target={"formats": [{"env": {}}]}))
        until(lambda: count_exchanges(aws) == 4)
        place.say({"kind": "Secret"})
        until(lambda: "the previous manifest stays in use" in sidecar.log())

        assert ready(sidecar)
        assert sidecar.log().count("the previous manifest stays in use") == 1


def test_the_projected_token_of_a_service_account(place: Place, aws: Emulator) -> None:
    wanted = {"token": {"serviceAccount": {"name": "app", "audiences": [CLIENT_ID]}}}
    steps = [{"assumeRoleWithWebIdentity": {"roleArn": OIDC_ROLE_ARN}}]
    place.say(token_request(source=wanted, exchanges=steps))
    file = place.path / "service-account-token"
    file.write_text(aws.jwt("somebody-else", subject="demo-user"))
    with place.running("service-account-token") as sidecar:
        until(lambda: "the projected token is for somebody-else" in place.ask(sidecar)[1])
        file.write_text(aws.jwt(CLIENT_ID, subject="demo-user"))

        until(lambda: ready(sidecar), seconds=40)


def test_no_secret_is_told(place: Place, aws: Emulator) -> None:
    place.rotating()
    with place.running("write", "state") as sidecar:
        until(lambda: ready(sidecar))
        aws.fault("oauth:token", code="invalid_request")
        place.put("source", refresh_token=aws.oauth_refresh_token())
        until(lambda: "invalid_request" in sidecar.log())
        place.put("source", refresh_token=aws.oauth_refresh_token())
        until(lambda: renewals(sidecar) >= 2)
        places = {"log": sidecar.log(), "metrics": sidecar.get("/metrics")[1], "ready": sidecar.get("/readyz")[1]}
        secrets = [*aws.secrets(), (place.path / "token").read_text()]

    assert find_secrets(places, secrets) == []
    assert find_secrets({"state": (place.path / "state" / "source-keyturn.json").read_text()}, secrets) != []
