"""What an exchange is given besides its own part of the spec: the systems, and where and for whom it is made."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from keyturn.api.source import ConfigMapKeyRef, SecretKeyRef
from keyturn.core.settings import SourceSettings
from keyturn.exchanges.aws import Aws
from keyturn.exchanges.issuer_http import IssuerClient

MakeToken = Callable[[str, str, tuple[str, ...], int], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class ExchangeContext:
    """The outside of the exchanges. `read_value(namespace, ref)` reads a value of a step's own.

    `make_token(namespace, service account, audiences, seconds)` makes a token of a service account. `sources` says
    what of that, and of the operator's own identity, may be used. `endpoints` are those of repositories that are
    known already: they never change.
    """

    aws: Aws
    issuer_client: IssuerClient
    read_value: Callable[[str, SecretKeyRef | ConfigMapKeyRef], Awaitable[str]]
    make_token: MakeToken
    sources: SourceSettings = field(default_factory=SourceSettings)
    endpoints: dict[tuple[str, ...], str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """One exchange: in which region of AWS, for which request, and whether its source is our own AWS identity.

    `client_token` names the issue: AWS answers the same to the same.
    """

    context: ExchangeContext
    namespace: str
    region: str
    name: str
    is_ambient: bool = False
    client_token: str = ""

    async def secret(self, ref: SecretKeyRef | ConfigMapKeyRef) -> str:
        """Read a value of the step's own."""
        return await self.context.read_value(self.namespace, ref)
