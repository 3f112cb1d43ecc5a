"""A mounted Secret: its credentials, all of one version."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from keyturn.sidecar.credential_cache import KEY, Served, UnservableError, served
from keyturn.sidecar.plain_file import read_plain

_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "expiration")
_LARGEST = 1 << 20  # what Kubernetes lets a Secret hold
_TRIES = 5

Stamp = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Mounted:
    """A folder with the keys of a Secret as files, as the kubelet makes it or as anybody else does.

    The kubelet changes all files at once: they are links into the folder that its link `..data` leads to.
    """

    directory: Path
    key: str = KEY

    def stamp(self) -> Stamp:
        """Tell what would be read now, without reading: as long as this is the same, the files are."""
        folder = self._folder()
        return (folder, *(_of_file(folder / name) for name in self._names()))

    def written_at(self) -> datetime:
        """When the last file changed, where they may change one after the other; else the year 1970."""
        of_kubelet = (self.directory / "..data").is_symlink()
        found = () if of_kubelet else [_of_file(self.directory / name) for name in self._names()]
        return datetime.fromtimestamp(max((file[-1] for file in found if file), default=0) / 1e9, UTC)

    def read(self) -> Served:
        """Read the credentials; raises UnservableError where there are none that can be given.

        The files are of one version: where they change while they are read, it begins again.
        """
        for _ in range(_TRIES):
            before = self.stamp()
            try:
                data = dict(self._files())
            except OSError as error:
                trouble = f"cannot read {error.filename}: {error.strerror}"
            else:
                trouble = f"the files in {self.directory} keep changing while they are read"
                if self.stamp() == before:
                    return self._served(data)
        raise UnservableError(trouble)

    def _served(self, data: dict[str, str]) -> Served:
        if not data.keys() & {self.key, _VARIABLES[0]}:
            raise UnservableError(f"there is neither {self.key} nor {_VARIABLES[0]} in {self.directory}")
        return served(data, self.key)

    def _folder(self) -> Path:
        """The folder of the version that is mounted now: resolved once, since the link may change at any time."""
        link = self.directory / "..data"
        # Path.resolve raises RuntimeError for a link that leads to itself; to read that is an OSError.
        return Path(os.path.realpath(link)) if link.is_symlink() else self.directory

    def _names(self) -> tuple[str, ...]:
        return (self.key, *_VARIABLES)

    def _files(self) -> Iterator[tuple[str, str]]:
        folder = self._folder()
        for name in self._names():
            try:
                yield name, _text(folder / name)
            except FileNotFoundError:
                continue


def _of_file(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    # The time of the inode's change, not of the content's, which anybody may set as they like.
    return found.st_ino, found.st_size, found.st_ctime_ns


def _text(path: Path) -> str:
    try:
        return read_plain(path, _LARGEST).decode()
    except UnicodeDecodeError:
        raise UnservableError(f"{path} is not UTF-8") from None
