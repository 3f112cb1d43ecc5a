import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.controlplane import ExistingCluster, die_with_parent
from tests.support.processes import until
from tests.support.signals import ignoring_sigint


@pytest.mark.cluster
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=str)
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills a process with its parent")
def test_run_leaves_no_server_behind(number: signal.Signals, tmp_path: Path) -> None:
    command = ignoring_sigint(die_with_parent([sys.executable, "-m", "tests.support.controlplane", "run"]))
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout
            kubeconfig = Path(process.stdout.readline().removeprefix("export KUBECONFIG=").strip())
            readyz = ExistingCluster(kubeconfig, kubeconfig.parent).kubectl("get", "--raw", "/readyz")
            servers = processes_in(kubeconfig.parent)
        finally:
            process.send_signal(number)

    assert (readyz, len(servers)) == ("ok", 3)
    until(lambda: not processes_in(kubeconfig.parent))
    assert process.returncode == (0 if number != signal.SIGKILL else -signal.SIGKILL)
    assert kubeconfig.exists() == (number == signal.SIGKILL)


def processes_in(directory: Path) -> list[str]:
    processes = subprocess.check_output(["ps", "-ww", "-eo", "args"], text=True)
    return [line for line in processes.splitlines() if str(directory) in line]
