"""Refusals of AWS that pass by themselves or with the clock, while and after credentials are valid."""

import re
from pathlib import Path

from tests.support.cluster.sources import KEYS_SOURCE, USER_KEYS
from tests.support.emulator.client import Emulator
from tests.support.processes import until
from tests.support.standalone_process import StandaloneDirectory, is_ready, renewals

STS = "AssumeRoleWithWebIdentity"


def test_refusal_that_passes_costs_no_validity(directory: StandaloneDirectory, aws: Emulator) -> None:
    aws.settings(session_seconds=12)
    directory.write_flagship()
    with directory.running() as sidecar:
        until(lambda: is_ready(sidecar))
        aws.fault(STS, code="InvalidIdentityToken", message="Couldn't retrieve verification key", times=1)
        until(lambda: renewals(sidecar) > 1, seconds=20)

        log = directory.log_file.read_text()
        assert re.search("Renewed=False, Unavailable: STS AssumeRoleWithWebIdentity for .*: InvalidIdentityToken", log)
        assert "Ready=False" not in log
        assert "Stalled" not in log


def test_permanent_refusal_is_attempted_until_the_expiry(directory: StandaloneDirectory, aws: Emulator) -> None:
    aws.settings(session_seconds=20)
    directory.write_flagship()
    with directory.running() as sidecar:
        until(lambda: is_ready(sidecar))
        aws.fault(STS, code="ValidationError", times=None)
        until(lambda: "Renewed=False, InvalidSpec" in directory.log_file.read_text(), seconds=20)
        aws.clear_faults()
        until(lambda: renewals(sidecar) > 1, seconds=8)

        assert "Ready=False" not in directory.log_file.read_text()


def test_clock_skew_is_retried_when_the_clock_is_set(
    directory: StandaloneDirectory, aws: Emulator, tmp_path: Path
) -> None:
    """The emulator's clock is ahead; botocore signs with the real one, which is therefore behind."""
    clock = tmp_path / "ahead"
    clock.write_text("0")
    directory.write_manifest(source=KEYS_SOURCE, exchanges=[{"getSessionToken": {}}])
    directory.put_source("keys", **USER_KEYS)
    aws.settings(clock_offset_seconds=1200)
    with directory.running(clock=clock) as sidecar:
        until(lambda: "Renewed=False, ClockSkew" in directory.log_file.read_text())
        assert "the node's clock is 20m behind AWS: synchronize it" in directory.log_file.read_text()
        aws.settings(clock_offset_seconds=0)
        clock.write_text("1200")
        until(lambda: renewals(sidecar) == 1, seconds=5)
