"""The container images, run as restricted as in a cluster."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from keyturn import __version__
from keyturn.cli import COMMANDS
from tools import image
from tools.reference.exchanges import operations

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
# Prints the exit code of each command with --help.
COMMANDS_START = """
import json, subprocess, sys
ran = {name: subprocess.run(["keyturn", name, "--help"], capture_output=True) for name in sys.argv[1:]}
print(json.dumps({name: process.returncode for name, process in ran.items()}))
"""
# Imports every module, and prints their names.
IMPORT_MODULES = """
import importlib, json, keyturn, pkgutil
names = [info.name for info in pkgutil.walk_packages(keyturn.__path__, "keyturn.") if info.name != "keyturn.__main__"]
print(json.dumps([importlib.import_module(name).__name__ for name in names]))
"""
PACKAGES = """
import importlib.metadata, json
print(json.dumps(sorted(distribution.name for distribution in importlib.metadata.distributions())))
"""
SERVICES = """
import botocore.session, json
print(json.dumps(botocore.session.get_session().get_available_services()))
"""
CREDENTIAL_CHAIN = {"signin", "sso", "sso-oidc", "sts"}
TARGETS = pytest.mark.parametrize("target", image.IMAGES)


@pytest.fixture(scope="module")
def built() -> None:
    try:
        image.require_root_on_debian()
    except image.UnfitError as error:
        pytest.skip(f"the images cannot be built here: {error}")
    image.install_tools()
    for target in image.IMAGES:
        image.build(target)


def run_python(target: str, program: str, *arguments: str) -> Any:
    """Run a program with the Python of an image and return the JSON that it prints."""
    ran = image.run(target, "-c", program, *arguments, options=("--entrypoint", "python3"))
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_dockerfile_passes_hadolint() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    dockerfile = image.ROOT / "Dockerfile"
    linted = subprocess.run([hadolint, dockerfile], capture_output=True, text=True, check=False)

    assert (linted.returncode, linted.stdout + linted.stderr) == (0, "")


@TARGETS
@pytest.mark.usefixtures("built")
def test_image_prints_its_version(target: str) -> None:
    ran = image.run(target, "--version")

    assert (ran.returncode, ran.stderr) == (0, "")
    assert __version__ in ran.stdout


@TARGETS
@pytest.mark.usefixtures("built")
def test_image_has_labels(target: str) -> None:
    labels = image.labels(target)

    assert labels["org.opencontainers.image.title"] == image.IMAGES[target].removeprefix("localhost/").partition(":")[0]
    assert labels["org.opencontainers.image.version"] == __version__
    assert {"org.opencontainers.image.description", "org.opencontainers.image.licenses"} < labels.keys()


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize("options", [(), ("--user", "1000680000:0")], ids=["the image's user", "OpenShift's"])
def test_operator_without_a_cluster_fails_with_one_line(options: tuple[str, ...]) -> None:
    began = time.monotonic()
    ran = image.run("operator", "operator", "--log-format=text", options=options)
    [line] = (ran.stdout + ran.stderr).splitlines()

    assert ran.returncode > 0
    assert time.monotonic() - began < 10
    assert "cluster" in line.lower()


@TARGETS
@pytest.mark.usefixtures("built")
def test_image_has_no_privileges_and_no_tools(target: str) -> None:
    assert run_python(target, PROBE) == {
        "user and group": [65532, 65532],
        "capabilities": 0,
        "root": "ro",
        "network": ["lo"],
        "tools": [],
    }


@pytest.mark.usefixtures("built")
def test_every_command_and_module_of_the_image_starts() -> None:
    assert run_python("operator", COMMANDS_START, *COMMANDS) == dict.fromkeys(COMMANDS, 0)
    assert {command.module for command in COMMANDS.values()} < set(run_python("operator", IMPORT_MODULES))


@pytest.mark.usefixtures("built")
def test_sidecar_image_contains_only_the_reader() -> None:
    readers = dict.fromkeys(("sidecar", "credential-process"), 0)

    assert run_python("sidecar", PACKAGES) == ["click", "h11", "python-json-logger"]
    assert run_python("sidecar", COMMANDS_START, *COMMANDS) == dict.fromkeys(COMMANDS, 2) | readers


@pytest.mark.usefixtures("built")
def test_image_has_the_data_of_the_services_that_are_used() -> None:
    called = {operation.service for operation in operations().values()}

    assert set(run_python("operator", SERVICES)) == called | CREDENTIAL_CHAIN
