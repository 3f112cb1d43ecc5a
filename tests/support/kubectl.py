"""A script in place of kubectl."""

import os
from pathlib import Path

import pytest


def use_kubectl(script: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a script first on the PATH, under the name kubectl."""
    kubectl = directory / "kubectl"
    kubectl.write_text(script)
    kubectl.chmod(0o700)
    monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")
