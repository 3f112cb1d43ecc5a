"""The Store of standalone mode: sources are files; the target is in memory and, optionally, in a directory.

It publishes issued credentials to the cache of the credentials endpoint.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

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
from keyturn.sidecar.credential_cache import CredentialCache, NoCredentialsError, ServedCredentials, parse_credentials
from keyturn.standalone.atomic_files import AtomicDir
from keyturn.standalone.source_files import SourceFiles

# No key of a Secret begins with two dots.
ISSUANCE_FILE = "..issuance"
# How long the output directory may delay a renewal: its file system may not respond.
_ACCESS_SECONDS = 10.0
_T = TypeVar("_T")
NO_SERVABLE_FORMAT = "to serve credentials, the request needs one of the formats env and credentialProcess"


@dataclass(frozen=True, slots=True)
class Target:
    """The data of the target, and its issuance record if the record is valid."""

    issuance: Issuance | None
    data: Mapping[str, str] = field(repr=False)

    def is_unmodified(self, request: Request) -> bool:
        """Whether the data is still as it was issued."""
        return self.issuance is not None and data_hash(self.data, request) == self.issuance.data_hash


class FileStore:
    """Implements the Store for a single request. Valid data is passed to `publish`.

    `is_due` returns whether credentials that are also served from memory are due. They are then renewed even if the
    output directory cannot be read or written.
    """

    def __init__(
        self,
        sources: SourceFiles,
        output: AtomicDir | None,
        publish: Callable[[Request, Target], None],
        is_due: Callable[[Issuance], bool] = lambda _: False,
    ) -> None:
        self._sources = sources
        self._output = output
        self._publish = publish
        self._is_due = is_due
        # `_written` is the target that was last read from, or written to, the output directory.
        self._target: Target | None = None
        self._written: Target | None = None
        self._published: Issuance | None = None
        self._access: asyncio.Future[Any] | None = None

    async def read_source(self, request: Request, *, shared: bool = False) -> SourceValues:  # noqa: ARG002 - of Store
        """Read the source's files: there is no other request."""
        return await self._sources.read_source(request)

    async def read_target(self, request: Request) -> TargetSecret | None:
        """Return the target. The output directory is read each time, because other programs may have changed it.

        Data that could not be written is written first: issuing it again would be another exchange. Labels and owner
        always match the spec, so that they never cause a write.
        """
        if self._output:
            try:
                self._target = self._written = await self._in_thread(self._synchronize, request, self._output)
            except RefusedError:
                if not self._must_renew():
                    raise
            if self._target and self._target.is_unmodified(request):
                self._publish_target(request, self._target)
        if self._target is None:
            return None
        return TargetSecret(
            uid="",
            resource_version="",
            issuance=self._target.issuance,
            labels=labels(request),
            annotations=annotations(request),
            owners=frozenset() if request.should_retain_secret else frozenset({request.uid}),
            managers=frozenset({field_manager(request.uid)}),
            data_hash=data_hash(self._target.data, request),
        )

    async def dry_run(self, request: Request) -> None:
        """Check that the output directory has free space, and that no other program's files have the same names."""
        if self._output and not self._must_renew():
            names = [key for format_spec in request.spec.formats for key in format_spec.options.keys]
            await self._in_thread(self._output.dry_run, names)

    async def write(self, request: Request, issuance: Issuance, data: dict[str, str]) -> None:
        """Replace the data and the issuance record."""
        self._target = Target(issuance, data)
        try:
            if self._output:
                self._written = await self._in_thread(self._synchronize, request, self._output)
        finally:
            # Published after the write, because clients may read the files as soon as the pod is ready, but even if the
            # write fails: a full disk is no reason to withhold valid credentials.
            self._publish_target(request, self._target)

    async def apply_metadata(self, request: Request, issuance: Issuance) -> None:
        """Replace the issuance record and keep the data."""
        if self._target and self._target.is_unmodified(request):
            await self.write(request, issuance, dict(self._target.data))

    async def disown(self, request: Request, target: TargetSecret) -> TargetSecret:  # noqa: ARG002 - of Store
        """Do nothing: files have no owner reference."""
        return target

    async def disown_former(self, request: Request) -> None:
        """Do nothing: files have no owner reference."""

    def _synchronize(self, request: Request, output: AtomicDir) -> Target | None:
        """Write the target if the output directory does not contain it yet, otherwise read it. Returns the target."""
        target = self._target
        if target and target.issuance and target is not self._written:
            output.write({**target.data, ISSUANCE_FILE: target.issuance.encoded()})
            return target
        files = output.read()
        return _parse(request, files, output) if files is not None else None

    async def _in_thread(self, access: Callable[..., _T], *arguments: Any) -> _T:
        """Access the output directory in a thread. Raises RefusedError if its file system does not respond.

        No other access is started until the thread has ended.
        """
        if self._access is None or self._access.done():
            self._access = future = asyncio.get_running_loop().run_in_executor(None, access, *arguments)
            # Retrieved, because asyncio logs the exceptions of futures that nobody waits for.
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
            await asyncio.wait({future}, timeout=_ACCESS_SECONDS)
            if future.done():
                return future.result()
        raise RefusedError("WriteDenied", "the file system of the output directory does not respond")

    def _publish_target(self, request: Request, target: Target) -> None:
        self._published = target.issuance
        self._publish(request, target)

    def _must_renew(self) -> bool:
        # Not the record in the directory: another program may have removed it, or the volume may be unmounted.
        return self._published is not None and self._is_due(self._published)

    def has_changed(self) -> bool:
        """Whether a source or the output directory has changed since it was read."""
        return self._sources.has_changed() or self.has_output_changed()

    def has_output_changed(self) -> bool:
        """Whether another program has changed the output directory since it was read or written."""
        return bool(self._output and self._output.has_changed())

    def acknowledge_source_changes(self) -> bool:
        """Return whether a source has changed since it was last read or acknowledged."""
        return self._sources.acknowledge_changes()


def _parse(request: Request, files: Mapping[str, str], output: AtomicDir) -> Target:
    """Parse the files of the output directory; raises RefusedError (TargetConflict) if another request owns them."""
    if ISSUANCE_FILE not in files:
        raise RefusedError(
            "TargetConflict", f"{output.path} contains files of another program: choose another directory"
        )
    issuance = read_issuance({ISSUANCE_ANNOTATION: files[ISSUANCE_FILE]})
    if issuance and issuance.request != request.name:
        raise RefusedError(
            "TargetConflict",
            f"{output.path} contains the credentials of TokenRequest {issuance.request}: choose another directory",
        )
    return Target(issuance, {key: files[key] for key in (issuance.keys if issuance else ()) if key in files})


@dataclass(frozen=True, slots=True)
class CredentialPublisher:
    """Publishes credentials to `cache`. `has_endpoint`: an endpoint serves the cached credentials."""

    cache: CredentialCache
    has_endpoint: bool

    def publish(self, request: Request, target: Target) -> None:
        """Replace the cached credentials, unless the target has no valid issuance record or cannot be served."""
        if target.issuance is None:
            return
        specs = [format_spec for format_spec in request.spec.formats if format_spec.credential_process]
        keys = [key for format_spec in specs for key in format_spec.options.keys]
        try:
            # Without an endpoint, the cache only serves the readiness probe, which needs the expiration time.
            credentials = (
                parse_credentials(target.data, keys[0] if keys else "")  # "" is not a valid key
                if self.has_endpoint
                else ServedCredentials("", target.issuance.expires, b"")
            )
        except NoCredentialsError as error:
            self.cache.failure = str(error)
        else:
            self.cache.publish(credentials)

    def is_due(self, issuance: Issuance) -> bool:
        """Whether credentials that the endpoint serves are due."""
        return self.has_endpoint and issuance.due <= self.cache.now()


def is_servable(request: Request) -> bool:
    """Whether the endpoint can serve the formats of a request."""
    return any(format_spec.env or format_spec.credential_process for format_spec in request.spec.formats)
