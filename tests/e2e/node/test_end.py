"""What a node leaves behind: nothing, however it ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.controlplane import ExistingCluster, die_with_parent
from tests.support.node import cgroups
from tests.support.node.machine import require_fitness
from tests.support.processes import until
from tools.image import UnfitError

pytestmark = pytest.mark.node


@pytest.mark.long
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=["Ctrl-C", "kill", "kill -9"])
def test_nothing_outlives_a_node(end: signal.Signals, tmp_path: Path) -> None:
    try:
        require_fitness()
    except UnfitError as error:
        pytest.skip(f"no node can be started here: {error}")
    command = die_with_parent([sys.executable, "-m", "tests.support.node", "run"])
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    cgroups.remove()
    before = state()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as run:
        assert run.stdout
        kubeconfig = Path(run.stdout.readline().removeprefix("export KUBECONFIG=").strip())
        ready = "Ready" in ExistingCluster(kubeconfig, kubeconfig.parent).kubectl("get", "nodes")
        during = processes(str(tmp_path))
        run.send_signal(end)

    def is_gone() -> bool:
        cgroups.remove()  # as the next node would
        return not processes(str(tmp_path)) and state() == before

    assert (ready, len(during) > 7) == (True, True)
    until(is_gone)


def processes(of: str) -> list[str]:
    listed = subprocess.check_output(["ps", "-ww", "-eo", "args"], text=True)
    return [line for line in listed.splitlines() if of in line]


def state() -> tuple[list[str], list[Path], list[Path]]:
    """List the machine's mounts, network interfaces and cgroups, but those of other nodes."""
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if "keyturn" in line]
    tops = sorted(path for path in cgroups.TOP.glob("*/*") if path.is_dir() and not is_anothers(path.name))
    return mounts, sorted(Path("/sys/class/net").iterdir()), tops


def is_anothers(cgroup: str) -> bool:
    started_by = cgroup.removeprefix(cgroups.OURS)
    return cgroup != started_by and Path("/proc", started_by).exists()
