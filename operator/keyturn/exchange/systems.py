"""What an exchange is given besides its own part of the spec: the systems, and where and for whom it is made."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from keyturn.core.model.source import ConfigMapKeyRef, SecretKeyRef
from keyturn.exchange.aws import Aws
from keyturn.exchange.web import Web


@dataclass(frozen=True, slots=True)
class Systems:
    """The outside of the exchanges. `read_value(namespace, ref)` reads a value of a step's own."""

    aws: Aws
    web: Web
    read_value: Callable[[str, SecretKeyRef | ConfigMapKeyRef], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Call:
    """One exchange: in which region of AWS, under which session name, for a request of which namespace.

    `client_token` names the issue: AWS answers the same to the same.
    """

    systems: Systems
    namespace: str
    region: str
    session_name: str
    client_token: str = ""

    async def secret(self, ref: SecretKeyRef | ConfigMapKeyRef) -> str:
        """Read a value of the step's own."""
        return await self.systems.read_value(self.namespace, ref)
