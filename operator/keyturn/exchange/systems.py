"""What an exchange is given besides its own part of the spec: the systems, and where and for whom it is made."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from keyturn.core.model.source import SecretKeyRef
from keyturn.exchange.aws import Aws
from keyturn.exchange.web import Web


@dataclass(frozen=True, slots=True)
class Systems:
    """The outside of the exchanges. `read_value(namespace, ref)` reads a secret of a step's own."""

    aws: Aws
    web: Web
    read_value: Callable[[str, SecretKeyRef], Awaitable[str]]


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
