"""The program that calls by the AWS SDK for Go: built once for each text of it, outside the repository."""

import hashlib
from functools import cache
from pathlib import Path

from tests.support.controlplane.build import Program, build
from tests.support.controlplane.cache import MakeError, made_once, run_visibly
from tests.support.controlplane.cache import cache as folder
from tests.support.controlplane.golang import go

SOURCE = Path(__file__).parent / "go"
_FILES = ["caller.go", "go.mod", "go.sum"]
_PROGRAM = Program(".", SOURCE, release="", stamp={}, usual_seconds=15)


def _path() -> Path:
    digest = hashlib.sha256(b"".join((SOURCE / file).read_bytes() for file in _FILES)).hexdigest()[:16]
    return folder() / f"sdk-go-{digest}"


@cache
def missing() -> str:
    """Tell why it cannot be built here; empty if it can be, or is. That it does not compile is no reason."""
    if _path().exists():
        return ""
    try:
        run_visibly("the AWS SDK for Go", [go(SOURCE), "mod", "download"], 5, SOURCE, {})
    except MakeError as error:
        return str(error).splitlines()[-1]
    return ""


def caller() -> Path:
    """Find the program, or build it."""
    return made_once(_path(), lambda path: build(_PROGRAM, path))
