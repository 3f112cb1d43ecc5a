"""The Store of one pod: sources are files, what is issued is held in memory and, if wanted, in a folder."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from keyturn.api.token_request import Request
from keyturn.core.errors import RefusedError
from keyturn.core.issuance import (
    ISSUANCE_ANNOTATION,
    Issuance,
    TargetSecret,
    annotations,
    data_hash,
    field_manager,
    labels,
    read_issuance,
)
from keyturn.core.pipeline_values import SourceValues
from keyturn.standalone.atomic_dir import Folder
from keyturn.standalone.source_files import Sources

# No key of a Secret begins with two dots.
ISSUANCE_FILE = "..marks"


@dataclass(frozen=True, slots=True)
class Issued:
    """What was issued: the data, and the marks where they count."""

    issuance: Issuance | None
    data: Mapping[str, str] = field(repr=False)

    def is_whole(self, request: Request) -> bool:
        """Whether the data are those that were issued."""
        return self.issuance is not None and data_hash(self.data, request) == self.issuance.data_hash


class FileStore:
    """The Store of a request that this process alone renews. `give` is told what was issued."""

    def __init__(self, sources: Sources, folder: Folder | None, give: Callable[[Request, Issued], None]) -> None:
        self._sources = sources
        self._folder = folder
        self._give = give
        self._issued: Issued | None = None

    async def read_source(self, request: Request) -> SourceValues:
        """Read the source's files, fresh."""
        return await self._sources.read_source(request)

    async def read_target(self, request: Request) -> TargetSecret | None:
        """Find what is held; in a folder it is read anew, for anybody may have changed it there."""
        if self._folder:
            files = await asyncio.to_thread(self._folder.read)
            self._issued = _issued(request, files, self._folder) if files is not None else None
            if self._issued and self._issued.is_whole(request):
                self._give(request, self._issued)
        return _found(request, self._issued) if self._issued else None

    async def dry_run(self, request: Request) -> None:
        """Write as much as may have to be written, and remove it."""
        if self._folder:
            names = [key for wanted in request.spec.formats for key in wanted.options.keys]
            await asyncio.to_thread(self._folder.dry_run, names)

    async def write(self, request: Request, issuance: Issuance, data: dict[str, str]) -> None:
        """Hold data and marks, and show them in the folder at once."""
        issued = Issued(issuance, data)
        try:
            if self._folder:
                await asyncio.to_thread(self._folder.write, {**data, ISSUANCE_FILE: issuance.encoded()})
        finally:
            # Ready means the files too. But a full disk is no reason not to serve what was issued.
            self._give(request, issued)
        self._issued = issued

    async def apply_metadata(self, request: Request, issuance: Issuance) -> None:
        """Write other marks beside the data that are held."""
        if self._issued and self._issued.is_whole(request):
            await self.write(request, issuance, dict(self._issued.data))

    def has_changed(self) -> bool:
        """Whether a source or the folder has changed since it was read."""
        return self._sources.has_changed() or self.has_folder_changed()

    def has_folder_changed(self) -> bool:
        """Whether anybody else has changed the folder since it was read or written."""
        return bool(self._folder and self._folder.has_changed())

    def take_source_changes(self) -> bool:
        """Whether a source has changed since it was read; it is told once."""
        return self._sources.take_changes()


def _issued(request: Request, files: Mapping[str, str], folder: Folder) -> Issued:
    """What the files of a folder are; raises RefusedError (TargetConflict) for those of somebody else."""
    if ISSUANCE_FILE not in files:
        raise RefusedError("TargetConflict", f"{folder.path} holds files of somebody else: choose another folder")
    issuance = read_issuance({ISSUANCE_ANNOTATION: files[ISSUANCE_FILE]})
    if issuance and issuance.request != request.name:
        whose = f"what TokenRequest {issuance.request} was given"
        raise RefusedError("TargetConflict", f"{folder.path} holds {whose}: choose another folder")
    return Issued(issuance, {key: files[key] for key in (issuance.keys if issuance else ()) if key in files})


def _found(request: Request, issued: Issued) -> TargetSecret:
    """Tell it as a Secret: files have neither labels nor owner, so these are never a reason to write."""
    return TargetSecret(
        uid="",
        resource_version="",
        issuance=issued.issuance,
        labels=labels(request),
        annotations=annotations(request),
        owners=frozenset() if request.retains else frozenset({request.uid}),
        managers=frozenset({field_manager(request.uid)}),
        data_hash=data_hash(issued.data, request),
    )
