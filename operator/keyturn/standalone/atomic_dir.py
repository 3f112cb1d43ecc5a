"""A folder whose files change all at once, as the kubelet changes those of a mounted Secret.

The files of one version lie in a folder of their own, `..data` is a link to it, and each name a link through
`..data`: whoever has resolved `..data` sees one version, and a rename makes all names show the next.
"""

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from keyturn.core.errors import RefusedError
from keyturn.standalone.atomic_files import fill, flush, writing

_VERSION, _DATA, _NEXT_DATA, _NEXT_LINK, _REHEARSAL = "..keyturn-", "..data", "..data_tmp", "..link", "..rehearsal"
_LEFT = (_NEXT_DATA, _NEXT_LINK, _REHEARSAL)
_REHEARSED_BYTES = 64 * 1024
_log = logging.getLogger(__name__)
Facts = tuple[tuple[str, int, int, int], ...]


class Folder:
    """Files by name. One that begins with two dots has no link of its own: no key of a Secret is such a name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: Facts = ()

    def read(self) -> dict[str, str] | None:
        """Read all files of the version that is shown, None where there is none; links that are broken are mended.

        Raises RefusedError (WriteDenied) where that is not possible.
        """
        self._seen = self._facts()
        version = self._version()
        if version is None:
            return None
        with writing(self.path):
            files = {file.name: file.read_bytes().decode(errors="replace") for file in version.iterdir()}
            self._link(files)
        self._seen = self._facts()
        return files

    def write(self, files: Mapping[str, str]) -> None:
        """Show these files, and no others, from one moment to the next.

        Raises RefusedError: WriteDenied, and then what was shown still is; TargetConflict for names that files
        of somebody else have.
        """
        self._check_free(files)
        with writing(self.path):
            self._show(self._make(files))
            self._link(files)
            self._tidy(files)
        self._seen = self._facts()

    def dry_run(self, names: Iterable[str]) -> None:
        """Find out whether files of these names can be written; raises RefusedError as `write` does."""
        self._check_free(names)
        with writing(self.path), self._dry_run_bytes() as file:
            fill(file, bytes(_REHEARSED_BYTES), 0o600)

    def tidy(self) -> None:
        """Remove what a crash has left, and the versions before."""
        current = self._version()
        with writing(self.path):
            self._tidy([file.name for file in current.iterdir()] if current else [])

    def has_changed(self) -> bool:
        """Whether anybody else has changed anything in it since it was read or written."""
        return self._facts() != self._seen

    def _version(self) -> Path | None:
        try:
            name = str((self.path / _DATA).readlink())
        except FileNotFoundError:
            return None
        except OSError:
            name = ""
        if not name.startswith("..") or "/" in name:
            raise RefusedError(
                "TargetConflict", f"{self.path / _DATA} is not a link of Keyturn's: choose another folder"
            )
        version = self.path / name
        return version if version.is_dir() else None

    def _make(self, files: Mapping[str, str]) -> Path:
        """Write a version that nobody sees yet; what could not be written whole is removed."""
        version = Path(tempfile.mkdtemp(prefix=_VERSION, dir=self.path))
        try:
            for name, text in files.items():
                fill(version / name, text.encode(), 0o440)
            version.chmod(0o750)
            flush(version)
        except OSError:
            shutil.rmtree(version, ignore_errors=True)
            raise
        return version

    def _show(self, version: Path) -> None:
        self._point(_DATA, version.name, _NEXT_DATA)
        flush(self.path)

    def _link(self, names: Iterable[str]) -> None:
        for name in _shown(names):
            if not self._is_link(name):
                if os.path.lexists(self.path / name):
                    _log.warning("%s was replaced by somebody else; it shows what was issued again", self.path / name)
                self._point(name, f"{_DATA}/{name}", _NEXT_LINK)

    def _point(self, name: str, target: str, aside: str) -> None:
        link = self.path / aside
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        link.replace(self.path / name)

    def _tidy(self, names: Iterable[str]) -> None:
        """Remove the versions before, links to nothing, and what a crash has left."""
        current, kept = self._version(), set(names)
        for entry in list(os.scandir(self.path)):
            if entry.name.startswith(_VERSION) and entry.path != str(current):
                shutil.rmtree(entry.path)
            elif entry.name in _LEFT or (entry.name not in kept and self._is_link(entry.name)):
                Path(entry.path).unlink()

    def _check_free(self, names: Iterable[str]) -> None:
        version = self._version()
        for name in _shown(names):
            ours = self._is_link(name) or (version is not None and (version / name).exists())
            if not ours and os.path.lexists(self.path / name):
                raise RefusedError(
                    "TargetConflict", f"{self.path / name} was not made by Keyturn: choose another folder"
                )

    def _is_link(self, name: str) -> bool:
        with contextlib.suppress(OSError):
            return str((self.path / name).readlink()) == f"{_DATA}/{name}"
        return False

    @contextlib.contextmanager
    def _dry_run_bytes(self) -> Iterator[Path]:
        """A file to try with, which does not stay."""
        file = self.path / _REHEARSAL
        try:
            yield file
        finally:
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)

    def _facts(self) -> Facts:
        """What shows a change: what lies in the folder, and in the version that it shows."""
        found: list[tuple[str, int, int, int]] = []
        for folder in (self.path, self.path / _DATA):
            with contextlib.suppress(OSError):
                for entry in os.scandir(folder):
                    about = entry.stat(follow_symlinks=False)
                    found.append((entry.name, about.st_ino, about.st_mtime_ns, about.st_size))
        return tuple(sorted(found))


def _shown(names: Iterable[str]) -> Iterator[str]:
    return (name for name in names if not name.startswith(".."))
