"""A playground, as `make playground` starts it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster.page import ROOT
from tests.support.controlplane import die_with_parent
from tests.support.signals import ignoring_sigint

# Shorter sessions could expire on a slow machine before the commands run.
_SESSION_SECONDS = "20"


@pytest.fixture
def playground(tmp_path: Path) -> Iterator[Path]:
    """A running playground; the value is its environment file."""
    environment = tmp_path / "playground.env"
    command = ignoring_sigint(die_with_parent([sys.executable, "-m", "tools.playground", str(environment)]))
    variables = os.environ | {"SESSION_SECONDS": _SESSION_SECONDS}
    with subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert any("Ready until Ctrl-C" in line for line in process.stdout)
            yield environment
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 0
