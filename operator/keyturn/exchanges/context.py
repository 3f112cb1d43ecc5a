"""The arguments of an exchange other than its spec: the services that it calls, and its TokenRequest."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from keyturn.api.source import ValueRef
from keyturn.core.errors import RefusedError
from keyturn.core.lru import LruDict
from keyturn.core.pipeline_values import MAX_VALUE_LENGTH, require_safe
from keyturn.core.settings import SourceSettings
from keyturn.exchanges.aws import Aws, AwsResponse, Signer
from keyturn.exchanges.aws_errors import AwsOperation
from keyturn.exchanges.bundle_memory import BundleMemory
from keyturn.exchanges.cpu_limiter import CpuLimiter
from keyturn.exchanges.issuer_http import IssuerClient
from keyturn.exchanges.transmission import Transmission

# Called with each value that an exchange reads; the value is empty if it could not be read.
OnRead = Callable[[ValueRef, str], None]
ReadValue = Callable[[str, ValueRef], Awaitable[str]]
MakeToken = Callable[[str, str, tuple[str, ...], int], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class ExchangeContext:
    """The services that all exchanges of a process share.

    `read_value(namespace, ref)` reads a key of a Secret or ConfigMap. `make_token(namespace, service account,
    audiences, seconds)` creates a ServiceAccount token. `sources` are the settings that restrict such tokens and the
    operator's own identity. `endpoints` caches the URLs of CodeArtifact repositories, which never change.
    `bundle_memory` limits the memory of CA bundles.
    """

    aws: Aws
    issuer_client: IssuerClient
    read_value: ReadValue
    make_token: MakeToken
    sources: SourceSettings = field(default_factory=SourceSettings)
    endpoints: LruDict[tuple[str, ...], str] = field(default_factory=partial(LruDict, 1024))
    bundle_memory: BundleMemory = field(default_factory=BundleMemory)

    @property
    def cpu_limiter(self) -> CpuLimiter:
        """Runs long computations on values that users or issuers provide."""
        return self.issuer_client.cpu_limiter


@dataclass(frozen=True, slots=True)
class Call:
    """One exchange: its TokenRequest and AWS region.

    `is_ambient`: the source is the operator's own AWS identity. `consumes`: the exchange consumes a stored token, so a
    lost response leaves the outcome unknown. `client_token` is an idempotency token, the same for each attempt of one
    renewal.
    """

    context: ExchangeContext
    namespace: str
    region: str
    name: str
    is_ambient: bool = False
    consumes: bool = False
    client_token: str = ""
    on_read: OnRead = lambda _ref, _value: None

    async def call_aws(
        self,
        operation: AwsOperation,
        parameters: dict[str, Any],
        signer: Signer = None,
        transmission: Transmission | None = None,
        *,
        principal: str = "",
        region: str | None = None,
    ) -> AwsResponse:
        """Call an AWS operation with `Aws.call`, by default in the region of this exchange.

        `principal` is an ARN in the account whose quota AWS applies; empty if the account is unknown.
        """
        return await self.context.aws.call(
            operation,
            region or self.region,
            parameters,
            signer,
            transmission,
            quota_owner=self._quota_owner(principal),
            namespace=self.namespace,
        )

    def check_aws_rate(self, operation: AwsOperation, signer: Signer, principal: str) -> None:
        """Raise ThrottledError if the rate limit would delay the call for long. Called before an intent is written."""
        if self.consumes:
            quota_owner = self._quota_owner(principal)
            self.context.aws.check_rate(operation, self.region, signer, quota_owner, self.namespace)

    def _quota_owner(self, principal: str) -> str:
        parts = principal.split(":", 5)
        return parts[4] if len(parts) > 5 else f"{self.namespace}/"  # noqa: PLR2004 - arn:aws:iam::ACCOUNT:role/NAME

    async def secret(self, ref: ValueRef, max_length: int = MAX_VALUE_LENGTH) -> str:
        """Read a key of a Secret or ConfigMap in the namespace of the request.

        Raises RefusedError (SourceInvalid) if the value is longer than `max_length`.
        """
        try:
            value = await self.context.read_value(self.namespace, ref)
        except RefusedError:
            self.on_read(ref, "")
            raise
        self.on_read(ref, value)
        if len(value) > max_length:
            raise RefusedError(
                "SourceInvalid",
                f"key {ref.key} of {ref.name} has {len(value)} characters; at most {max_length} are allowed",
            )
        return value

    async def service_account_token(self, name: str, audiences: tuple[str, ...], seconds: int) -> str:
        """Create a token of a ServiceAccount in the namespace of the request.

        Raises RefusedError: IdentityNotAllowed for audiences that the settings do not allow.
        """
        forbidden = [audience for audience in audiences if audience not in self.context.sources.audiences]
        if forbidden:
            raise RefusedError(
                "IdentityNotAllowed",
                f"the operator's settings (sources.audiences) do not allow {', '.join(forbidden)}",
            )
        token = await self.context.make_token(self.namespace, name, audiences, seconds)
        return require_safe(token, "the service account token")
