"""The program that calls by the AWS SDK for Go: built once for each text of it, outside the repository."""

import hashlib
from functools import cache
from pathlib import Path

from tests.support.controlplane.build import Program, build
from tests.support.controlplane.cache import BuildError, build_once, run_with_progress
from tests.support.controlplane.cache import cache_dir as folder
from tests.support.controlplane.go_toolchain import go

SOURCE = Path(__file__).parent / "go"
_FILES = ["caller.go", "go.mod", "go.sum"]
_PROGRAM = Program(".", SOURCE, release="", variables={}, usual_seconds=15)


def _path() -> Path:
    digest = hashlib.sha256(b"".join((SOURCE / file).read_bytes() for file in _FILES)).hexdigest()[:16]
    return folder() / f"sdk-go-{digest}"


@cache
def missing() -> str:
    """Tell why it cannot be built here; empty if it can be, or is. That it does not compile is no reason."""
    if _path().exists():
        return ""
    try:
        run_with_progress("the AWS SDK for Go", [go(SOURCE), "mod", "download"], 5, SOURCE, {})
    except BuildError as error:
        return str(error).splitlines()[-1]
    return ""


def caller() -> Path:
    """Find the program, or build it."""
    return build_once(_path(), lambda path: build(_PROGRAM, path))
