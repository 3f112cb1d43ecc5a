"""A directory whose files are replaced atomically, with the layout of a Secret that the kubelet mounts.

Each version has its own directory, `..data` is a link to the current one, and each file name is a link through
`..data`. A rename replaces `..data` atomically, so a process that resolves it first reads files of a single version.
"""

import contextlib
import itertools
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from keyturn.core.errors import RefusedError
from keyturn.sidecar.regular_file import (
    MAX_SECRET_BYTES,
    FileFingerprint,
    IrregularFileError,
    file_fingerprint,
    read_regular_file,
)
from keyturn.standalone.atomic_files import reporting_write_errors, sync_directory, write_in_place

_VERSION_PREFIX, _DATA = "..keyturn-", "..data"
_TEMPORARY = _NEW_DATA, _NEW_LINK, _DRY_RUN = "..data_tmp", "..link", "..dry-run"
_DRY_RUN_BYTES = 64 * 1024
# A version is a Secret's data and the issuance record, which is smaller.
_MAX_BYTES = 2 * MAX_SECRET_BYTES
_MAX_ENTRIES = 10_000
_log = logging.getLogger(__name__)


class AtomicDir:
    """The files of the current version, by name.

    Names that begin with two dots, which are not valid keys of a Secret, get no link outside of the version directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: dict[str, FileFingerprint | None] = {}

    def read(self) -> dict[str, str] | None:
        """Return the files of the current version, or None if there is none, and repair broken links.

        Raises RefusedError (WriteDenied) if the repair fails.
        """
        self._seen = self._fingerprints()
        version = self._version()
        if version is None:
            return None
        with reporting_write_errors(self.path):
            files = _read_files(version)
            self._create_links(files)
        self._seen = self._fingerprints()
        return files

    def write(self, files: Mapping[str, str]) -> None:
        """Replace all files atomically.

        Raises RefusedError: WriteDenied if the directory cannot be written; the previous version then stays in place.
        TargetConflict if a file of another program has one of the names.
        """
        self._check_names(files)
        with reporting_write_errors(self.path):
            version = self._write_version(files)
            self._create_link(_DATA, version.name, _NEW_DATA)
            sync_directory(self.path)
            self._create_links(files)
            self._remove_leftovers(files)
        self._seen = self._fingerprints()

    def dry_run(self, names: Iterable[str]) -> None:
        """Check whether files with these names can be written. Raises RefusedError as `write` does."""
        self._check_names(names)
        file = self.path / _DRY_RUN
        with reporting_write_errors(self.path):
            try:
                write_in_place(file, bytes(_DRY_RUN_BYTES), 0o600)
            finally:
                with contextlib.suppress(OSError):
                    file.unlink(missing_ok=True)

    def clean_up(self) -> None:
        """Remove previous versions and the leftovers of a crash."""
        current = self._version()
        with reporting_write_errors(self.path):
            self._remove_leftovers([file.name for file in current.iterdir()] if current else [])

    def has_changed(self) -> bool:
        """Whether another program has changed anything since the last read or write."""
        return self._fingerprints() != self._seen

    def _version(self) -> Path | None:
        try:
            name = str((self.path / _DATA).readlink())
        except FileNotFoundError:
            return None
        except OSError:
            name = ""
        if not name.startswith("..") or "/" in name:
            raise RefusedError(
                "TargetConflict", f"{self.path / _DATA} is not a link created by Keyturn: choose another directory"
            )
        version = self.path / name
        return version if version.is_dir() else None

    def _write_version(self, files: Mapping[str, str]) -> Path:
        """Write a new version directory without linking to it. Remove it if the write fails."""
        version = Path(tempfile.mkdtemp(prefix=_VERSION_PREFIX, dir=self.path))
        try:
            for name, text in files.items():
                write_in_place(version / name, text.encode(), 0o440)
            version.chmod(0o750)
            sync_directory(version)
        except OSError:
            shutil.rmtree(version, ignore_errors=True)
            raise
        return version

    def _create_links(self, names: Iterable[str]) -> None:
        for name in _visible(names):
            if not self._is_link(name):
                if os.path.lexists(self.path / name):
                    _log.warning("%s was replaced by another program; restoring it", self.path / name)
                self._create_link(name, f"{_DATA}/{name}", _NEW_LINK)

    def _create_link(self, name: str, target: str, temporary: str) -> None:
        link = self.path / temporary
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        link.replace(self.path / name)

    def _remove_leftovers(self, names: Iterable[str]) -> None:
        """Remove previous versions, links to files that no longer exist, and temporary files."""
        current, kept = self._version(), set(names)
        for entry in list(os.scandir(self.path)):
            if entry.name.startswith(_VERSION_PREFIX) and entry.path != str(current):
                shutil.rmtree(entry.path)
            elif entry.name in _TEMPORARY or (entry.name not in kept and self._is_link(entry.name)):
                Path(entry.path).unlink()

    def _check_names(self, names: Iterable[str]) -> None:
        version = self._version()
        for name in _visible(names):
            is_managed = self._is_link(name) or (version is not None and (version / name).exists())
            if not is_managed and os.path.lexists(self.path / name):
                raise RefusedError(
                    "TargetConflict", f"{self.path / name} was not created by Keyturn: choose another directory"
                )

    def _is_link(self, name: str) -> bool:
        with contextlib.suppress(OSError):
            return str((self.path / name).readlink()) == f"{_DATA}/{name}"
        return False

    def _fingerprints(self) -> dict[str, FileFingerprint | None]:
        """Return the fingerprints of all entries of the directory and of the current version; links are followed."""
        fingerprints = {}
        for directory in (self.path, self.path / _DATA):
            with contextlib.suppress(OSError):
                for path in _entries(directory):
                    fingerprints[str(path)] = file_fingerprint(path)
        return fingerprints


def _read_files(version: Path) -> dict[str, str]:
    """Return the content of the files. What Keyturn cannot have written, such as a pipe, counts as an empty file.

    An empty file is an edit like any other: the credentials are issued again, in a new version.
    """
    files, remaining = {}, _MAX_BYTES
    for path in _entries(version):
        content = b""
        with contextlib.suppress(IrregularFileError):
            content = read_regular_file(path, remaining)
        remaining -= len(content)
        files[path.name] = content.decode(errors="replace")
    return files


def _entries(directory: Path) -> list[Path]:
    with os.scandir(directory) as entries:
        return [Path(entry.path) for entry in itertools.islice(entries, _MAX_ENTRIES)]


def _visible(names: Iterable[str]) -> Iterator[str]:
    return (name for name in names if not name.startswith(".."))
