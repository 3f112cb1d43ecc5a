import json
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config

from keyturn.core.errors import KeyturnError
from keyturn.exchanges.ambient import CLIENTS, OwnIdentity
from keyturn.exchanges.aws import Aws
from tests.integration.exchanges.conftest import settings
from tests.integration.exchanges.test_allowed_identities import AMBIENT, ASSUME, FOR_BILLING, refused, run
from tests.support.clock import real_now
from tests.support.dependencies import HOUR, SECOND
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import ACCOUNT, ACCOUNT_ROLE_ARN, USER_KEY_ID, USER_SECRET_KEY
from tests.support.exchange_steps import aws, context

USER_ARN = f"arn:aws:iam::{ACCOUNT}:user/keyturn"
SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role/AccountConsumer"


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A place without any identity."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def become(monkeypatch: pytest.MonkeyPatch, secret: str = USER_SECRET_KEY) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", USER_KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)


@contextmanager
def lender(emulator: Emulator) -> Iterator[Aws]:
    with closing(aws(settings(emulator), allow_ambient=True)) as made:
        yield made


async def test_our_own_identity_assumes_the_role(monkeypatch: pytest.MonkeyPatch, emulator: Emulator) -> None:
    become(monkeypatch)
    tagged = {"assumeRole": {"roleArn": ACCOUNT_ROLE_ARN, "tags": [{"key": "team", "value": "blue"}]}}
    with lender(emulator) as client:
        held = await run(context(client, sources=FOR_BILLING), source=AMBIENT, exchanges=[tagged, ASSUME])

    assert held.principal == f"{SESSION}/billing.acme"
    assert [call["principal"] for call in emulator.recent_calls()] == [USER_ARN, f"{SESSION}/billing.acme"]


async def test_the_session_is_tagged_with_whom_it_is_for(monkeypatch: pytest.MonkeyPatch, emulator: Emulator) -> None:
    become(monkeypatch)
    asked: list[dict[str, Any]] = []
    with lender(emulator) as client:
        place = ("sts", "us-east-1", 3)
        own = client._own.client(place, client._config(*place), endpoint_url=emulator.url)
        own.meta.events.register("provide-client-params.sts", lambda params, **_: asked.append(params))
        await run(context(client, sources=FOR_BILLING), source=AMBIENT, exchanges=[ASSUME])

    assert asked[0]["Tags"] == [
        {"Key": "kubernetes-namespace", "Value": "billing"},
        {"Key": "kubernetes-name", "Value": "acme"},
    ]
    assert asked[0]["RoleSessionName"] == "billing.acme"


async def test_an_identity_that_comes_later_is_found(monkeypatch: pytest.MonkeyPatch, emulator: Emulator) -> None:
    with lender(emulator) as client:
        outside = context(client, sources=FOR_BILLING)
        error = await refused(outside, source=AMBIENT, exchanges=[ASSUME])
        become(monkeypatch)
        held = await run(outside, source=AMBIENT, exchanges=[ASSUME])

    assert error.message == "STS AssumeRole: Keyturn has no AWS identity now (NoCredentialsError)"
    assert (error.reason, held.principal) == ("Unavailable", f"{SESSION}/billing.acme")


async def test_an_operator_that_lends_nothing_looks_for_nothing(
    monkeypatch: pytest.MonkeyPatch, emulator: Emulator
) -> None:
    become(monkeypatch)
    with closing(aws(settings(emulator))) as client:
        error = await refused(context(client, sources=FOR_BILLING), source=AMBIENT, exchanges=[ASSUME])
        made = client._own._session

    assert (error.reason, made, emulator.recent_calls()) == ("Unavailable", None, [])


async def test_credentials_that_end_are_refreshed_by_their_provider(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, emulator: Emulator
) -> None:
    """As in a pod: the first credentials end soon, and whoever gave them has new ones."""
    count, script = tmp_path / "count", tmp_path / "process.py"
    end = (real_now() + 5 * SECOND).isoformat()
    later = (real_now() + HOUR).isoformat()
    given = {"Version": 1, "AccessKeyId": USER_KEY_ID, "SecretAccessKey": USER_SECRET_KEY}
    script.write_text(
        "import json, pathlib\n"
        f"count = pathlib.Path({str(count)!r})\n"
        "number = int(count.read_text()) + 1 if count.exists() else 1\n"
        "count.write_text(str(number))\n"
        f"given = json.loads({json.dumps(given)!r})\n"
        f"print(json.dumps(given | {{'Expiration': {end!r} if number == 1 else {later!r}}}))\n"
    )
    (tmp_path / "AWS_CONFIG_FILE").write_text(f"[default]\ncredential_process = {sys.executable} {script}\n")
    with lender(emulator) as client:
        for _ in range(3):
            await run(context(client, sources=FOR_BILLING), source=AMBIENT, exchanges=[ASSUME])

    assert count.read_text() == "2"


async def test_an_identity_that_is_still_expired_is_no_bug(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, emulator: Emulator
) -> None:
    given = {"Version": 1, "AccessKeyId": USER_KEY_ID, "SecretAccessKey": USER_SECRET_KEY}
    (tmp_path / "old").write_text(json.dumps(given | {"Expiration": (real_now() - HOUR).isoformat()}))
    (tmp_path / "AWS_CONFIG_FILE").write_text(f"[default]\ncredential_process = cat {tmp_path / 'old'}\n")
    with lender(emulator) as client:
        error = await refused(context(client, sources=FOR_BILLING), source=AMBIENT, exchanges=[ASSUME])

    assert (error.reason, emulator.recent_calls()) == ("Unavailable", [])


async def test_a_request_with_keys_of_its_own_never_comes_to_ours(
    monkeypatch: pytest.MonkeyPatch, emulator: Emulator
) -> None:
    become(monkeypatch)
    with lender(emulator) as client:
        source = {"credentials": {"secretRef": {"name": "base"}}}
        with pytest.raises(KeyturnError, match="needs credentials"):
            await run(context(client, sources=FOR_BILLING), source=source, exchanges=[ASSUME])

    assert emulator.recent_calls() == []


def test_a_client_for_each_of_many_regions_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch)
    own = OwnIdentity(allow_ambient=True)
    for number in range(CLIENTS + 2):
        own.client(("sts", f"eu-west-{number}", 3), Config())

    assert len(own._clients) == CLIENTS
    assert ("sts", f"eu-west-{CLIENTS + 1}", 3) in own._clients
