"""A short soak; `make soak` runs a long one."""

import os
import subprocess
import sys

import pytest

from tests.support.processes import ROOT


@pytest.mark.cluster
@pytest.mark.long
def test_soak_finds_no_violation() -> None:
    command = [sys.executable, "-m", "tools.soak"]
    environment = os.environ | {"MINUTES": "2", "SEED": "1"}

    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, timeout=900, check=False
    )

    assert done.returncode == 0, done.stdout
