"""One request, renewed in this very process: the spine, with files for Secrets and no Kubernetes."""

import contextlib
import functools
import itertools
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from keyturn.api.token_request import Request
from keyturn.core.errors import RefusedError
from keyturn.core.service_health import Outages
from keyturn.core.settings import Settings
from keyturn.exchanges.aws import Aws
from keyturn.exchanges.context import Systems
from keyturn.exchanges.issuer_http import Web
from keyturn.exchanges.registry import exchange
from keyturn.metrics import Metrics
from keyturn.reconcile.dependencies import Turns, World
from keyturn.sidecar.credential_cache import CredentialCache
from keyturn.standalone.atomic_dir import Folder
from keyturn.standalone.atomic_files import UnusableError, locked
from keyturn.standalone.file_store import FileStore
from keyturn.standalone.manifest_file import ManifestFile
from keyturn.standalone.projected_tokens import ProjectedToken
from keyturn.standalone.publisher import NOTHING_TO_SERVE, Giving, is_servable
from keyturn.standalone.renewal_loop import Renewing
from keyturn.standalone.source_files import Sources
from keyturn.standalone.token_files import NO_STATE, FileTokens

_THREADS = 2


@dataclass(frozen=True, slots=True)
class Files:
    """Where things are: the manifest, and the folders of sources, of what is written, and of rotated tokens."""

    manifest: Path
    sources: Path | None = None
    write: Path | None = None
    state: Path | None = None
    service_account_token: Path | None = None


@dataclass(frozen=True, slots=True)
class Around:
    """The rest of the outside: settings, the clock and the dice."""

    settings: Settings
    now: Callable[[], datetime]
    chance: Callable[[], float]


@contextlib.contextmanager
def standalone(files: Files, around: Around, cache: CredentialCache, *, serves: bool) -> Iterator[Renewing]:
    """Put together what renews the request of a manifest; its folders are this process's own until the end.

    What is issued goes to `cache`; `serves` is whether an endpoint serves it. Raises UnusableError.
    """
    manifest, sources, metrics = ManifestFile(files.manifest, around.now()), Sources(files.sources), Metrics()
    request, giving = _first(manifest, files, serves=serves), Giving(cache, serves)
    with _locked(files), _systems(files, around, sources, metrics) as systems:
        tokens, folder = _tidied(files)
        # Not the process id: in a container each process is the first.
        holder = f"{socket.gethostname()}-{secrets.token_hex(4)}"
        store = FileStore(sources, folder, giving.give)
        world = World(
            store=store,
            tokens=tokens,
            exchange=functools.partial(exchange, systems),
            now=around.now,
            chance=around.chance,
            turns=turns(holder),
            metrics=metrics,
            holder=holder,
            least_interval=timedelta(seconds=around.settings.renewal.least_interval_seconds),
        )
        renewing = Renewing(world, store, manifest, request, giving)
        metrics.export(renewing.series, dict)
        yield renewing


def turns(holder: str) -> Turns:
    """The turns of a process that has locked its state folder: whoever else began to spend a token is dead."""
    return Turns(time.monotonic, is_dead=lambda other: other != holder)


def _first(manifest: ManifestFile, files: Files, *, serves: bool) -> Request:
    try:
        request = manifest.read()
    except RefusedError as error:
        raise UnusableError(error.message) from None
    if request.spec.spending and files.state is None:
        raise UnusableError(NO_STATE)
    if serves and not is_servable(request):
        raise UnusableError(NOTHING_TO_SERVE)
    return request


@contextlib.contextmanager
def _locked(files: Files) -> Iterator[None]:
    """Have the folders that are written for us alone."""
    _check_apart(files)
    with contextlib.ExitStack() as stack:
        for folder, mode in ((files.write, 0o750), (files.state, 0o700)):
            if folder:
                stack.enter_context(locked(folder, mode))
        yield


def _check_apart(files: Files) -> None:
    """Refuse folders that hold each other's secrets: who may read the one could read a token of the other."""
    given = {"--sources": files.sources, "--write": files.write, "--state": files.state}
    # Not Path.resolve, which raises RuntimeError for a link that leads to itself.
    places = {name: Path(os.path.realpath(folder)) for name, folder in given.items() if folder}
    for one, other in itertools.combinations(places, 2):
        nested = other == "--state" and one == "--write" and _is_in(places[one], places[other])
        if places[one] == places[other] or nested:
            raise UnusableError(f"{one} and {other} must be folders apart")


def _is_in(one: Path, other: Path) -> bool:
    return one in other.parents or other in one.parents


def _tidied(files: Files) -> tuple[FileTokens, Folder | None]:
    """The folders that are written, without what a crash has left in them."""
    tokens, folder = FileTokens(files.state), Folder(files.write) if files.write else None
    try:
        tokens.tidy()
        if folder:
            folder.tidy()
    except RefusedError as error:
        raise UnusableError(error.message) from None
    return tokens, folder


@contextlib.contextmanager
def _systems(files: Files, around: Around, sources: Sources, metrics: Metrics) -> Iterator[Systems]:
    settings, outages = around.settings, Outages()
    lends = bool(settings.sources.ambient)
    with contextlib.closing(Aws(settings.aws, metrics, around.now, outages, _THREADS, lends=lends)) as aws:
        yield Systems(
            aws=aws,
            web=Web(settings.issuers, metrics, around.now, outages),
            read_value=sources.read_value,
            make_token=ProjectedToken(files.service_account_token, sources, around.now).make_token,
            sources=settings.sources,
        )
