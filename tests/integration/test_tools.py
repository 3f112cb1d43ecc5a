"""The programs that developers stop with Ctrl-C."""

import signal
import subprocess
import sys

import pytest

from tests.support.controlplane import die_with_parent
from tests.support.processes import ROOT
from tests.support.signals import ignoring_sigint


@pytest.mark.cluster
@pytest.mark.parametrize("tool", ["demo", "demo_standalone", "playground"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_background_job_ends_on_a_signal(tool: str, number: signal.Signals) -> None:
    command = ignoring_sigint(die_with_parent([sys.executable, "-m", f"tools.{tool}"]))
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert any("=== Starting" in line for line in process.stdout)
            process.send_signal(number)
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()
