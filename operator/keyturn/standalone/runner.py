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
from keyturn.core.service_health import ServiceHealth
from keyturn.core.settings import Settings
from keyturn.exchanges.aws import Aws
from keyturn.exchanges.context import ExchangeContext
from keyturn.exchanges.issuer_http import IssuerClient
from keyturn.exchanges.registry import exchange
from keyturn.metrics import Metrics
from keyturn.reconcile.dependencies import Dependencies, TokenLocks
from keyturn.sidecar.credential_cache import Held
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
    sources_dir: Path | None = None
    output_dir: Path | None = None
    state_dir: Path | None = None
    service_account_token_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Around:
    """The rest of the outside: settings, the clock and the dice."""

    settings: Settings
    now: Callable[[], datetime]
    rand: Callable[[], float]


@contextlib.contextmanager
def standalone(files: Files, around: Around, held: Held, *, serves: bool) -> Iterator[Renewing]:
    """Put together what renews the request of a manifest; its folders are this process's own until the end.

    What is issued goes to `held`; `serves` is whether an endpoint serves it. Raises UnusableError.
    """
    manifest, sources, metrics = ManifestFile(files.manifest, around.now()), Sources(files.sources_dir), Metrics()
    request, giving = _first(manifest, files, serves=serves), Giving(held, serves)
    with _locked(files), _systems(files, around, sources, metrics) as context:
        tokens, folder = _tidied(files)
        # Not the process id: in a container each process is the first.
        holder = f"{socket.gethostname()}-{secrets.token_hex(4)}"
        store = FileStore(sources, folder, giving.give)
        deps = Dependencies(
            store=store,
            tokens=tokens,
            exchange=functools.partial(exchange, context),
            now=around.now,
            rand=around.rand,
            token_locks=token_locks(holder),
            metrics=metrics,
            holder=holder,
            least_interval=timedelta(seconds=around.settings.renewal.min_interval_seconds),
        )
        renewing = Renewing(deps, store, manifest, request, giving)
        metrics.export(renewing.series, dict)
        yield renewing


def token_locks(holder: str) -> TokenLocks:
    """The turns of a process that has locked its state folder: whoever else began to spend a token is dead."""
    return TokenLocks(time.monotonic, is_dead=lambda other: other != holder)


def _first(manifest: ManifestFile, files: Files, *, serves: bool) -> Request:
    try:
        request = manifest.read()
    except RefusedError as error:
        raise UnusableError(error.message) from None
    if request.spec.consumption and files.state_dir is None:
        raise UnusableError(NO_STATE)
    if serves and not is_servable(request):
        raise UnusableError(NOTHING_TO_SERVE)
    return request


@contextlib.contextmanager
def _locked(files: Files) -> Iterator[None]:
    """Have the folders that are written for us alone."""
    _check_apart(files)
    with contextlib.ExitStack() as stack:
        for folder, mode in ((files.output_dir, 0o750), (files.state_dir, 0o700)):
            if folder:
                stack.enter_context(locked(folder, mode))
        yield


def _check_apart(files: Files) -> None:
    """Refuse folders that hold each other's secrets: who may read the one could read a token of the other."""
    given = {"--sources-dir": files.sources_dir, "--output-dir": files.output_dir, "--state-dir": files.state_dir}
    # Not Path.resolve, which raises RuntimeError for a link that leads to itself.
    places = {name: Path(os.path.realpath(folder)) for name, folder in given.items() if folder}
    for one, other in itertools.combinations(places, 2):
        nested = other == "--state-dir" and one == "--output-dir" and _is_in(places[one], places[other])
        if places[one] == places[other] or nested:
            raise UnusableError(f"{one} and {other} must be folders apart")


def _is_in(one: Path, other: Path) -> bool:
    return one in other.parents or other in one.parents


def _tidied(files: Files) -> tuple[FileTokens, Folder | None]:
    """The folders that are written, without what a crash has left in them."""
    tokens, folder = FileTokens(files.state_dir), Folder(files.output_dir) if files.output_dir else None
    try:
        tokens.tidy()
        if folder:
            folder.tidy()
    except RefusedError as error:
        raise UnusableError(error.message) from None
    return tokens, folder


@contextlib.contextmanager
def _systems(files: Files, around: Around, sources: Sources, metrics: Metrics) -> Iterator[ExchangeContext]:
    settings, service_health = around.settings, ServiceHealth()
    allow_ambient = bool(settings.sources.ambient)
    with contextlib.closing(
        Aws(settings.aws, metrics, around.now, service_health, _THREADS, allow_ambient=allow_ambient)
    ) as aws:
        yield ExchangeContext(
            aws=aws,
            issuer_client=IssuerClient(settings.issuers, metrics, around.now, service_health),
            read_value=sources.read_value,
            make_token=ProjectedToken(files.service_account_token_file, sources, around.now).make_token,
            sources=settings.sources,
        )
