"""The operator's own AWS identity, in a session apart: no other call can come to it by mistake."""

import threading
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import NoCredentialsError

CLIENTS = 128  # a region is free text: the oldest goes


class Ambient:
    """A signer that is the operator itself."""


AMBIENT = Ambient()


class OwnIdentity:
    """Clients that sign with botocore's default chain of credentials.

    The chain refreshes what it found by itself; a copy of it here would grow old. It is looked for at the first
    call, and again where there was none: the pod's identity may come later than the pod.
    """

    def __init__(self, *, allow_ambient: bool) -> None:
        self._lends = allow_ambient
        self._session: boto3.session.Session | None = None
        self._clients: dict[tuple[str, str, int], Any] = {}
        self._creating = threading.Lock()

    def client(self, key: tuple[str, str, int], config: Config, **more: Any) -> Any:
        """The client of a service, region and number of attempts.

        Raises NoCredentialsError where we have no identity, or lend none.
        """
        service, region, _ = key
        with self._creating:
            if key not in self._clients:
                made = self._found().client(service, region_name=region, config=config, **more)  # type: ignore[call-overload]
                self._clients[key] = made
            if len(self._clients) > CLIENTS:
                self._clients.pop(next(iter(self._clients)))
            return self._clients[key]

    def _found(self) -> boto3.session.Session:
        if not self._lends:
            raise NoCredentialsError
        session = self._session or boto3.session.Session(botocore_session=botocore.session.Session())
        if session.get_credentials() is None:
            raise NoCredentialsError
        self._session = session
        return session
