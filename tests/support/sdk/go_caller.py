"""The Go caller, built once per version of its source outside the repository."""

import hashlib
from functools import cache
from pathlib import Path

from tests.support.controlplane.build import Program, build
from tests.support.controlplane.cache import BuildError, build_once, cache_dir, run_with_progress
from tests.support.controlplane.go_toolchain import go

_SOURCE = Path(__file__).parent / "go"
_PROGRAM = Program(".", _SOURCE, release="", variables={}, usual_seconds=15)


def _path() -> Path:
    source = b"".join((_SOURCE / name).read_bytes() for name in ("caller.go", "go.mod", "go.sum"))
    return cache_dir() / f"sdk-go-{hashlib.sha256(source).hexdigest()[:16]}"


@cache
def missing() -> str:
    """Return why its modules cannot be downloaded; empty if they can be. A compiler error is no reason to skip."""
    if _path().exists():
        return ""
    try:
        run_with_progress("the AWS SDK for Go", [go(_SOURCE), "mod", "download"], 5, _SOURCE, {})
    except BuildError as error:
        return str(error).splitlines()[-1]
    return ""


def go_caller() -> Path:
    """Return the path of the program; build it if necessary."""
    return build_once(_path(), lambda path: build(_PROGRAM, path))
