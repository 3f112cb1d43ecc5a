"""The files in build/ that a playground writes for the shells in it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.controlplane.cluster import write_private_file


@contextmanager
def owned_file(path: Path, text: str) -> Iterator[None]:
    """Write a file, and delete it at the end unless another playground has replaced it."""
    path.parent.mkdir(exist_ok=True)
    write_private_file(path, text)
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            if path.read_text() == text:
                path.unlink()
