"""What an exchange is given besides its own part of the spec: the systems, and where and for whom it is made."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from keyturn.core.model.source import SecretKeyRef
from keyturn.exchange.aws import Aws
from keyturn.exchange.web import Web


@dataclass(frozen=True, slots=True)
class Systems:
    """The outside of the exchanges. `read_value(namespace, ref)` reads a secret of a step's own.

    `endpoints` are those of repositories that are known already: they never change.
    """

    aws: Aws
    web: Web
    read_value: Callable[[str, SecretKeyRef], Awaitable[str]]
    endpoints: dict[tuple[str, ...], str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """One exchange: in which region of AWS, for which request."""

    systems: Systems
    namespace: str
    region: str
    name: str

    async def secret(self, ref: SecretKeyRef) -> str:
        """Read a secret of the step's own."""
        return await self.systems.read_value(self.namespace, ref)
