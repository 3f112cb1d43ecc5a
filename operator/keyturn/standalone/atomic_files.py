"""Writes files and directories atomically: after a crash, each has either its old or its new content."""

import contextlib
import errno
import fcntl
import itertools
import logging
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from keyturn.core.errors import RefusedError
from keyturn.sidecar.mounted_files import (
    MAX_SECRET_BYTES,
    FileFingerprint,
    IrregularFileError,
    file_fingerprint,
    open_regular_file,
    read_regular_file,
)

LOCK = "..lock"
# Of the versions, and of temporary files.
_PREFIX, _DATA = "..keyturn-", "..data"
_DRY_RUN_BYTES = 64 * 1024
# A version contains the data of a Secret, and the issuance record, which is smaller.
_MAX_BYTES = 2 * MAX_SECRET_BYTES
_MAX_ENTRIES = 10_000
_log = logging.getLogger(__name__)


class StartupError(Exception):
    """The process cannot start with its options. The message is one line with the reason."""


@contextlib.contextmanager
def reporting_write_errors(path: Path) -> Iterator[None]:
    """Turn an OSError, such as a full or read-only disk, into RefusedError (WriteDenied) with this path."""
    try:
        yield
    except OSError as error:
        cause = error.strerror or type(error).__name__
        raise RefusedError("WriteDenied", f"{path} cannot be written: {cause}") from None


def replace_file(path: Path, content: bytes, temporary: Path) -> None:
    """Replace a file atomically, with mode 0600. `temporary`, in the same directory, is written first."""
    write_in_place(temporary, content, 0o600)
    temporary.replace(path)
    sync_directory(path.parent)


def write_in_place(path: Path, content: bytes, mode: int) -> None:
    """Write a file and flush it to disk. An existing file is overwritten in place: its blocks are reused."""
    file = open_regular_file(path)
    try:
        # Before the content: it fails if the file belongs to another user, who may be able to read it.
        os.fchmod(file, mode)
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(file, rest) :]
        os.ftruncate(file, len(content))
        os.fsync(file)
    finally:
        os.close(file)


def sync_directory(directory: Path) -> None:
    """Flush the entries of a directory to disk. Without this, a power failure can undo a rename."""
    file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


@contextlib.contextmanager
def locked_directory(directory: Path, mode: int, flock: Callable[[int, int], None] = fcntl.flock) -> Iterator[None]:
    """Lock a directory for this process; create it with `mode` if it does not exist. Raises StartupError.

    The kernel releases the lock when the process ends, even if it is killed.
    """
    descriptors: list[int] = []
    try:
        try:
            directory.mkdir(mode=mode, parents=True, exist_ok=True)
            descriptors.append(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            descriptors.append(os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise StartupError(f"{directory} cannot be used: {error.strerror or error}") from None
        try:
            flock(descriptors[1], fcntl.LOCK_EX | fcntl.LOCK_NB)
            _lock_inode(descriptors[0], flock)
        except BlockingIOError:
            raise StartupError(f"another process uses {directory}: give each process its own directory") from None
        except OSError as error:
            cause = error.strerror or type(error).__name__
            raise StartupError(
                f"{directory} cannot be locked: {cause}: use a file system that supports flock"
            ) from None
        yield
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _lock_inode(directory: int, flock: Callable[[int, int], None]) -> None:
    """Lock the directory itself, because someone may remove the lock file. NFS does not support this."""
    try:
        flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        pass


class AtomicDir:
    """A directory whose files are replaced atomically, with the layout of a Secret that the kubelet mounts.

    Each version has its own directory, `..data` is a link to the current one, and each file name is a link through
    `..data`. A rename replaces `..data` atomically, so a process that resolves it first reads files of one version.
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
        with reporting_write_errors(self.path):
            version = self._version()
            if version is None:
                return None
            files = _read_files(version)
            self._create_links(files)
        self._seen = self._fingerprints()
        return files

    def write(self, files: Mapping[str, str]) -> None:
        """Replace all files atomically.

        Raises RefusedError: WriteDenied if the directory cannot be written; the previous version then stays in place.
        TargetConflict if a file of another program has one of the names.
        """
        try:
            with reporting_write_errors(self.path):
                self._check_names(files)
                version = self._write_version(files)
                self._create_link(_DATA, version.name)
                sync_directory(self.path)
                self._create_links(files)
                self._remove_leftovers(files)
        finally:
            self._seen = self._fingerprints()

    def dry_run(self, names: Iterable[str]) -> None:
        """Check whether files with these names can be written. Raises RefusedError as `write` does."""
        file = self._temporary()
        with reporting_write_errors(self.path):
            self._check_names(names)
            try:
                # Not every file system has symbolic links. The file replaces this one.
                file.symlink_to(_DATA)
                write_in_place(file, bytes(_DRY_RUN_BYTES), 0o600)
            finally:
                with contextlib.suppress(OSError):
                    file.unlink(missing_ok=True)

    def clean_up(self) -> None:
        """Remove previous versions, and the files that a crash left behind."""
        with reporting_write_errors(self.path):
            version = self._version()
            self._remove_leftovers([file.name for file in version.iterdir()] if version else [])

    def has_changed(self) -> bool:
        """Whether another program has changed anything since the last read or write."""
        return self._fingerprints() != self._seen

    def _version(self) -> Path | None:
        try:
            name = str((self.path / _DATA).readlink())
        except FileNotFoundError:
            return None
        except OSError as error:
            # Any other error is not about the entry: the disk fails, or the directory cannot be entered.
            if error.errno != errno.EINVAL:
                raise
            name = ""
        if not name.startswith("..") or name == ".." or "/" in name:
            raise RefusedError(
                "TargetConflict", f"{self.path / _DATA} is not a link created by Keyturn: choose another directory"
            )
        version = self.path / name
        try:
            # Not is_dir(), which returns False for any error since Python 3.14.
            is_directory = stat.S_ISDIR(version.stat().st_mode)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ELOOP):
                raise
            return None
        return version if is_directory else None

    def _write_version(self, files: Mapping[str, str]) -> Path:
        """Write a new version directory without linking to it. Remove it if the write fails."""
        version = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self.path))
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
                self._create_link(name, f"{_DATA}/{name}")

    def _create_link(self, name: str, target: str) -> None:
        link = self._temporary()
        link.symlink_to(target)
        try:
            link.replace(self.path / name)
        except OSError:
            link.unlink()
            raise

    def _temporary(self) -> Path:
        # A fixed name could be that of a directory, which is not replaced.
        return self.path / f"{_PREFIX}{secrets.token_hex(8)}"

    def _remove_leftovers(self, names: Iterable[str]) -> None:
        """Remove previous versions, links to files that no longer exist, and temporary files."""
        version, kept_names = self._version(), set(names)
        for entry in list(os.scandir(self.path)):
            is_leftover = entry.name.startswith(_PREFIX) and entry.path != str(version)
            if is_leftover or (entry.name not in kept_names and self._is_link(entry.name)):
                try:
                    (shutil.rmtree if entry.is_dir(follow_symlinks=False) else os.unlink)(entry.path)
                except (OSError, RecursionError) as error:
                    # On NFS, a file that another process has open remains. The new version is complete nevertheless.
                    cause = getattr(error, "strerror", "nested too deeply")
                    _log.warning("%s was not removed: %s", entry.path, cause)

    def _check_names(self, names: Iterable[str]) -> None:
        version = self._version()
        managed = {path.name for path in _entries(version)} if version else set[str]()
        for name in _visible(names):
            if not self._is_link(name) and name not in managed and os.path.lexists(self.path / name):
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
    """Return the content of the files. An entry that Keyturn cannot have written, such as a link, counts as empty.

    Like any other edit, an empty file causes a new version with new credentials.
    """
    files, remaining = {}, _MAX_BYTES
    for path in _entries(version):
        content = b""
        with contextlib.suppress(IrregularFileError, FileNotFoundError, PermissionError):
            content = b"" if path.is_symlink() else read_regular_file(path, remaining)
        remaining -= len(content)
        files[path.name] = content.decode(errors="replace")
    return files


def _entries(directory: Path) -> list[Path]:
    with os.scandir(directory) as entries:
        return [Path(entry.path) for entry in itertools.islice(entries, _MAX_ENTRIES)]


def _visible(names: Iterable[str]) -> Iterator[str]:
    return (name for name in names if not name.startswith(".."))
