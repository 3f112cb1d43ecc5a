"""Calls to AWS: one session that knows no credentials of its own, and its cached clients."""

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
from botocore.parsers import ResponseParserError

from keyturn.core.errors import KeyturnError, ThrottledError, UnavailableError
from keyturn.core.pipeline_values import Credentials
from keyturn.core.service_health import ServiceHealth
from keyturn.core.settings import AwsSettings
from keyturn.exchanges.ambient import CLIENTS, Ambient, OwnIdentity
from keyturn.exchanges.aws_errors import AwsOperation, failure
from keyturn.exchanges.rate_limit import RateLimiter, RateLimiters, is_too_long
from keyturn.exchanges.response_types import well_typed
from keyturn.metrics import Metrics

Signer = Credentials | Ambient | None
_OFFSET_WORTH_TELLING = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class AwsResponse:
    """What AWS answered, and when it was asked: expiries count from there."""

    members: dict[str, Any] = field(repr=False)
    request_id: str
    asked_at: datetime


class Aws:
    """The clients of AWS, one per service, region and endpoint, and the threads that run their calls."""

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
        self._own = OwnIdentity(allow_ambient=allow_ambient)
        self._clients: dict[tuple[str, str, bool, int], Any] = {}
        self._offsets: dict[str, timedelta] = {}
        self._creating = threading.Lock()

    async def call(
        self, operation: AwsOperation, region: str, parameters: dict[str, Any], signer: Signer = None
    ) -> AwsResponse:
        """Make one call, signed with `signer` if it is given (AMBIENT is us); raises the errors of core.errors.

        It may be sent as often as the operation allows: once where it must not be repeated.
        """
        service = operation.service_in(region)
        # Sessions have a new key id each time: they share a pace, or nothing would ever be learned.
        user = signer.access_key_id if isinstance(signer, Credentials) and not signer.session_token else ""
        rate_limiter = self._rate_limiters.of((service, user))
        await self._turn(operation, rate_limiter)
        asked_at, started, code = self._now(), time.monotonic(), "OK"
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
        rate_limiter.went_through()
        self._service_health.worked(service, time.monotonic())
        about = members["ResponseMetadata"]
        self._note_clock(operation.service, about)
        return AwsResponse(members, about.get("RequestId", ""), asked_at)

    async def _turn(self, operation: AwsOperation, rate_limiter: RateLimiter) -> None:
        """Wait for our turn; raises ThrottledError, without a call, where that takes too long for a worker."""
        wait = rate_limiter.wait(time.monotonic())
        if is_too_long(wait):
            raise ThrottledError(
                f"{operation.title} throttles us", retry_after=timedelta(seconds=wait), nothing_sent=True
            )
        if wait > 0:
            await asyncio.sleep(wait)

    def close(self) -> None:
        """Let go of the threads; a call in hand ends by its own time-out."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _send(self, operation: AwsOperation, region: str, parameters: dict[str, Any], signer: Signer) -> dict[str, Any]:
        _signer.held = signer if isinstance(signer, Credentials) else None
        try:
            client = self._client_of(operation, region, signer)
            response: dict[str, Any] = getattr(client, operation.name)(**parameters)
            model = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[operation.name])
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            # botocore's XML parser falls over a page that is not AWS's, such as a proxy's; its chain of
            # credentials over an identity that is refreshed and still expired.
            raise ResponseParserError(f"{operation.title}: {type(error).__name__}") from None
        return response if model.output_shape is None else well_typed(model.output_shape, response)

    def _client_of(self, operation: AwsOperation, region: str, signer: Signer) -> Any:
        service, attempts = operation.service, operation.attempts
        if isinstance(signer, Ambient):
            config, place = self._config(service, region, attempts), self._place(service, region)
            return self._own.client((service, region, attempts), config, **place)
        return self._client(service, region, signed=signer is not None, attempts=attempts)

    def _client(self, service: str, region: str, *, signed: bool, attempts: int = 3) -> Any:
        key = (service, region, signed, attempts)
        # Clients may be shared between threads, a session may not: making one is serialised.
        with self._creating:
            if key not in self._clients:
                config = self._config(service, region, attempts)
                self._clients[key] = self._session.client(
                    service,  # type: ignore[call-overload]
                    region_name=region,
                    config=config if signed else config.merge(Config(signature_version=UNSIGNED)),
                    **self._place(service, region),
                )
            if len(self._clients) > CLIENTS:
                self._clients.pop(next(iter(self._clients)))
            return self._clients[key]

    def _place(self, service: str, region: str) -> dict[str, Any]:
        return {"endpoint_url": self._settings.endpoint(service, region), "verify": self._settings.ca_bundle}

    def _config(self, service: str, region: str, attempts: int) -> Config:
        # botocore refuses a URL of ours together with a wish for other hosts than the usual ones.
        usual = self._settings.endpoint(service, region) is None
        proxy = self._settings.proxy
        return Config(
            retries={"mode": "standard", "total_max_attempts": attempts},
            connect_timeout=3,
            # What must not be sent twice has ten seconds in all.
            read_timeout=10 if attempts > 1 else 7,
            max_pool_connections=self._connections,
            use_fips_endpoint=self._settings.fips and usual,
            use_dualstack_endpoint=self._settings.dual_stack and usual,
            proxies={"http": proxy, "https": proxy} if proxy else None,
        )

    def _failure(
        self, operation: AwsOperation, error: Exception, region: str, rate_limiter: RateLimiter
    ) -> KeyturnError:
        if isinstance(error, ClientError):
            self._note_clock(operation.service, error.response.get("ResponseMetadata", {}))
        classed = failure(operation, error, region, self._clock_hint(operation.service))
        if isinstance(classed, ThrottledError):
            rate_limiter.throttled(time.monotonic(), classed.retry_after)
            self._metrics.throttled.labels(operation.service).inc()
        elif isinstance(classed, UnavailableError):
            self._service_health.failed(classed.service)
        return classed

    def _note_clock(self, service: str, about: Mapping[str, Any]) -> None:
        date = about.get("HTTPHeaders", {}).get("date")
        if date:
            try:
                self._offsets[service] = parsedate_to_datetime(date) - self._now()
            except (TypeError, ValueError):
                return  # Something between us and AWS writes dates of its own.
            self._metrics.clock_offset.labels(service).set(self._offsets[service].total_seconds())

    def _clock_hint(self, service: str) -> str:
        offset = self._offsets.get(service, timedelta())
        if abs(offset) < _OFFSET_WORTH_TELLING:
            return ""
        return f"; the clock of AWS differs from ours by {int(offset.total_seconds())} s"


class _Signer(threading.local):
    """Whose credentials the call of this thread is signed with."""

    held: Credentials | None = None


_signer = _Signer()


class _Callers(botocore.credentials.Credentials):
    """Credentials that are asked for anew by each signature: one client signs for any number of identities.

    A client for each identity would cost 140 KB and connections of its own.
    """

    def __init__(self) -> None:
        super().__init__("", "")

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        held = _signer.held
        if held is None:
            raise NoCredentialsError
        return ReadOnlyCredentials(held.access_key_id, held.secret_access_key, held.session_token)


class _NoChain(CredentialResolver):
    """No default chain: a Secret with a missing key must never fall back to the operator's own identity."""

    def __init__(self) -> None:
        super().__init__(providers=[])

    def load_credentials(self) -> _Callers:
        return _Callers()


def _session() -> boto3.session.Session:
    """Make the one session, without the default chain of credentials and without ~/.aws."""
    core = botocore.session.Session(
        session_vars={
            "profile": (None, None, None, None),
            "config_file": (None, None, os.devnull, None),
            "credentials_file": (None, None, os.devnull, None),
        }
    )
    core.register_component("credential_provider", _NoChain())
    return boto3.session.Session(botocore_session=core)
