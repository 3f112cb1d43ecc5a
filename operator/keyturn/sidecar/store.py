"""The Store of one pod: sources are files, what is issued is held in memory and, if wanted, in a folder."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from keyturn.core.errors import RefusedError
from keyturn.core.holding import Source
from keyturn.core.marks import MARKS, FoundSecret, Marks, annotations, data_hash, field_manager, labels, read_marks
from keyturn.core.model import Request
from keyturn.sidecar.folder import Folder
from keyturn.sidecar.sources import Sources

# No key of a Secret begins with two dots.
MARKS_FILE = "..marks"


@dataclass(frozen=True, slots=True)
class Kept:
    """What is held: the data, and the marks where they count."""

    marks: Marks | None
    data: Mapping[str, str] = field(repr=False)

    def is_whole(self, request: Request) -> bool:
        """Whether the data are those that were issued."""
        return self.marks is not None and data_hash(self.data, request) == self.marks.data_hash


class FileStore:
    """The Store of a request that this process alone renews. `give` is told what is held."""

    def __init__(self, sources: Sources, folder: Folder | None, give: Callable[[Kept], None]) -> None:
        self._sources = sources
        self._folder = folder
        self._give = give
        self._kept: Kept | None = None

    async def read_source(self, request: Request) -> Source:
        """Read the source's files, fresh."""
        return await self._sources.read_source(request)

    async def read_target(self, request: Request) -> FoundSecret | None:
        """Find what is held; in a folder it is read anew, for anybody may have changed it there."""
        if self._folder:
            files = await asyncio.to_thread(self._folder.read)
            self._kept = _kept(request, files, self._folder) if files is not None else None
            if self._kept and self._kept.is_whole(request):
                self._give(self._kept)
        return _found(request, self._kept) if self._kept else None

    async def rehearse(self, request: Request) -> None:
        """Write as much as may have to be written, and remove it."""
        if self._folder:
            names = [key for wanted in request.spec.formats for key in wanted.options.keys]
            await asyncio.to_thread(self._folder.rehearse, names)

    async def write(self, request: Request, marks: Marks, data: dict[str, str]) -> None:  # noqa: ARG002 - the Store's own
        """Hold data and marks, and show them in the folder at once."""
        kept = Kept(marks, data)
        try:
            if self._folder:
                await asyncio.to_thread(self._folder.write, {**data, MARKS_FILE: marks.encoded()})
        finally:
            # Ready means the files too. But a full disk is no reason not to serve what was issued.
            self._give(kept)
        self._kept = kept

    async def dress(self, request: Request, marks: Marks) -> None:
        """Write other marks beside the data that are held."""
        if self._kept and self._kept.is_whole(request):
            await self.write(request, marks, dict(self._kept.data))

    def has_changed(self) -> bool:
        """Whether a source or the folder has changed since it was read."""
        return self._sources.has_changed() or self.has_folder_changed()

    def has_folder_changed(self) -> bool:
        """Whether anybody else has changed the folder since it was read or written."""
        return bool(self._folder and self._folder.has_changed())

    def take_source_changes(self) -> bool:
        """Whether a source has changed since it was read; it is told once."""
        return self._sources.take_changes()


def _kept(request: Request, files: Mapping[str, str], folder: Folder) -> Kept:
    """What the files of a folder are; raises RefusedError (TargetConflict) for those of somebody else."""
    if MARKS_FILE not in files:
        raise RefusedError("TargetConflict", f"{folder.path} holds files of somebody else: choose another folder")
    marks = read_marks({MARKS: files[MARKS_FILE]})
    if marks and marks.request != request.name:
        whose = f"what TokenRequest {marks.request} was given"
        raise RefusedError("TargetConflict", f"{folder.path} holds {whose}: choose another folder")
    return Kept(marks, {key: files[key] for key in (marks.keys if marks else ()) if key in files})


def _found(request: Request, kept: Kept) -> FoundSecret:
    """Tell it as a Secret: files have neither labels nor owner, so these are never a reason to write."""
    return FoundSecret(
        uid="",
        resource_version="",
        marks=kept.marks,
        labels=labels(request),
        annotations=annotations(request),
        owners=frozenset() if request.retains else frozenset({request.uid}),
        managers=frozenset({field_manager(request.uid)}),
        data_hash=data_hash(kept.data, request),
    )
