"""The operator's own AWS identity: its clients, in a session separate from other calls, and the check of its rules."""

import threading
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import NoCredentialsError

from keyturn.core.errors import RefusedError
from keyturn.core.settings import SourceSettings

MAX_CLIENTS = 128  # A region is free text, so the oldest client is dropped.


class Ambient:
    """The type of `AMBIENT`, the signer that stands for the operator's own identity."""


AMBIENT = Ambient()


class AmbientClients:
    """Clients that sign with the operator's own AWS identity, from botocore's default credential chain.

    The chain refreshes its credentials itself; a copy of them would expire. The chain is searched on the first call,
    and again until it finds an identity: a pod's identity may become available after the pod starts.
    """

    def __init__(self, *, allow_ambient: bool) -> None:
        self._allow_ambient = allow_ambient
        self._session: boto3.session.Session | None = None
        self._clients: dict[tuple[str, str, int], Any] = {}
        self._creating = threading.Lock()

    def client(self, key: tuple[str, str, int], config: Config, **options: Any) -> Any:
        """Return the client for a service, region and number of attempts.

        Raises NoCredentialsError if there is no identity, or if the settings do not allow its use.
        """
        service, region, _ = key
        with self._creating:
            if key not in self._clients:
                session = self._find_session()
                self._clients[key] = session.client(service, region_name=region, config=config, **options)  # type: ignore[call-overload]
            if len(self._clients) > MAX_CLIENTS:
                self._clients.pop(next(iter(self._clients)))
            return self._clients[key]

    def _find_session(self) -> boto3.session.Session:
        if not self._allow_ambient:
            raise NoCredentialsError
        session = self._session or boto3.session.Session(botocore_session=botocore.session.Session())
        if session.get_credentials() is None:
            raise NoCredentialsError
        self._session = session
        return session


def check_ambient(settings: SourceSettings, namespace: str, role_arn: str) -> None:
    """Raise RefusedError (IdentityNotAllowed) unless the settings allow the namespace to assume the role."""
    if not any(rule.is_met_by(namespace, role_arn) for rule in settings.ambient):
        raise RefusedError(
            "IdentityNotAllowed",
            f"the operator's settings (sources.ambient) do not allow namespace {namespace} to assume {role_arn}",
        )
