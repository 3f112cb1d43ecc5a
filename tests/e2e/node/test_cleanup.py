import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.controlplane import ExistingCluster, die_with_parent
from tests.support.node import cgroups
from tests.support.processes import until

pytestmark = pytest.mark.node


@pytest.mark.long
@pytest.mark.usefixtures("node_support")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=str)
def test_node_leaves_nothing_behind(number: signal.Signals, tmp_path: Path) -> None:
    command = die_with_parent([sys.executable, "-m", "tests.support.node", "run"])
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    cgroups.remove_cgroups()
    before = state()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout
        kubeconfig = Path(process.stdout.readline().removeprefix("export KUBECONFIG=").strip())
        nodes = ExistingCluster(kubeconfig, kubeconfig.parent).kubectl("get", "nodes")
        count = len(processes(str(tmp_path)))
        process.send_signal(number)

    def is_clean() -> bool:
        cgroups.remove_cgroups()  # as the next node does
        return not processes(str(tmp_path)) and state() == before

    assert ("Ready" in nodes, count > 7) == (True, True)
    until(is_clean)


def processes(text: str) -> list[str]:
    lines = subprocess.check_output(["ps", "-ww", "-eo", "args"], text=True).splitlines()
    return [line for line in lines if text in line]


def state() -> tuple[list[str], list[Path], list[Path]]:
    """Return the machine's mounts, network interfaces and cgroups, except those of other nodes."""
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if "keyturn" in line]
    groups = sorted(path for path in cgroups.ROOT.glob("*/*") if path.is_dir() and not is_of_other_node(path.name))
    return mounts, sorted(Path("/sys/class/net").iterdir()), groups


def is_of_other_node(cgroup: str) -> bool:
    pid = cgroup.removeprefix(cgroups.PREFIX)
    return cgroup != pid and Path("/proc", pid).exists()
