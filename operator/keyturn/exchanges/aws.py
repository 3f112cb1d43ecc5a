"""Calls to AWS, each in a thread, limited to the rate that the service has accepted."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from botocore.model import ListShape, Shape, StructureShape
from botocore.parsers import ResponseParserError

from keyturn.api.times import rfc3339, whole_seconds
from keyturn.core.clock import SIGNIFICANT_SKEW, clock_skew_error, measure_skew
from keyturn.core.errors import KeyturnError, ThrottledError, TransientRefusalError, UnavailableError, drop_frames
from keyturn.core.pipeline_values import MAX_SESSION_TOKEN_LENGTH, Credentials, require_safe
from keyturn.core.proxies import NO_PROXIES, Proxies
from keyturn.core.service_health import ServiceHealth
from keyturn.core.settings import AwsSettings
from keyturn.exchanges.aws_clients import Ambient, AwsClients, ambient_session, session_without_chain, thread_call
from keyturn.exchanges.aws_errors import AwsOperation, expiration, failure, member, request_id
from keyturn.exchanges.call_threads import CallThreads
from keyturn.exchanges.rate_limit import RateLimiter, RateLimiters, is_too_long
from keyturn.exchanges.transmission import Transmission
from keyturn.metrics import Metrics

Signer = Credentials | Ambient | None
# Member names in a response with credentials: container, access key ID, secret access key, session token and expiry.
CredentialNames = tuple[str, str, str, str, str]
_MAX_ITEMS = 100
# Three attempts that time out take 45 s.
_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class AwsResponse:
    """The response to a call, and the time of the request in whole seconds, from which lifetimes are counted.

    `clock_skew` is AWS's clock minus the local clock, zero if it is unknown.
    """

    members: dict[str, Any] = field(repr=False)
    request_id: str
    requested_at: datetime
    clock_skew: timedelta = timedelta()

    @property
    def clock_lag(self) -> timedelta:
        """By how much the local clock is behind AWS's. AWS does not refuse unsigned calls because of it."""
        return self.clock_skew if self.clock_skew >= SIGNIFICANT_SKEW else timedelta()

    def credentials(self, operation: AwsOperation, names: CredentialNames) -> Credentials:
        """Read temporary credentials that have not expired.

        Every member is required: credentials without an expiry could not be renewed in time.
        """
        container, *parts = names
        fields = member(operation, self.members, container)
        key_id, secret, session_token = (
            require_safe(
                member(operation, fields, name), f"the {name} that {operation.title} returned", MAX_SESSION_TOKEN_LENGTH
            )
            for name in parts[:3]
        )
        expires_at = expiration(operation, fields, parts[3])
        self.require_unexpired(operation, "credentials", expires_at)
        return Credentials(key_id, secret, session_token, expires_at, self.clock_lag)

    def require_unexpired(self, operation: AwsOperation, what: str, expires_at: datetime | None) -> None:
        """Raise an error if AWS returned something that had already expired when it was requested.

        If it is valid by AWS's clock, the local clock is wrong; otherwise the service is at fault.
        """
        if expires_at is None or expires_at > self.requested_at or operation.consumes:
            return  # If a token was consumed, its replacement in the response must be saved first.
        problem = f"{operation.title} returned {what} that expired at {rfc3339(expires_at)}"
        if expires_at > self.requested_at + self.clock_skew:
            raise clock_skew_error(problem, self.clock_skew, "AWS", self.request_id)
        raise TransientRefusalError("SourceInvalid", f"{problem}; check the node's clock", request_id=self.request_id)


class Aws:
    """The AWS clients, the threads that run their calls, and the rate limits and health of each service."""

    def __init__(  # noqa: PLR0913 - each is a dependency
        self,
        settings: AwsSettings,
        metrics: Metrics,
        now: Callable[[], datetime],
        service_health: ServiceHealth,
        threads: int = 16,
        *,
        timeout_seconds: float = _TIMEOUT_SECONDS,
        allow_ambient: bool = False,
        proxies: Proxies = NO_PROXIES,
    ) -> None:
        proxies = proxies.with_override(settings.proxy, "aws.proxy")
        self._service_health = service_health
        self._rate_limiters = RateLimiters()
        self._metrics = metrics
        self._now = now
        self._threads, self._timeout_seconds = CallThreads(threads, "aws"), timeout_seconds
        self._session = session_without_chain(proxies)
        self._clients = AwsClients(settings, threads, lambda: self._session)
        ambient = partial(ambient_session, proxies, is_allowed=allow_ambient)
        self._ambient_clients = AwsClients(settings, threads, ambient)

    async def call(  # noqa: PLR0913 - they are independent
        self,
        operation: AwsOperation,
        region: str,
        parameters: dict[str, Any],
        signer: Signer = None,
        transmission: Transmission | None = None,
        *,
        quota_owner: str = "",
        namespace: str = "",
    ) -> AwsResponse:
        """Call an operation, signed by `signer`: `AMBIENT` is the operator itself, None means unsigned.

        `quota_owner` is the account or namespace whose quota AWS applies: throttling one must not delay others.
        `namespace` is that of the TokenRequest. `transmission` begins once there is a connection to AWS. The request is
        sent in up to `operation.attempts` attempts. Raises only KeyturnError.
        """
        owner = _thread_owner(operation, region, signer)
        self._check_overdue(operation, region, owner)
        service, rate_limiter = operation.service_in(region), self._rate_limiter(operation, region, signer, quota_owner)
        wait_seconds = rate_limiter.reserve(time.monotonic(), namespace)
        _check_wait(operation, wait_seconds)
        if wait_seconds > 0:
            await asyncio.sleep(wait_seconds)
        requested_at, started, code = whole_seconds(self._now()), time.monotonic(), "cancelled"
        try:
            send = partial(self._send, operation, region, parameters, signer, transmission)
            members = await self._threads.run(owner, send, self._timeout_seconds)
            code = "OK"
        except (ClientError, BotoCoreError, ResponseParserError, OSError) as error:
            code = operation.code(error)
            drop_frames(error)
            # Not "from error": AWS repeats rejected values in its messages, and a traceback would show them.
            raise self._failure(operation, error, region, rate_limiter) from None
        finally:
            self._metrics.exchanges.labels(operation.exchange, code).inc()
            self._metrics.exchange_duration.labels(operation.exchange).observe(time.monotonic() - started)
        rate_limiter.succeeded()
        self._service_health.worked(service, time.monotonic())
        metadata = members["ResponseMetadata"]
        skew = self._measure_clock_skew(operation.service, metadata)
        return AwsResponse(members, request_id(metadata), requested_at, skew)

    def check_rate(
        self, operation: AwsOperation, region: str, signer: Signer, quota_owner: str = "", namespace: str = ""
    ) -> None:
        """Raise ThrottledError if the rate limit would delay a call for long. Called before an intent is written."""
        rate_limiter = self._rate_limiter(operation, region, signer, quota_owner)
        _check_wait(operation, rate_limiter.wait_seconds(time.monotonic(), namespace))

    def _rate_limiter(self, operation: AwsOperation, region: str, signer: Signer, quota_owner: str) -> RateLimiter:
        if isinstance(signer, Ambient):
            quota_owner = ""
        elif signer and not signer.session_token:
            # Only long-lived keys: each session has a new key ID, so a rate limiter for it would never learn the limit.
            quota_owner = signer.access_key_id
        return self._rate_limiters.get((operation.service_in(region), quota_owner))

    def _check_overdue(self, operation: AwsOperation, region: str, owner: str) -> None:
        if self._threads.is_overdue(owner):
            problem = f"{operation.title} was not called: earlier calls in {region} have not ended"
            raise UnavailableError("Unreachable", problem, service=operation.service_in(region))

    def close(self) -> None:
        """Stop the threads. A call in progress ends by its own timeout."""
        self._threads.close()

    def _send(
        self,
        operation: AwsOperation,
        region: str,
        parameters: dict[str, Any],
        signer: Signer,
        transmission: Transmission | None,
    ) -> dict[str, Any]:
        thread_call.credentials = signer if isinstance(signer, Credentials) else None
        thread_call.transmission, thread_call.consumes = transmission, operation.consumes
        clients = self._ambient_clients if isinstance(signer, Ambient) else self._clients
        try:
            client = clients.get(operation.service, region, operation.attempts, signed=signer is not None)
            response: dict[str, Any] = getattr(client, operation.name)(**parameters)
            model = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[operation.name])
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
            # botocore's parsers fail with these on a page of a proxy and on numbers such as 1e400, and its credential
            # chain on an identity that is refreshed and still expired.
            raise ResponseParserError(f"{operation.title}: {type(error).__name__}") from None
        return response if model.output_shape is None else well_typed(model.output_shape, response)

    def _failure(
        self, operation: AwsOperation, error: Exception, region: str, rate_limiter: RateLimiter
    ) -> KeyturnError:
        metadata = error.response.get("ResponseMetadata", {}) if isinstance(error, ClientError) else {}
        classified = failure(operation, error, region, self._measure_clock_skew(operation.service, metadata))
        if isinstance(classified, ThrottledError):
            rate_limiter.throttled(time.monotonic(), classified.retry_after)
            self._metrics.throttled.labels(operation.service).inc()
        elif isinstance(classified, UnavailableError) and classified.service:
            self._service_health.failed(classified.service)
        return classified

    def _measure_clock_skew(self, service: str, metadata: Mapping[str, Any]) -> timedelta:
        """Return the service's clock minus the local clock, by the Date header of its response; zero without one."""
        date = metadata.get("HTTPHeaders", {}).get("date")
        skew = measure_skew(date, self._now())
        if date:
            self._metrics.clock_skew.labels(service).set(skew.total_seconds())
        return skew


def _thread_owner(operation: AwsOperation, region: str, signer: Signer) -> str:
    """Return the owner of a call, for CallThreads.

    Calls with the operator's own identity may wait long for that identity, which must not stop the other calls.
    """
    service = operation.service_in(region)
    return f"{service} as the operator" if isinstance(signer, Ambient) else service


def _check_wait(operation: AwsOperation, wait_seconds: float) -> None:
    """Raise ThrottledError if the wait for the rate limit would occupy a worker for too long."""
    if is_too_long(wait_seconds):
        raise ThrottledError(
            f"{operation.title} has throttled recent calls; the next one is delayed",
            retry_after=timedelta(seconds=wait_seconds),
            nothing_sent=True,
        )


_TYPES: Mapping[str, type] = {
    "structure": dict, "list": list, "string": str, "integer": int, "long": int, "timestamp": datetime,
}  # fmt: skip


def well_typed(shape: Shape, value: Any) -> Any:
    """Remove members, at any depth, whose type is not that of their shape: botocore's JSON parser accepts any type.

    Members that the shape does not describe are kept. Lists are cut after 100 items: no operation here returns more.
    """
    if isinstance(shape, StructureShape):
        return {
            name: well_typed(shape.members[name], member) if name in shape.members else member
            for name, member in value.items()
            if name not in shape.members or _has_type(shape.members[name], member)
        }
    if isinstance(shape, ListShape):
        return [well_typed(shape.member, item) for item in value[:_MAX_ITEMS] if _has_type(shape.member, item)]
    return value


def _has_type(shape: Shape, value: Any) -> bool:
    # Not isinstance: a bool is an int.
    return type(value) is _TYPES.get(shape.type_name, type(value))
