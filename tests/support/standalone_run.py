"""A standalone process in virtual time: its files, its events, and its renewal loop."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from keyturn.sidecar.credential_cache import CredentialCache
from keyturn.standalone.atomic_files import AtomicDir
from keyturn.standalone.file_store import CredentialPublisher, FileStore
from keyturn.standalone.manifest_file import ManifestFile
from keyturn.standalone.renewal_loop import RenewalLoop
from keyturn.standalone.runner import exclusive_token_locks
from keyturn.standalone.source_files import SourceFiles
from keyturn.standalone.token_files import TokenFiles
from tests.support.dependencies import FakeEnvironment, manifest
from tests.support.mounts import put

START = FakeEnvironment().now


@dataclass
class StandaloneRun:
    """Runs the renewal loop of one request. Each of `events` is called at its time after the start."""

    path: Path
    events: dict[timedelta, Callable[["StandaloneRun"], None]] = field(default_factory=dict)
    has_output: bool = False
    has_endpoint: bool = True
    store_type: type[FileStore] = FileStore
    outside: FakeEnvironment = field(default_factory=FakeEnvironment)

    def __post_init__(self) -> None:
        self.put_source("seed")
        for directory in ("output", "state"):
            (self.path / directory).mkdir(exist_ok=True)
        if not self.manifest.exists():
            self.write_manifest()

    @property
    def manifest(self) -> Path:
        return self.path / "request.yaml"

    @property
    def source(self) -> Path:
        return self.path / "sources" / "license" / "license_token"

    def put_source(self, token: str) -> None:
        put(self.path / "sources", "license", license_token=token)

    def write_manifest(self, **spec: Any) -> None:
        self.manifest.write_text(yaml.safe_dump(manifest(**spec)))

    async def run(self, length: timedelta) -> CredentialCache:
        """Run a process for this long and return its credential cache."""
        self.cache = CredentialCache(lambda: self.outside.now)
        manifest_file = ManifestFile(self.manifest, self.outside.now)
        request, publisher = manifest_file.read(), CredentialPublisher(self.cache, self.has_endpoint)
        output = AtomicDir(self.path / "output") if self.has_output else None
        store = self.store_type(SourceFiles(self.path / "sources"), output, publisher.publish, publisher.is_due)
        tokens = TokenFiles(self.path / "state")
        locks = exclusive_token_locks(self.outside.deps.holder, tokens, request.namespace)
        deps = replace(self.outside.deps, store=store, tokens=tokens, token_locks=locks, sleep=self._sleep)
        self.loop = RenewalLoop(deps, store, manifest_file, request, publisher, self.outside.monotonic)
        self.end = self.outside.now + length
        self.task = asyncio.create_task(self.loop.run())
        await asyncio.wait({self.task})
        if not self.task.cancelled():
            self.task.result()
        return self.cache

    async def _sleep(self, seconds: float) -> None:
        self.outside.now += timedelta(seconds=seconds)
        for after in [each for each in self.events if each <= self.outside.now - START]:
            self.events.pop(after)(self)
        if self.outside.now >= self.end:
            self.task.cancel()
        await asyncio.sleep(0)

    @property
    def calls(self) -> int:
        """How many calls AWS has received."""
        return len(self.outside.aws.calls)

    def condition(self, condition_type: str) -> tuple[str, str]:
        condition = self.loop.status.condition(condition_type)
        return (condition.status, condition.reason) if condition else ("", "")
