"""Sources as files: FOLDER/NAME/KEY, as the kubelet mounts the Secret or ConfigMap NAME at FOLDER/NAME."""

import asyncio
import errno
from collections.abc import Iterable, Mapping
from pathlib import Path

from keyturn.api.source import ConfigMapKeyRef, SecretKeyRef
from keyturn.api.token_request import Request
from keyturn.core.errors import RefusedError, UnavailableError
from keyturn.core.pipeline_values import SourceValues, parse_source
from keyturn.sidecar.plain_file import read_plain

_MOST_BYTES = 1024 * 1024  # of a Secret
_NO_FILE = (errno.EISDIR, errno.EINVAL, errno.EFBIG)  # another thing than a file of that size
_TRIES = 5
_REQUIRED = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_KEYS = (*_REQUIRED, "AWS_SESSION_TOKEN")
Facts = tuple[int, int, int] | None


class Sources:
    """Reads what a request names. No name or key is a path or dots: the API's patterns see to that."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._seen: dict[Path, Facts] = {}
        self._of = ""

    async def read_source(self, request: Request) -> SourceValues:
        """Read all that the source of a request names, and what works only once in a step, fresh.

        Raises RefusedError: SourceNotFound, SourceInvalid; UnavailableError for files that change all the time.
        """
        return await asyncio.to_thread(self._read_source, request)

    async def read_value(self, _namespace: str, ref: SecretKeyRef | ConfigMapKeyRef) -> str:
        """Read one value of a step's own, such as a client's secret."""
        path = self._place(ref.name) / ref.key
        return (await asyncio.to_thread(self._read, [path]))[path].strip()

    async def read_file(self, path: Path) -> str:
        """Read a file that is not in the folder."""
        return (await asyncio.to_thread(self._read, [path]))[path].strip()

    def has_changed(self) -> bool:
        """Whether a file that was read is another now, or one that was missing is there."""
        return any(facts(path) != seen for path, seen in self._seen.items())

    def take_changes(self) -> bool:
        """Tell it once: not every look reads all of them again."""
        before, self._seen = self._seen, {path: facts(path) for path in self._seen}
        return before != self._seen

    def _read_source(self, request: Request) -> SourceValues:
        wanted, proof = request.spec.source, request.spec.single_use_ref
        if request.exchange_hash != self._of:
            self._seen, self._of = {}, request.exchange_hash
        ref = wanted.token_ref
        refs = {it: self._place(it.name) / it.key for it in (ref, proof) if it}
        values = self._read(refs.values())
        return parse_source(
            token=values[refs[ref]] if ref else None,
            keys=self._read_keys(wanted.keys_ref.name) if wanted.keys_ref else None,
            proof=values[refs[proof]] if proof else None,
        )

    def _read_keys(self, name: str) -> Mapping[str, str]:
        place = self._place(name)
        paths = {place / key: key for key in _KEYS}
        found = self._read(paths, needed=[place / key for key in _REQUIRED])
        return {paths[path]: value for path, value in found.items()}

    def _place(self, name: str) -> Path:
        if self._folder is None:
            raise RefusedError("SourceNotFound", f"the request reads {name}: say in which folder, by --sources-dir")
        return self._folder / name

    def _read(self, paths: Iterable[Path], needed: Iterable[Path] | None = None) -> dict[Path, str]:
        """Read files that belong together; what is not needed may be missing."""
        paths = list(paths)
        needed = paths if needed is None else list(needed)
        for _ in range(_TRIES):
            before = {path: facts(path) for path in paths}
            self._seen |= before
            try:
                values = {path: read_text(path) for path in paths if before[path] or path in needed}
            except RefusedError:
                # The kubelet removes the former version at once: what was there a moment ago is not missing.
                if {path: facts(path) for path in paths} == before:
                    raise
                continue
            if {path: facts(path) for path in paths} == before:
                return values
        raise UnavailableError("Unavailable", f"{paths[0].parent} changes while it is read")


def facts(path: Path) -> Facts:
    """What shows that a file is another one now; None where there is none."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_ino, about.st_mtime_ns, about.st_size


def read_text(path: Path) -> str:
    """Read one file; raises RefusedError: SourceNotFound where nothing is there, SourceInvalid for no text."""
    try:
        content = read_plain(path, _MOST_BYTES)
    except FileNotFoundError:
        raise RefusedError("SourceNotFound", f"{path} does not exist") from None
    except OSError as error:
        reason = "SourceInvalid" if error.errno in _NO_FILE else "SourceNotFound"
        raise RefusedError(reason, f"{path} cannot be read: {error.strerror}") from None
    if not content:
        raise RefusedError("SourceNotFound", f"{path} is empty")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise RefusedError("SourceInvalid", f"{path} is not text") from None
