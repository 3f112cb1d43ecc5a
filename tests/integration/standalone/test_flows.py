import asyncio
import json
import os
import time
from typing import Any

import boto3
import pytest
import yaml

from tests.support.cluster.namespace import count_exchanges, token_request
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import CLIENT_ID, OIDC_ROLE_ARN
from tests.support.processes import until
from tests.support.proxy import running_proxy
from tests.support.secret_search import find_secrets
from tests.support.standalone_process import StandaloneDirectory, caller_arn, is_ready, renewals

SESSION = "arn:aws:sts::111122223333:assumed-role/LicenseConsumer/default.acme"


def test_sdk_follows_three_renewals(directory: StandaloneDirectory, aws: Emulator, sdk: pytest.MonkeyPatch) -> None:
    aws.settings(session_seconds=6)
    directory.write_flagship()
    with directory.running() as sidecar:
        sdk.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://{sidecar.credentials}/")
        sdk.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(directory.path / "token"))
        session = boto3.Session()
        until(lambda: is_ready(sidecar))
        keys: set[str] = set()
        while len(keys) < 4:
            assert caller_arn(aws, session) == SESSION
            credentials = session.get_credentials()
            assert credentials
            keys.add(str(credentials.get_frozen_credentials().access_key))
            time.sleep(0.2)
        assert count_exchanges(aws) == 2 * renewals(sidecar)
        assert sidecar.stop() == 0


def test_pipe_in_the_output_stops_neither_renewal_nor_exit(directory: StandaloneDirectory) -> None:
    directory.write_flagship()
    with directory.running("write") as sidecar:
        until(lambda: is_ready(sidecar))
        for path in ("..data/AWS_ACCESS_KEY_ID", "..keyturn-pipe"):
            (directory.path / "write" / path).unlink(missing_ok=True)
            os.mkfifo(directory.path / "write" / path)
        until(lambda: renewals(sidecar) > 1)

        assert directory.output("AWS_ACCESS_KEY_ID").startswith("ASIA")
        assert sidecar.stop() == 0


def test_sdk_follows_the_output_files(directory: StandaloneDirectory, aws: Emulator, sdk: pytest.MonkeyPatch) -> None:
    aws.settings(session_seconds=6)
    config = {"awsConfig": {"mountPath": str(directory.path / "write")}}
    directory.write_flagship(target={"formats": [{"env": {}}, {"credentialProcess": {}}, config]})
    with directory.running("write") as sidecar:
        until(lambda: is_ready(sidecar))
        sdk.setenv("AWS_CONFIG_FILE", str(directory.path / "write" / "config"))
        session = boto3.Session()
        first = directory.output("AWS_ACCESS_KEY_ID")
        assert json.loads(directory.output("credentials.json"))["AccessKeyId"] == first
        assert caller_arn(aws, session) == SESSION
        until(lambda: directory.output("AWS_ACCESS_KEY_ID") != first)

        assert caller_arn(aws, session) == SESSION
        assert (directory.path / "write" / "credentials.json").stat().st_mode & 0o777 == 0o440


async def test_issuer_behind_an_authenticating_proxy(
    directory: StandaloneDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.write_rotating()
    settings = yaml.safe_load((directory.path / "settings.yaml").read_text())
    settings["issuers"] = {"allowedHosts": ["127.0.0.1"]}
    (directory.path / "settings.yaml").write_text(yaml.safe_dump(settings))
    async with running_proxy(credentials="user:p@ss word") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "10.0.0.0/8,.svc")
        done = await asyncio.to_thread(directory.run_once, "state")

    assert (done.returncode, len(proxy.hosts)) == (0, 1)
    assert "p%40ss" not in done.stderr


def test_projected_token_is_used(directory: StandaloneDirectory, aws: Emulator) -> None:
    source = {"token": {"serviceAccount": {"name": "app", "audiences": [CLIENT_ID]}}}
    steps = [{"assumeRoleWithWebIdentity": {"roleArn": OIDC_ROLE_ARN}}]
    directory.write_manifest(token_request(source=source, exchanges=steps))
    file = directory.path / "service-account-token"
    file.write_text(aws.jwt("somebody-else", subject="demo-user"))
    with directory.running("service-account-token") as sidecar:
        until(lambda: "the projected token has audience somebody-else" in directory.get_credentials(sidecar)[1])
        file.write_text(aws.jwt(CLIENT_ID, subject="demo-user"))

        until(lambda: is_ready(sidecar), seconds=40)


def test_client_authenticates_with_the_projected_token(directory: StandaloneDirectory, aws: Emulator) -> None:
    subject = "system:serviceaccount:billing:app"
    aws.oauth_client("federated", federated_subject=subject)
    client = {"serviceAccount": {"name": "app", "audiences": [aws.issuer_url]}}
    step = {
        "tokenUrl": f"{aws.issuer_url}/token",
        "grantType": "client_credentials",
        "clientAssertionFrom": client,
        "caBundleFrom": {"secretKeyRef": {"name": "client", "key": "ca"}},
    }
    spec: dict[str, Any] = {"source": {}, "exchanges": [{"oauthToken": step}], "target": {"formats": [{"token": {}}]}}
    directory.write_manifest(token_request(**spec))
    directory.put_source("client", ca=aws.ca)
    (directory.path / "service-account-token").write_text(aws.jwt(aws.issuer_url, subject=subject))
    result = directory.run_once("service-account-token")

    assert (result.returncode, directory.output("token").count(".")) == (0, 2), result.stderr


def test_no_secret_is_in_log_or_metrics(directory: StandaloneDirectory, aws: Emulator) -> None:
    directory.write_rotating()
    with directory.running("write", "state") as sidecar:
        until(lambda: is_ready(sidecar))
        aws.fault("oauth:token", code="invalid_request")
        directory.put_source("source", refresh_token=aws.oauth_refresh_token())
        until(lambda: "invalid_request" in sidecar.log())
        directory.put_source("source", refresh_token=aws.oauth_refresh_token())
        until(lambda: renewals(sidecar) >= 2)
        places = {"log": sidecar.log(), "metrics": sidecar.get("/metrics")[1], "ready": sidecar.get("/readyz")[1]}
        secrets = [*aws.secrets(), (directory.path / "token").read_text()]

    assert find_secrets(places, secrets) == []
    assert find_secrets({"state": (directory.path / "state" / "source-keyturn.json").read_text()}, secrets) != []
