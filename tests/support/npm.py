"""Installs npm packages for tests, once per lock file and outside the repository."""

import hashlib
import shutil
from functools import partial
from pathlib import Path

from tests.support.controlplane.cache import build_once, cache_dir, run_with_progress

# Install the pinned versions only: run no scripts and send no telemetry.
_NPM_CI = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]
_PINS = ("package.json", "package-lock.json")


def missing() -> str:
    """Describe the required programs that are not installed; empty if all are."""
    return " and ".join(f"{name} is not installed" for name in ("node", "npm") if shutil.which(name) is None)


def installed(name: str, pins: Path) -> Path:
    """Install the packages that the lock file in a folder pins, and return the folder to run node in."""
    digest = hashlib.sha256(b"".join((pins / file).read_bytes() for file in _PINS)).hexdigest()[:16]
    return build_once(cache_dir() / f"{name}-{digest}", partial(_install, name, pins))


def _install(name: str, pins: Path, folder: Path) -> None:
    folder.mkdir()
    for file in _PINS:
        shutil.copy(pins / file, folder)
    run_with_progress(name, _NPM_CI, 5, folder, {})
