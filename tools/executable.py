"""Builds the kubectl plugin as one executable file for this platform: python -m tools.executable.

Any Python 3.11 or newer can run it. It does not use the development dependencies, some of which exist for Linux only.
"""

import os
import platform
import shutil
import subprocess
import sysconfig
import tarfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "executable"
ARCHIVES = BUILD / "archives"
PLATFORMS = ("darwin-amd64", "darwin-arm64", "linux-amd64", "linux-arm64", "windows-amd64")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_MACHINE = platform.machine().lower()
PLATFORM = f"{platform.system().lower()}-{_ARCHITECTURES.get(_MACHINE, _MACHINE)}"
PROGRAM = "kubectl-keyturn.exe" if os.name == "nt" else "kubectl-keyturn"
# Commands are imported by name, when they are called; PyInstaller would not find their modules.
_OPTIONS = (
    *("--onefile", "--name=kubectl-keyturn", "--clean", "--noconfirm", "--log-level=WARN", "--python-option=X utf8=1"),
    *("--collect-submodules=keyturn.cli.kubectl", "--collect-submodules=keyturn.cli.check", "--collect-data=keyturn"),
    *(f"--distpath={BUILD}", f"--workpath={BUILD / 'work'}", f"--specpath={BUILD}"),
)


def archive_name(name: str) -> str:
    return f"kubectl-keyturn-{name}.tar.gz"


def build() -> Path:
    """Build the executable, start it, and return the archive with it and the license."""
    shutil.rmtree(BUILD, ignore_errors=True)
    venv.create(BUILD / "venv", with_pip=True)
    python = Path(sysconfig.get_path("scripts", "venv", {"base": str(BUILD / "venv")})) / "python"
    requirements = ("--require-hashes", "--requirement", ROOT / "requirements" / "executable.txt")
    subprocess.run([python, "-m", "pip", "install", "--quiet", *requirements], check=True)
    variables = os.environ | {"PYTHONPATH": str(ROOT / "operator")}
    entry = ROOT / "tools" / "executable_entry.py"
    subprocess.run([python, "-m", "PyInstaller", *_OPTIONS, entry], env=variables, check=True)
    for arguments in (("--version",), ("login", "--help"), ("check", ROOT / "examples" / "license-manager.yaml")):
        subprocess.run([BUILD / PROGRAM, *arguments], check=True, stdout=subprocess.DEVNULL)
    ARCHIVES.mkdir()
    archive = ARCHIVES / archive_name(PLATFORM)
    with tarfile.open(archive, "w:gz") as files:
        files.add(BUILD / PROGRAM, PROGRAM)
        files.add(ROOT / "LICENSE", "LICENSE")
    return archive


if __name__ == "__main__":
    print(build().relative_to(ROOT))
