"""The container image, run as restricted as in a cluster."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from keyturn import __version__
from tools import image

PROBE = """
import json, os, shutil
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
mounts = dict(line.split()[1:4:2] for line in open("/proc/mounts"))
print(json.dumps({
    "user and group": [os.getuid(), os.getgid()],
    "capabilities": int(status["CapBnd"], 16),
    "root": mounts["/"].split(",")[0],
    "network": os.listdir("/sys/class/net"),
    "tools": [tool for tool in ("cc", "gcc", "make", "pip", "pip3") if shutil.which(tool)],
}))
"""


@pytest.fixture(scope="module")
def built() -> None:
    try:
        image.require_root_on_debian()
    except image.UnfitError as error:
        pytest.skip(f"the image cannot be built here: {error}")
    image.install_tools()
    image.build()


def test_dockerfile_passes_hadolint() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    dockerfile = image.ROOT / "Dockerfile"
    linted = subprocess.run([hadolint, dockerfile], capture_output=True, text=True, check=False)

    assert (linted.returncode, linted.stdout + linted.stderr) == (0, "")


@pytest.mark.usefixtures("built")
def test_image_prints_its_version() -> None:
    ran = image.run("--version")

    assert (ran.returncode, ran.stderr) == (0, "")
    assert __version__ in ran.stdout


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize("options", [(), ("--user", "1000680000:0")], ids=["the image's user", "OpenShift's"])
def test_operator_without_a_cluster_fails_with_one_line(options: tuple[str, ...]) -> None:
    began = time.monotonic()
    ran = image.run("operator", "--log-format=text", options=options)
    [line] = (ran.stdout + ran.stderr).splitlines()

    assert ran.returncode > 0
    assert time.monotonic() - began < 10
    assert "cluster" in line.lower()


@pytest.mark.usefixtures("built")
def test_image_has_no_privileges_and_no_tools() -> None:
    ran = image.run("-c", PROBE, options=("--entrypoint", "python3"))

    assert json.loads(ran.stdout) == {
        "user and group": [65532, 65532],
        "capabilities": 0,
        "root": "ro",
        "network": ["lo"],
        "tools": [],
    }
