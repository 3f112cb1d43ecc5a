"""A rotating token and a process that is killed, stopped, started twice, and has no room to write."""

import functools
import json
import signal
import subprocess
import time
from contextlib import ExitStack

import pytest

from tests.support.cluster.namespace import token_request
from tests.support.disk import full, read_only, small_disk
from tests.support.emulator.client import Emulator
from tests.support.processes import until
from tests.support.sidecar_process import Sidecar
from tests.support.standalone_process import Place, asking_for, ready, renewals, rotating

STATE = "source-keyturn.json"


def ask_to_renew(place: Place, number: int) -> None:
    """Have the manifest ask for a renewal."""
    place.say(asking_for(token_request(**rotating(place.aws)), number))


def renew(place: Place, sidecar: Sidecar, number: int) -> None:
    """Ask for a renewal and wait for it."""
    before = renewals(sidecar)
    ask_to_renew(place, number)
    until(lambda: renewals(sidecar) > before)


def kept(place: Place) -> str:
    """The token in the state folder."""
    token: str = json.loads((place.path / "state" / STATE).read_text())["token"]
    return token


@pytest.mark.long
def test_twenty_renewals_spend_twenty_tokens_in_order(place: Place, aws: Emulator) -> None:
    seed = place.rotating()
    with place.running("write", "state") as sidecar:
        until(lambda: ready(sidecar))
        for number in range(1, 20):
            renew(place, sidecar, number)
    family = aws.family(seed)

    assert (family.consumed, family.reuses, family.revoked) == (list(range(20)), 0, False)


def test_a_process_that_is_killed_goes_on_with_the_live_token(place: Place, aws: Emulator) -> None:
    seed = place.rotating()
    with place.running("write", "state") as sidecar:
        until(lambda: ready(sidecar))
        for number in range(1, 4):
            renew(place, sidecar, number)
            sidecar.kill()
            sidecar.start()
            until(lambda: ready(sidecar))
    family = aws.family(seed)

    assert (family.consumed, family.reuses) == (list(range(4)), 0)


@pytest.mark.parametrize("arrived", [True, False], ids=["the issuer had it", "the issuer did not"])
def test_a_process_that_is_killed_in_an_exchange_tries_once_more(place: Place, aws: Emulator, *, arrived: bool) -> None:
    seed = place.rotating()
    with place.running("state") as sidecar:
        until(lambda: ready(sidecar))
        aws.fault("oauth:token", drop="after" if arrived else "before", delay_seconds=2)
        ask_to_renew(place, 1)
        until(lambda: "intent" in (place.path / "state" / STATE).read_text())
        time.sleep(0.5)
        sidecar.kill()
        time.sleep(3)
        sidecar.start()
        until(lambda: "one careful try did not help" in place.ask(sidecar)[1] if arrived else ready(sidecar))
        family = aws.family(seed)

    assert family.reuses == int(arrived)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_end_in_an_exchange_saves_what_is_answered(place: Place, aws: Emulator, number: signal.Signals) -> None:
    seed = place.rotating()
    with place.running("state") as sidecar:
        until(lambda: ready(sidecar))
        before, calls = kept(place), aws.calls("oauth:token")
        aws.fault("oauth:token", delay_seconds=2)
        ask_to_renew(place, 1)
        # Not as soon as the intent stands: who is told to end before the call spends nothing.
        until(lambda: aws.calls("oauth:token") > calls)
        assert sidecar.stop(number) == 0
        after = kept(place)
        sidecar.start()
        until(lambda: ready(sidecar))
    family = aws.family(seed)

    assert before != after
    assert (family.consumed, family.reuses) == ([0, 1, 2], 0)


def test_a_second_process_ends_in_one_line_and_disturbs_nobody(place: Place, aws: Emulator) -> None:
    seed = place.rotating()
    with place.running("state") as sidecar:
        until(lambda: ready(sidecar))
        second = place.once("state")

        assert (second.returncode, second.stderr.count("\n")) == (1, 1)
        assert f"another process works in {place.path / 'state'}" in second.stderr
        renew(place, sidecar, 1)

    assert aws.family(seed).consumed == [0, 1]


@pytest.mark.parametrize("folder", ["state", "write"])
def test_a_full_disk_spends_nothing(place: Place, aws: Emulator, folder: str) -> None:
    seed = place.rotating()
    with small_disk(place.path / folder, 512) as disk, ExitStack() as filled:
        filled.enter_context(full(disk))
        with place.running("state", "write") as sidecar:
            until(lambda: "cannot be written: No space left on device" in place.ask(sidecar)[1])
            consumed = aws.family(seed).consumed
            filled.close()
            until(lambda: ready(sidecar), seconds=40)

    assert (consumed, aws.family(seed).consumed) == ([], [0])


@pytest.mark.parametrize("folder", ["state", "write"])
def test_a_read_only_disk_is_one_line_at_the_start(place: Place, aws: Emulator, folder: str) -> None:
    seed = place.rotating()
    with small_disk(place.path / folder) as disk, read_only(disk):
        failed = place.once("state")

    assert (failed.returncode, failed.stderr.count("\n")) == (1, 1)
    assert f"{disk} cannot be used: Read-only file system" in failed.stderr
    assert aws.family(seed).consumed == []


def test_a_state_folder_that_is_taken_away_stops_renewals_and_nothing_else(place: Place, aws: Emulator) -> None:
    seed = place.rotating()
    state, away = place.path / "state", place.path / "away"
    with place.running("state") as sidecar:
        until(lambda: ready(sidecar))
        before = place.ask(sidecar)
        state.rename(away)
        state.mkdir()
        ask_to_renew(place, 1)
        until(lambda: "is not the folder that it was at the start" in sidecar.log())
        assert place.ask(sidecar) == before
        state.rmdir()
        away.rename(state)
        until(lambda: aws.family(seed).consumed == [0, 1], seconds=40)

    assert aws.family(seed).reuses == 0


def test_a_disk_that_fills_up_in_an_exchange_loses_nothing(place: Place, aws: Emulator) -> None:
    seed = place.rotating()
    with small_disk(place.path / "state", 512) as disk, place.running("state") as sidecar:
        until(lambda: ready(sidecar))
        before = kept(place)
        aws.fault("oauth:token", delay_seconds=2)
        ask_to_renew(place, 1)
        until(lambda: "intent" in (disk / STATE).read_text())
        with full(disk):
            until(functools.partial(lambda: kept(place) != before))
            sidecar.kill()
        sidecar.start()
        until(lambda: ready(sidecar))

    assert (aws.family(seed).consumed, aws.family(seed).reuses) == ([0, 1, 2], 0)


def test_a_job_renews_what_is_due_and_nothing_else(place: Place, aws: Emulator) -> None:
    seed = place.rotating()
    first, second = place.once("state"), place.once("state")
    aws.fault("oauth:token", times=None, status=503)
    ask_to_renew(place, 1)
    failed = place.once("state")

    assert (first.returncode, second.returncode, failed.returncode) == (0, 0, 0), first.stderr
    assert "WARNING keyturn: " in failed.stderr
    assert place.written("token")
    assert aws.family(seed).consumed == [0]


def test_a_job_that_gets_nothing_fails_in_one_line(place: Place, aws: Emulator) -> None:
    place.rotating()
    aws.fault("oauth:token", times=None, code="invalid_grant")
    failed = place.once("state")

    assert (failed.returncode, failed.stderr.count("\n")) == (1, 1)
    assert "invalid_grant" in failed.stderr


def test_a_job_that_is_stopped_in_an_exchange_saves_what_is_answered(place: Place, aws: Emulator) -> None:
    seed = place.rotating()
    aws.fault("oauth:token", delay_seconds=2)
    state = place.path / "state" / STATE
    with subprocess.Popen(place.job("state"), stderr=subprocess.PIPE, text=True) as job:
        until(lambda: state.exists() and "intent" in state.read_text())
        job.terminate()
        told = job.communicate()[1]
    after = place.once("state")

    assert (job.returncode, told.count("\n"), "stopped before the renewal was finished" in told) == (1, 1, True), told
    assert (after.returncode, aws.family(seed).consumed, aws.family(seed).reuses) == (0, [0, 1], 0)
