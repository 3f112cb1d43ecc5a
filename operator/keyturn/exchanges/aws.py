"""Calls to AWS: one session without a credential chain, and its cached clients."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import boto3
import botocore.credentials
import botocore.session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.credentials import CredentialResolver, ReadOnlyCredentials
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from botocore.model import ListShape, Shape, StructureShape
from botocore.parsers import ResponseParserError

from keyturn.core.errors import KeyturnError, ThrottledError, UnavailableError
from keyturn.core.pipeline_values import Credentials
from keyturn.core.service_health import ServiceHealth
from keyturn.core.settings import AwsSettings
from keyturn.exchanges.ambient import MAX_CLIENTS, Ambient, AmbientClients
from keyturn.exchanges.aws_errors import AwsOperation, failure
from keyturn.exchanges.rate_limit import RateLimiter, RateLimiters, is_too_long
from keyturn.metrics import Metrics

Signer = Credentials | Ambient | None
_REPORTED_CLOCK_SKEW = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class AwsResponse:
    """The response to a call, and the time of the request, from which lifetimes are counted."""

    members: dict[str, Any] = field(repr=False)
    request_id: str
    requested_at: datetime


class Aws:
    """AWS clients, one per service, region and number of attempts, and the threads that run their calls."""

    def __init__(
        self,
        settings: AwsSettings,
        metrics: Metrics,
        now: Callable[[], datetime],
        service_health: ServiceHealth,
        threads: int = 16,
        *,
        allow_ambient: bool = False,
    ) -> None:
        self._settings = settings
        self._service_health = service_health
        self._rate_limiters = RateLimiters()
        self._metrics = metrics
        self._now = now
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="aws")
        self._connections = threads
        self._session = _session()
        self._ambient_clients = AmbientClients(allow_ambient=allow_ambient)
        self._clients: dict[tuple[str, str, bool, int], Any] = {}
        self._clock_skews: dict[str, timedelta] = {}
        self._creating = threading.Lock()

    async def call(
        self, operation: AwsOperation, region: str, parameters: dict[str, Any], signer: Signer = None
    ) -> AwsResponse:
        """Call an operation, signed by `signer`: `AMBIENT` is the operator itself, None leaves it unsigned.

        botocore retries up to the operation's number of attempts. Raises only KeyturnError.
        """
        service = operation.service_in(region)
        # Each session has a new key ID. All sessions share a rate limiter: one per session would never learn the limit.
        user = signer.access_key_id if isinstance(signer, Credentials) and not signer.session_token else ""
        rate_limiter = self._rate_limiters.get((service, user))
        await _wait_for_slot(operation, rate_limiter)
        requested_at, started, code = self._now(), time.monotonic(), "OK"
        loop = asyncio.get_running_loop()
        try:
            members = await loop.run_in_executor(self._threads, self._send, operation, region, parameters, signer)
        except (ClientError, BotoCoreError, ResponseParserError, OSError) as error:
            code = operation.code(error)
            # Not "from error": AWS repeats rejected values in its messages, and a traceback would show them.
            raise self._failure(operation, error, region, rate_limiter) from None
        finally:
            self._metrics.exchanges.labels(operation.exchange, code).inc()
            self._metrics.exchange_duration.labels(operation.exchange).observe(time.monotonic() - started)
        rate_limiter.succeeded()
        self._service_health.worked(service, time.monotonic())
        metadata = members["ResponseMetadata"]
        self._record_clock_skew(operation.service, metadata)
        return AwsResponse(members, metadata.get("RequestId", ""), requested_at)

    def close(self) -> None:
        """Stop the threads. A call in progress ends by its own timeout."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _send(self, operation: AwsOperation, region: str, parameters: dict[str, Any], signer: Signer) -> dict[str, Any]:
        _signer.credentials = signer if isinstance(signer, Credentials) else None
        try:
            client = self._client_for(operation, region, signer)
            response: dict[str, Any] = getattr(client, operation.name)(**parameters)
            model = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[operation.name])
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            # botocore's XML parser fails with these on a page of a proxy, and its credential chain on an identity
            # that is refreshed and still expired.
            raise ResponseParserError(f"{operation.title}: {type(error).__name__}") from None
        return response if model.output_shape is None else well_typed(model.output_shape, response)

    def _client_for(self, operation: AwsOperation, region: str, signer: Signer) -> Any:
        service, attempts = operation.service, operation.attempts
        if isinstance(signer, Ambient):
            config, options = self._config(service, region, attempts), self._options(service, region)
            return self._ambient_clients.client((service, region, attempts), config, **options)
        return self._client(service, region, signed=signer is not None, attempts=attempts)

    def _client(self, service: str, region: str, *, signed: bool, attempts: int = 3) -> Any:
        key = (service, region, signed, attempts)
        # Threads may share clients but not a session, so one thread at a time creates a client.
        with self._creating:
            if key not in self._clients:
                config = self._config(service, region, attempts)
                self._clients[key] = self._session.client(
                    service,  # type: ignore[call-overload]
                    region_name=region,
                    config=config if signed else config.merge(Config(signature_version=UNSIGNED)),
                    **self._options(service, region),
                )
            if len(self._clients) > MAX_CLIENTS:
                self._clients.pop(next(iter(self._clients)))
            return self._clients[key]

    def _options(self, service: str, region: str) -> dict[str, Any]:
        return {"endpoint_url": self._settings.endpoint(service, region), "verify": self._settings.ca_bundle}

    def _config(self, service: str, region: str, attempts: int) -> Config:
        # botocore rejects a custom endpoint URL together with FIPS or dual-stack endpoints.
        is_default_endpoint = self._settings.endpoint(service, region) is None
        proxy = self._settings.proxy
        return Config(
            retries={"mode": "standard", "total_max_attempts": attempts},
            connect_timeout=3,
            # A call that is sent only once must end within ten seconds in all.
            read_timeout=10 if attempts > 1 else 7,
            max_pool_connections=self._connections,
            use_fips_endpoint=self._settings.fips and is_default_endpoint,
            use_dualstack_endpoint=self._settings.dual_stack and is_default_endpoint,
            proxies={"http": proxy, "https": proxy} if proxy else None,
        )

    def _failure(
        self, operation: AwsOperation, error: Exception, region: str, rate_limiter: RateLimiter
    ) -> KeyturnError:
        if isinstance(error, ClientError):
            self._record_clock_skew(operation.service, error.response.get("ResponseMetadata", {}))
        classified = failure(operation, error, region, self._clock_hint(operation.service))
        if isinstance(classified, ThrottledError):
            rate_limiter.throttled(time.monotonic(), classified.retry_after)
            self._metrics.throttled.labels(operation.service).inc()
        elif isinstance(classified, UnavailableError):
            self._service_health.failed(classified.service)
        return classified

    def _record_clock_skew(self, service: str, metadata: Mapping[str, Any]) -> None:
        date = metadata.get("HTTPHeaders", {}).get("date")
        if date:
            try:
                self._clock_skews[service] = parsedate_to_datetime(date) - self._now()
            except (TypeError, ValueError):
                return  # A proxy may send dates in another format.
            self._metrics.clock_skew.labels(service).set(self._clock_skews[service].total_seconds())

    def _clock_hint(self, service: str) -> str:
        skew = self._clock_skews.get(service, timedelta())
        if abs(skew) < _REPORTED_CLOCK_SKEW:
            return ""
        return f"; AWS's clock differs from the local clock by {int(skew.total_seconds())} s: check the node's clock"


async def _wait_for_slot(operation: AwsOperation, rate_limiter: RateLimiter) -> None:
    """Wait until the rate limit permits a call; raises ThrottledError if that would take a worker too long."""
    wait_seconds = rate_limiter.reserve(time.monotonic())
    if is_too_long(wait_seconds):
        raise ThrottledError(
            f"{operation.title} has throttled recent calls; the next one is delayed",
            retry_after=timedelta(seconds=wait_seconds),
            nothing_sent=True,
        )
    if wait_seconds > 0:
        await asyncio.sleep(wait_seconds)


_TYPES: Mapping[str, type] = {
    "structure": dict, "list": list, "string": str, "integer": int, "long": int, "timestamp": datetime,
}  # fmt: skip


def well_typed(shape: Shape, value: Any) -> Any:
    """Remove members, at any depth, whose type is not that of their shape: botocore's JSON parser accepts any type.

    Members that the shape does not describe are kept.
    """
    if isinstance(shape, StructureShape):
        return {
            name: well_typed(shape.members[name], member) if name in shape.members else member
            for name, member in value.items()
            if name not in shape.members or _matches(shape.members[name], member)
        }
    if isinstance(shape, ListShape):
        return [well_typed(shape.member, item) for item in value if _matches(shape.member, item)]
    return value


def _matches(shape: Shape, value: Any) -> bool:
    # Not isinstance: a bool is an int.
    return type(value) is _TYPES.get(shape.type_name, type(value))


class _Signer(threading.local):
    """The credentials that sign the call of this thread."""

    credentials: Credentials | None = None


_signer = _Signer()


class _CallerCredentials(botocore.credentials.Credentials):
    """Credentials that are looked up for each signature, so that one client signs for any number of identities.

    A client for each identity would cost 140 KB and its own connections.
    """

    def __init__(self) -> None:
        super().__init__("", "")

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        credentials = _signer.credentials
        if credentials is None:
            raise NoCredentialsError
        return ReadOnlyCredentials(credentials.access_key_id, credentials.secret_access_key, credentials.session_token)


class _NoChain(CredentialResolver):
    """An empty credential chain: a Secret with a missing key must never fall back to the operator's own identity."""

    def __init__(self) -> None:
        super().__init__(providers=[])

    def load_credentials(self) -> _CallerCredentials:
        return _CallerCredentials()


def _session() -> boto3.session.Session:
    """Create the session, without the default credential chain and without ~/.aws."""
    core = botocore.session.Session(
        session_vars={
            "profile": (None, None, None, None),
            "config_file": (None, None, os.devnull, None),
            "credentials_file": (None, None, os.devnull, None),
        }
    )
    core.register_component("credential_provider", _NoChain())
    return boto3.session.Session(botocore_session=core)
