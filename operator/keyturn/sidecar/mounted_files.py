"""Reads and opens files that other processes may write and replace, such as a mounted Secret."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from keyturn.sidecar.credential_cache import DEFAULT_KEY, NoCredentialsError, ServedCredentials, parse_credentials

MAX_SECRET_BYTES = 1024 * 1024
_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "expiration")
_ATTEMPTS = 5


class IrregularFileError(OSError):
    """The path is not a regular file, or the file is too large."""


@dataclass(frozen=True, slots=True)
class FileFingerprint:
    """Identifies the content of a file without reading it: equal fingerprints mean equal content."""

    inode: int
    size: int
    # The time at which the inode changed. The owner of a file can set its modification time to any value.
    changed_ns: int


def file_fingerprint(path: Path) -> FileFingerprint | None:
    """Return the fingerprint of a file, or None if there is no file or it cannot be examined."""
    try:
        status = path.stat()
    except OSError:
        return None
    return FileFingerprint(status.st_ino, status.st_size, status.st_ctime_ns)


def read_regular_file(path: Path, max_bytes: int) -> bytes:
    """Read a file; raises OSError: IrregularFileError if it is not a regular file or is larger than `max_bytes`."""
    # Checked before the file is opened, because opening a device can have side effects.
    _require_regular(path, path.stat())
    # The path may be a pipe by now. Without O_NONBLOCK, opening a pipe blocks until there is a writer.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        _require_regular(path, os.fstat(file.fileno()))
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise IrregularFileError(errno.EFBIG, f"larger than {max_bytes} bytes", str(path))
    return content


def open_regular_file(path: Path) -> int:
    """Open a file for writing, and create it with mode 0600 if it does not exist. The caller closes the descriptor.

    Anything else at the path, such as a pipe or a link, is removed: writing to it could block or reach another file.
    """
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(path.lstat().st_mode):
            path.unlink()
    # The path may be a pipe or a link again by now.
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        _require_regular(path, os.fstat(file))
    except OSError:
        os.close(file)
        raise
    return file


def _require_regular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise IrregularFileError(errno.EINVAL, "not a regular file", str(path))


def _is_link(path: Path) -> bool:
    # Path.is_symlink raises PermissionError if the directory may not be entered.
    return os.path.islink(path)  # noqa: PTH114 - as above


Fingerprint = tuple[Path, tuple[FileFingerprint | None, ...]]


@dataclass(frozen=True, slots=True)
class MountedSecret:
    """A directory with the keys of a Secret as files, written by the kubelet or by another program.

    The kubelet replaces all files atomically: they are links through `..data`, which links to the directory of the
    current version.
    """

    directory: Path
    key: str = DEFAULT_KEY

    def fingerprint(self) -> Fingerprint:
        """Return a value that differs if the Secret has changed, without reading its content."""
        version = self._version()
        return version, tuple(file_fingerprint(version / name) for name in self._names())

    def last_changed(self) -> datetime:
        """Return when a file last changed; the start of 1970 if there are no files or the kubelet mounted them."""
        change_times = [0]
        if not _is_link(self.directory / "..data"):
            files = (file_fingerprint(self.directory / name) for name in self._names())
            change_times += [file.changed_ns for file in files if file]
        return datetime.fromtimestamp(max(change_times) / 1e9, UTC)

    def read(self) -> ServedCredentials:
        """Read the credentials; raises NoCredentialsError if there are none.

        If the files change while they are read, they are read again, so that all come from the same version.
        """
        for _ in range(_ATTEMPTS):
            fingerprint = self.fingerprint()
            try:
                data = dict(self._files())
            except OSError as error:
                failure = f"cannot read {error.filename}: {error.strerror}"
                continue
            if self.fingerprint() == fingerprint:
                break
            failure = f"the files in {self.directory} keep changing while they are read"
        else:
            raise NoCredentialsError(failure)
        if not data.keys() & {self.key, _VARIABLES[0]}:
            raise NoCredentialsError(
                f"{self.directory} contains neither {self.key} nor {_VARIABLES[0]}: check that the Secret is"
                " mounted there and has the format credentialProcess or env"
            )
        return parse_credentials(data, self.key)

    def _version(self) -> Path:
        """Return the directory of the current version, resolved once because the link may change at any time."""
        link = self.directory / "..data"
        # Path.resolve raises RuntimeError for a link to itself; reading such a link raises OSError, which is handled.
        return Path(os.path.realpath(link)) if _is_link(link) else self.directory

    def _names(self) -> tuple[str, ...]:
        return (self.key, *_VARIABLES)

    def _files(self) -> Iterator[tuple[str, str]]:
        version = self._version()
        for name in self._names():
            path = version / name
            try:
                yield name, read_regular_file(path, MAX_SECRET_BYTES).decode()
            except FileNotFoundError:
                continue
            except UnicodeDecodeError:
                raise NoCredentialsError(f"{path} is not UTF-8") from None
