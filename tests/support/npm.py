"""npm packages for tests, installed once per lock file outside the repository."""

import hashlib
import shutil
from functools import partial
from pathlib import Path

from tests.support.controlplane.cache import build_once, cache_dir, run_with_progress

_NPM_CI = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]
_PINS = ("package.json", "package-lock.json")


def missing() -> str:
    """Return which of the required programs this machine lacks; empty if it has them."""
    return " and ".join(f"there is no {name}" for name in ("node", "npm") if shutil.which(name) is None)


def installed(name: str, pins: Path) -> Path:
    """Install what the lock file in `pins` pins, and return the folder from which node finds the packages."""
    digest = hashlib.sha256(b"".join((pins / file).read_bytes() for file in _PINS)).hexdigest()[:16]
    return build_once(cache_dir() / f"{name}-{digest}", partial(_install, name, pins))


def _install(name: str, pins: Path, folder: Path) -> None:
    folder.mkdir()
    for file in _PINS:
        shutil.copy(pins / file, folder)
    run_with_progress(name, _NPM_CI, 5, folder, {})
