import functools
import json
import subprocess
import time
from contextlib import ExitStack

import pytest

from tests.support.cluster.namespace import token_request
from tests.support.disk import full, read_only, small_disk
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import CLIENT_ID, CLIENT_SECRET
from tests.support.processes import until
from tests.support.standalone_process import StandaloneDirectory, is_ready, rotating, with_renew_request

STATE = "source-keyturn.json"


def request_renewal(directory: StandaloneDirectory, number: int) -> None:
    directory.write_manifest(with_renew_request(token_request(**rotating(directory.aws)), number))


def stored_token(directory: StandaloneDirectory) -> str:
    token: str = json.loads((directory.path / "state" / STATE).read_text())["token"]
    return token


def test_refresh_token_is_rotated_after_a_token_for_the_client(directory: StandaloneDirectory, aws: Emulator) -> None:
    spec = rotating(aws)
    [refresh, *others] = spec["exchanges"]
    secret = refresh["oauthToken"].pop("clientSecretFrom")
    federated = {"clientId": "federated", "clientAssertionFrom": {"pipeline": "accessToken"}}
    own_token = {"grantType": "client_credentials", "clientSecretFrom": secret, "audience": [aws.issuer_url]}
    steps = [{"oauthToken": refresh["oauthToken"] | fields} for fields in (own_token, federated)]
    aws.oauth_client("federated", federated_subject=CLIENT_ID)
    first_token = aws.oauth_refresh_token("federated")
    directory.put_source("client", secret=CLIENT_SECRET, ca=aws.ca)
    directory.put_source("source", refresh_token=first_token)

    def is_consumed_after_a_run(number: int) -> bool:
        return directory.run_once("state").returncode == 0 and number in aws.family(first_token).consumed

    for number in range(3):
        # A copy of what two steps share: the manifest must not have YAML aliases.
        body = json.loads(json.dumps(token_request(**spec | {"exchanges": [*steps, *others]})))
        directory.write_manifest(with_renew_request(body, number))
        # More than once, because two requested renewals are at least `minIntervalSeconds` apart.
        until(functools.partial(is_consumed_after_a_run, number))
    family = aws.family(first_token)

    assert (family.consumed, family.reuses, family.revoked) == ([0, 1, 2], 0, False)


@pytest.mark.parametrize("code", ["incorrect_client_credentials", "bad_refresh_token"])
def test_refused_token_is_sent_again_with_a_new_client_secret(
    directory: StandaloneDirectory, aws: Emulator, code: str
) -> None:
    """GitHub reports every refusal with status 200 and a code of its own."""
    first_token = directory.write_rotating()
    directory.put_source("client", secret="old", ca=aws.ca)
    aws.fault("oauth:token", times=None, status=200, code=code)
    with directory.running("state") as sidecar:
        until(lambda: "HTTP 200 with a non-standard error" in directory.get_credentials(sidecar)[1])
        time.sleep(2)
        assert aws.calls("oauth:token") == 1
        aws.clear_faults()
        directory.put_source("client", secret=CLIENT_SECRET, ca=aws.ca)
        until(lambda: is_ready(sidecar))

    assert (aws.family(first_token).consumed, aws.family(first_token).reuses) == ([0], 0)


@pytest.mark.parametrize("arrived", [True, False], ids=["received by the issuer", "not received"])
def test_process_killed_in_an_exchange_makes_one_final_attempt(
    directory: StandaloneDirectory, aws: Emulator, *, arrived: bool
) -> None:
    first_token = directory.write_rotating()
    with directory.running("state") as sidecar:
        until(lambda: is_ready(sidecar))
        drop, calls = "after" if arrived else "before", aws.calls("oauth:token")
        aws.fault("oauth:token", drop=drop, delay_seconds=2)
        request_renewal(directory, 1)
        until(lambda: aws.calls("oauth:token") > calls)
        sidecar.kill()
        until(lambda: aws.recent_calls()[-1]["outcome"] == f"dropped {drop}")
        sidecar.start()
        until(
            lambda: "the single retry failed" in directory.get_credentials(sidecar)[1] if arrived else is_ready(sidecar)
        )
        family = aws.family(first_token)

    assert family.reuses == int(arrived)


@pytest.mark.parametrize("folder", ["state", "write"])
def test_full_disk_consumes_no_token(directory: StandaloneDirectory, aws: Emulator, folder: str) -> None:
    first_token = directory.write_rotating()
    with small_disk(directory.path / folder, 512) as disk, ExitStack() as filled:
        filled.enter_context(full(disk))
        with directory.running("state", "write") as sidecar:
            until(lambda: "cannot be written: No space left on device" in directory.get_credentials(sidecar)[1])
            consumed = aws.family(first_token).consumed
            filled.close()
            until(lambda: is_ready(sidecar), seconds=40)

    assert (consumed, aws.family(first_token).consumed) == ([], [0])


@pytest.mark.parametrize("folder", ["state", "write"])
def test_read_only_disk_is_reported_at_startup(directory: StandaloneDirectory, aws: Emulator, folder: str) -> None:
    first_token = directory.write_rotating()
    with small_disk(directory.path / folder) as disk, read_only(disk):
        failed = directory.run_once("state")

    assert (failed.returncode, failed.stderr.count("\n")) == (1, 1)
    assert f"{disk} cannot be used: Read-only file system" in failed.stderr
    assert aws.family(first_token).consumed == []


def test_replaced_state_directory_stops_only_renewals(directory: StandaloneDirectory, aws: Emulator) -> None:
    first_token = directory.write_rotating()
    state, away = directory.path / "state", directory.path / "away"
    with directory.running("state") as sidecar:
        until(lambda: is_ready(sidecar))
        before = directory.get_credentials(sidecar)
        state.rename(away)
        state.mkdir()
        request_renewal(directory, 1)
        until(lambda: "is no longer the directory locked at startup" in sidecar.log())
        assert directory.get_credentials(sidecar) == before
        state.rmdir()
        away.rename(state)
        until(lambda: aws.family(first_token).consumed == [0, 1], seconds=40)

    assert aws.family(first_token).reuses == 0


def test_disk_that_fills_up_in_an_exchange_loses_nothing(directory: StandaloneDirectory, aws: Emulator) -> None:
    first_token = directory.write_rotating()
    with small_disk(directory.path / "state", 512) as disk, directory.running("state") as sidecar:
        until(lambda: is_ready(sidecar))
        before = stored_token(directory)
        aws.fault("oauth:token", delay_seconds=2)
        request_renewal(directory, 1)
        until(lambda: "intent" in (disk / STATE).read_text())
        with full(disk):
            until(functools.partial(lambda: stored_token(directory) != before))
            sidecar.kill()
        sidecar.start()
        until(lambda: is_ready(sidecar))

    assert (aws.family(first_token).consumed, aws.family(first_token).reuses) == ([0, 1, 2], 0)


def test_run_once_renews_only_if_due(directory: StandaloneDirectory, aws: Emulator) -> None:
    first_token = directory.write_rotating()
    first, second = directory.run_once("state"), directory.run_once("state")
    aws.fault("oauth:token", times=None, status=503)
    request_renewal(directory, 1)
    failed = directory.run_once("state")

    assert (first.returncode, second.returncode, failed.returncode) == (0, 0, 0), first.stderr
    assert "WARNING keyturn: " in failed.stderr
    assert directory.output("token")
    assert aws.family(first_token).consumed == [0]


def test_run_once_without_credentials_fails_in_one_line(directory: StandaloneDirectory, aws: Emulator) -> None:
    directory.write_rotating()
    aws.fault("oauth:token", times=None, code="invalid_grant")
    failed = directory.run_once("state")

    assert (failed.returncode, failed.stderr.count("\n")) == (1, 1)
    assert "invalid_grant" in failed.stderr


def test_run_once_after_a_change_reports_when_the_next_renewal_is_possible(directory: StandaloneDirectory) -> None:
    settings = directory.path / "settings.yaml"
    settings.write_text(settings.read_text().replace("minIntervalSeconds: 1", "minIntervalSeconds: 600"))
    directory.write_flagship()
    first = directory.run_once("state")
    directory.write_manifest(target={"formats": [{"credentialProcess": {}}]})
    second = directory.run_once("state")

    assert (first.returncode, second.returncode) == (0, 1), first.stderr
    assert "it will be written at" in second.stderr


def test_run_once_stopped_in_an_exchange_saves_the_token(directory: StandaloneDirectory, aws: Emulator) -> None:
    first_token, calls = directory.write_rotating(), aws.calls("oauth:token")
    aws.fault("oauth:token", delay_seconds=2)
    with subprocess.Popen(directory.run_once_command("state"), stderr=subprocess.PIPE, text=True) as job:
        # The intent alone is not enough: a process stopped before the call consumes no token.
        until(lambda: aws.calls("oauth:token") > calls)
        job.terminate()
        stderr = job.communicate()[1]
    after = directory.run_once("state")

    assert (job.returncode, stderr.count("\n"), "stopped before the renewal was finished" in stderr) == (1, 2, True), (
        stderr
    )
    assert (after.returncode, aws.family(first_token).consumed, aws.family(first_token).reuses) == (0, [0, 1], 0)
