"""Reads credentials from a mounted Secret, all from the same version."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from keyturn.sidecar.credential_cache import DEFAULT_KEY, NoCredentialsError, ServedCredentials, parse_credentials
from keyturn.sidecar.regular_file import MAX_SECRET_BYTES, FileFingerprint, file_fingerprint, read_regular_file

_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "expiration")
_ATTEMPTS = 5

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
        """Return when a file last changed; 1970 if there are no files, or if the kubelet mounted them."""
        changed = [0]
        if not (self.directory / "..data").is_symlink():
            files = (file_fingerprint(self.directory / name) for name in self._names())
            changed += [file.changed_ns for file in files if file]
        return datetime.fromtimestamp(max(changed) / 1e9, UTC)

    def read(self) -> ServedCredentials:
        """Read the credentials; raises NoCredentialsError if there are none.

        If the files change while they are read, they are read again, so that all come from the same version.
        """
        failure = ""
        for _ in range(_ATTEMPTS):
            before = self.fingerprint()
            try:
                data = dict(self._files())
            except OSError as error:
                failure = f"cannot read {error.filename}: {error.strerror}"
            else:
                failure = f"the files in {self.directory} keep changing while they are read"
                if self.fingerprint() == before:
                    return self._parse(data)
        raise NoCredentialsError(failure)

    def _parse(self, data: dict[str, str]) -> ServedCredentials:
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
        return Path(os.path.realpath(link)) if link.is_symlink() else self.directory

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
