"""Builds the renewal loop of standalone mode and its dependencies."""

import contextlib
import itertools
import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from keyturn.api.token_request import Request
from keyturn.core.errors import RefusedError
from keyturn.core.proxies import NO_PROXIES, Proxies
from keyturn.core.service_health import ServiceHealth
from keyturn.core.settings import Settings
from keyturn.metrics import Metrics
from keyturn.reconcile.dependencies import PendingTokens, Stores, Workers, build_dependencies
from keyturn.reconcile.token_locks import TokenLocks
from keyturn.sidecar.credential_cache import CredentialCache
from keyturn.standalone.atomic_files import AtomicDir, StartupError, locked_directory
from keyturn.standalone.file_store import NO_SERVABLE_FORMAT, CredentialPublisher, FileStore, is_servable
from keyturn.standalone.manifest_file import ManifestFile
from keyturn.standalone.renewal_loop import RenewalLoop
from keyturn.standalone.source_files import ProjectedToken, SourceFiles
from keyturn.standalone.token_files import NO_STATE_DIR, TokenFiles


@dataclass(frozen=True, slots=True)
class StandaloneFiles:
    """The manifest and the directories. Without an output directory, the credentials are only served."""

    manifest: Path
    sources_dir: Path | None = None
    output_dir: Path | None = None
    state_dir: Path | None = None
    service_account_token_file: Path | None = None


@dataclass(frozen=True, slots=True)
class StandaloneEnvironment:
    """The settings, the clock, random numbers in [0, 1), and the proxies of the environment.

    `pending_tokens` are logged by the signal handler.
    """

    settings: Settings
    now: Callable[[], datetime]
    rand: Callable[[], float]
    pending_tokens: PendingTokens
    proxies: Proxies = NO_PROXIES


@contextlib.contextmanager
def open_renewal_loop(
    files: StandaloneFiles, environment: StandaloneEnvironment, cache: CredentialCache, *, has_endpoint: bool
) -> Iterator[RenewalLoop]:
    """Build the loop that renews the request of a manifest, with its directories locked. Raises StartupError.

    Issued credentials are published to `cache`; `has_endpoint`: an endpoint serves them.
    """
    manifest = ManifestFile(files.manifest, environment.now())
    sources, metrics = SourceFiles(files.sources_dir), Metrics()
    request = _read_request(manifest, files, has_endpoint=has_endpoint)
    publisher = CredentialPublisher(cache, has_endpoint)
    with _locked_directories(files):
        output = AtomicDir(files.output_dir) if files.output_dir else None
        try:
            tokens = TokenFiles(files.state_dir)
            tokens.clean_up()
            if output:
                output.clean_up()
        except RefusedError as error:
            raise StartupError(error.message) from None
        holder = holder_name()
        store = FileStore(sources, output, publisher.publish, publisher.is_due)
        projected = ProjectedToken(files.service_account_token_file, sources, environment.now)
        with build_dependencies(
            environment.settings,
            environment.now,
            environment.rand,
            Stores(store, tokens, sources.read_value, projected.make_token),
            metrics,
            ServiceHealth(),
            workers=Workers(1),
            token_locks=exclusive_token_locks(holder, tokens, request.namespace),
            pending_tokens=environment.pending_tokens,
            holder=holder,
            proxies=environment.proxies,
        ) as deps:
            loop = RenewalLoop(deps, store, manifest, request, publisher)
            metrics.export(loop.series, dict)
            yield loop


def holder_name() -> str:
    """Return a name for this process that no other process has. It contains only ASCII, as an intent requires."""
    # Not the process ID: in a container every process has the same one.
    return f"{re.sub(r'[^!-~]', '?', socket.gethostname())}-{secrets.token_hex(4)}"


def exclusive_token_locks(holder: str, tokens: TokenFiles, namespace: str) -> TokenLocks:
    """Return the locks of a process that has locked its state directory, so that any other holder must be dead."""
    locks = TokenLocks(time.monotonic, is_dead=lambda other: other != holder)
    for name, family in tokens.families(namespace).items():
        locks.observe_family(namespace, name, family)
    return locks


def _read_request(manifest: ManifestFile, files: StandaloneFiles, *, has_endpoint: bool) -> Request:
    try:
        request = manifest.read()
    except RefusedError as error:
        raise StartupError(error.message) from None
    if request.spec.consumption and files.state_dir is None:
        raise StartupError(NO_STATE_DIR)
    if has_endpoint and not is_servable(request):
        raise StartupError(NO_SERVABLE_FORMAT)
    return request


@contextlib.contextmanager
def _locked_directories(files: StandaloneFiles) -> Iterator[None]:
    """Lock the output and state directories. Raises StartupError, also if two options name the same directory.

    Neither may be inside the other: clients that read the output could then read the tokens.
    """
    options = {"--sources-dir": files.sources_dir, "--output-dir": files.output_dir, "--state-dir": files.state_dir}
    # Path.resolve raises RuntimeError for a link to itself.
    paths = {name: Path(os.path.realpath(directory)) for name, directory in options.items() if directory}
    for first, second in itertools.combinations(paths, 2):
        first_path, second_path = paths[first], paths[second]
        is_nested = first_path in second_path.parents or second_path in first_path.parents
        if first_path == second_path or (is_nested and (first, second) == ("--output-dir", "--state-dir")):
            raise StartupError(f"{first} and {second} must be separate directories")
    with contextlib.ExitStack() as stack:
        for directory, mode in ((files.output_dir, 0o750), (files.state_dir, 0o700)):
            if directory:
                stack.enter_context(locked_directory(directory, mode))
        yield
