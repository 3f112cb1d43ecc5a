"""Runs a Python program in a memory cgroup, as a kubelet runs a container."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_JOIN = (
    "import os, runpy, sys; open(sys.argv.pop(1), 'w').write(str(os.getpid())); "
    "runpy.run_module('keyturn', run_name='__main__', alter_sys=True)"
)


@contextmanager
def limited_program(limit: int) -> Iterator[tuple[str, ...]]:
    """Yield the arguments for Python that run keyturn with at most `limit` bytes, without a limit if there is no root.

    Version 1 of cgroups has a hierarchy for memory, version 2 has one for everything.
    """
    for parent, file in ((_ROOT / "memory", "memory.limit_in_bytes"), (_ROOT, "memory.max")):
        cgroup = parent / f"keyturn-memory-{os.getpid()}"
        with suppress(OSError):
            cgroup.mkdir()
        if os.access(cgroup / file, os.W_OK):
            (cgroup / file).write_text(str(limit))
            try:
                yield "-c", _JOIN, str(cgroup / "cgroup.procs")
            finally:
                cgroup.rmdir()
            return
        with suppress(OSError):
            cgroup.rmdir()
    yield "-m", "keyturn"
