import asyncio
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import NoCredentialsError

from keyturn.core.errors import KeyturnError
from keyturn.core.pipeline_values import PipelineValues
from keyturn.core.proxies import Proxies
from keyturn.core.settings import AwsSettings
from keyturn.exchanges.aws import Aws
from keyturn.exchanges.aws_clients import MAX_CLIENTS, AwsClients, ambient_session
from tests.support.clock import real_now
from tests.support.dependencies import HOUR, SECOND
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import ACCOUNT, ACCOUNT_ROLE_ARN, USER_KEY_ID, USER_SECRET_KEY
from tests.support.exchange_steps import (
    AMBIENT_SETTINGS,
    AMBIENT_SOURCE,
    ASSUME_ROLE_STEP,
    assume_role,
    aws,
    context,
    emulator_settings,
    get_access_token,
    run_pipeline,
)

USER_ARN = f"arn:aws:iam::{ACCOUNT}:user/keyturn"
SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role/AccountConsumer"


pytestmark = pytest.mark.usefixtures("no_identity")


def set_user_keys(monkeypatch: pytest.MonkeyPatch, secret: str = USER_SECRET_KEY) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", USER_KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)


@contextmanager
def ambient_client(emulator: Emulator) -> Iterator[Aws]:
    with closing(aws(emulator_settings(emulator), allow_ambient=True)) as client:
        yield client


async def assume(client: Aws, *steps: dict[str, Any]) -> PipelineValues:
    """Assume the role with the ambient identity."""
    settings = context(client, sources=AMBIENT_SETTINGS)
    return await run_pipeline(settings, source=AMBIENT_SOURCE, exchanges=[*steps, ASSUME_ROLE_STEP])


async def fail_assume(client: Aws) -> KeyturnError:
    with pytest.raises(KeyturnError) as raised:
        await assume(client)
    return raised.value


async def test_ambient_identity_assumes_the_role(monkeypatch: pytest.MonkeyPatch, emulator: Emulator) -> None:
    set_user_keys(monkeypatch)
    tagged = {"assumeRole": {"roleArn": ACCOUNT_ROLE_ARN, "tags": [{"key": "team", "value": "blue"}]}}
    with ambient_client(emulator) as client:
        values = await assume(client, tagged)

    assert values.principal == f"{SESSION}/billing.acme"
    assert [call["principal"] for call in emulator.recent_calls()] == [USER_ARN, f"{SESSION}/billing.acme"]


async def test_ambient_session_is_tagged_with_namespace_and_name(
    monkeypatch: pytest.MonkeyPatch, emulator: Emulator
) -> None:
    set_user_keys(monkeypatch)
    received: list[dict[str, Any]] = []
    with ambient_client(emulator) as client:
        boto_client = client._ambient_clients.get("sts", "us-east-1", 3)
        boto_client.meta.events.register("provide-client-params.sts", lambda params, **_: received.append(params))
        await assume(client)

    assert received[0]["Tags"] == [
        {"Key": "kubernetes-namespace", "Value": "billing"},
        {"Key": "kubernetes-name", "Value": "acme"},
    ]
    assert received[0]["RoleSessionName"] == "billing.acme"


async def test_ambient_identity_that_arrives_later_is_found(
    monkeypatch: pytest.MonkeyPatch, emulator: Emulator
) -> None:
    with ambient_client(emulator) as client:
        error = await fail_assume(client)
        set_user_keys(monkeypatch)
        values = await assume(client)

    assert error.message == (
        f"STS AssumeRole as the operator for {ACCOUNT_ROLE_ARN}: the operator has no AWS identity at the moment"
        " (NoCredentialsError); its pod needs a role from IRSA, EKS Pod Identity or an instance profile"
    )
    assert (error.reason, values.principal) == ("Unavailable", f"{SESSION}/billing.acme")


async def test_credential_chain_is_not_searched_unless_allowed(
    monkeypatch: pytest.MonkeyPatch, emulator: Emulator
) -> None:
    set_user_keys(monkeypatch)
    with closing(aws(emulator_settings(emulator))) as client:
        error = await fail_assume(client)
        session = client._ambient_clients._session

    assert (error.reason, session, emulator.recent_calls()) == ("Unavailable", None, [])


async def test_ambient_credentials_are_refreshed_by_their_provider(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, emulator: Emulator
) -> None:
    """As in a pod: the first credentials expire soon, and the provider returns new ones."""
    count, script = tmp_path / "count", tmp_path / "process.py"
    first_expiry = (real_now() + 5 * SECOND).isoformat()
    second_expiry = (real_now() + HOUR).isoformat()
    output = {"Version": 1, "AccessKeyId": USER_KEY_ID, "SecretAccessKey": USER_SECRET_KEY}
    script.write_text(
        "import json, pathlib\n"
        f"count = pathlib.Path({str(count)!r})\n"
        "number = int(count.read_text()) + 1 if count.exists() else 1\n"
        "count.write_text(str(number))\n"
        f"credentials = json.loads({json.dumps(output)!r})\n"
        f"print(json.dumps(credentials | {{'Expiration': {first_expiry!r} if number == 1 else {second_expiry!r}}}))\n"
    )
    (tmp_path / "AWS_CONFIG_FILE").write_text(f"[default]\ncredential_process = {sys.executable} {script}\n")
    with ambient_client(emulator) as client:
        for _ in range(3):
            await assume(client)

    assert count.read_text() == "2"


async def test_expired_ambient_identity_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, emulator: Emulator
) -> None:
    output = {"Version": 1, "AccessKeyId": USER_KEY_ID, "SecretAccessKey": USER_SECRET_KEY}
    (tmp_path / "old").write_text(json.dumps(output | {"Expiration": (real_now() - HOUR).isoformat()}))
    (tmp_path / "AWS_CONFIG_FILE").write_text(f"[default]\ncredential_process = cat {tmp_path / 'old'}\n")
    with ambient_client(emulator) as client:
        error = await fail_assume(client)

    assert (error.reason, emulator.recent_calls()) == ("Unavailable", [])


async def test_request_with_own_keys_never_uses_the_ambient_identity(
    monkeypatch: pytest.MonkeyPatch, emulator: Emulator
) -> None:
    set_user_keys(monkeypatch)
    with ambient_client(emulator) as client:
        source = {"credentials": {"secretRef": {"name": "base"}}}
        with pytest.raises(KeyturnError, match="needs credentials"):
            await run_pipeline(context(client, sources=AMBIENT_SETTINGS), source=source, exchanges=[ASSUME_ROLE_STEP])

    assert emulator.recent_calls() == []


async def test_calls_that_wait_for_the_ambient_identity_do_not_stop_others(
    monkeypatch: pytest.MonkeyPatch, emulator: Emulator
) -> None:
    ended = threading.Event()

    def wait_for_identity() -> None:
        ended.wait(10)
        raise NoCredentialsError

    with closing(aws(emulator_settings(emulator), allow_ambient=True)) as client:
        monkeypatch.setattr(client._ambient_clients, "_open_session", wait_for_identity)
        token = (await get_access_token(client, emulator.refresh_token())).access_token
        with monkeypatch.context() as patch:
            patch.setattr(client, "_timeout_seconds", 0.1)
            errors = await asyncio.gather(*(fail_assume(client) for _ in range(4)))
        refused = await fail_assume(client)
        assert token
        assert (await assume_role(client, token.value)).credentials
        ended.set()

    assert {error.reason for error in errors} == {"Unreachable"}
    assert refused.message.endswith("was not called: earlier calls in us-east-1 have not ended")


def test_number_of_ambient_clients_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    set_user_keys(monkeypatch)
    clients = AwsClients(AwsSettings(), 1, partial(ambient_session, Proxies(), is_allowed=True))
    for number in range(MAX_CLIENTS + 2):
        clients.get("sts", f"eu-west-{number}", 3)

    assert len(clients._clients) == MAX_CLIENTS
    assert clients._clients.get(("sts", f"eu-west-{MAX_CLIENTS + 1}", 3, True))
