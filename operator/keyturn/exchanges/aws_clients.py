"""boto3 clients of two sessions: one without a credential chain, one with the operator's own identity."""

import json
import math
import os
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from http.client import HTTPResponse
from typing import Any

import boto3
import botocore.credentials
import botocore.session
from botocore import UNSIGNED
from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)
from botocore.config import Config
from botocore.credentials import CredentialResolver, ReadOnlyCredentials
from botocore.exceptions import NoCredentialsError
from botocore.httpsession import ProxyConfiguration
from botocore.model import OperationModel
from botocore.utils import parse_timestamp

from keyturn import __version__
from keyturn.core.bounded_json import decode_response
from keyturn.core.lru import LruDict
from keyturn.core.pipeline_values import Credentials
from keyturn.core.proxies import Proxies
from keyturn.core.settings import AwsSettings
from keyturn.exchanges.bounded_response import BoundedHead, BoundedSession
from keyturn.exchanges.transmission import Transmission

MAX_CLIENTS = 128  # A limit is needed because a region may be any text.
_INTERIM = range(100, 200)
_CONTAINERS: Mapping[str, type] = {"structure": dict, "list": list}


class Ambient:
    """The type of `AMBIENT`, the signer that represents the operator's own identity."""


AMBIENT = Ambient()


class AwsClients:
    """The cached clients of one session. `open_session` is called for the first client, and again until it succeeds.

    Each client makes up to `connections` calls at a time.
    """

    def __init__(
        self, settings: AwsSettings, connections: int, open_session: Callable[[], boto3.session.Session]
    ) -> None:
        self._settings = settings
        self._connections = connections
        self._open_session = open_session
        self._session: boto3.session.Session | None = None
        self._clients: LruDict[tuple[str, str, int, bool], Any] = LruDict(MAX_CLIENTS)
        self._creating = threading.Lock()

    def get(self, service: str, region: str, attempts: int, *, signed: bool = True) -> Any:
        """Return the client for a service, region, number of attempts, and signed or unsigned calls."""
        key = (service, region, attempts, signed)
        # Threads may share clients but not a session, so one thread at a time creates a client.
        with self._creating:
            if client := self._clients.get(key):
                return client
            self._session = self._session or self._open_session()
            config = self._config(service, region, attempts)
            client = self._session.client(
                service,  # type: ignore[call-overload]
                region_name=region,
                config=config if signed else config.merge(Config(signature_version=UNSIGNED)),
                endpoint_url=self._settings.endpoint(service, region),
                verify=self._settings.ca_bundle,
            )
            client.meta.events.register("before-parse.sso-oidc", _drop_unusable_members)
            return self._clients.put(key, client)

    def _config(self, service: str, region: str, attempts: int) -> Config:
        # botocore rejects a custom endpoint URL together with FIPS or dual-stack endpoints.
        is_default_endpoint = self._settings.endpoint(service, region) is None
        return Config(
            # CloudTrail shows it. botocore builds its own again for each call, which takes a third of the CPU time.
            user_agent=f"keyturn/{__version__}",
            retries={"mode": "standard", "total_max_attempts": attempts},
            connect_timeout=3,
            # A call that is sent only once must end within ten seconds in total.
            read_timeout=10 if attempts > 1 else 7,
            max_pool_connections=self._connections,
            use_fips_endpoint=self._settings.fips and is_default_endpoint,
            use_dualstack_endpoint=self._settings.dual_stack and is_default_endpoint,
        )


class ThreadCall(threading.local):
    """The call of this thread: the credentials that sign it, its transmission, and whether it consumes a token."""

    credentials: Credentials | None = None
    transmission: Transmission | None = None
    consumes: bool = False


thread_call = ThreadCall()


class _FinalResponse(HTTPResponse):
    """The response after any interim ones, such as 103 Early Hints, which may precede it (RFC 9110 section 15.2).

    http.client skips only 100 Continue. It would take any other one for the whole response, and the next call on the
    same connection, perhaps for another namespace, would receive the credentials that follow.
    """

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc]
        return version, HTTPStatus.CONTINUE if status in _INTERIM else status, reason

    def begin(self) -> None:
        body: Any = self.fp
        self.fp: Any = BoundedHead(body)
        try:
            super().begin()
        finally:
            self.fp = body


class _BeginningConnection:
    """Mixin for the connections of botocore: a transmission begins once there is a connection to the service.

    botocore's event before-send would be too early, because connecting can take long.
    """

    response_class = _FinalResponse
    sock: Any
    _is_connected = False

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        self._is_connected = True

    def close(self) -> None:
        self._is_connected = False
        super().close()  # type: ignore[misc]

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        # Not for the CONNECT request to a proxy, which is sent while connecting.
        if thread_call.transmission and self._is_connected:
            thread_call.transmission.begin()
        super().send(data)  # type: ignore[misc]


class _HttpConnection(_BeginningConnection, AWSHTTPConnection):  # type: ignore[misc]
    pass


class _HttpsConnection(_BeginningConnection, AWSHTTPSConnection):  # type: ignore[misc]
    pass


class _FreshPool:
    """Mixin for the pools of botocore: no token is sent on an idle connection, and nothing on one with unread data.

    A firewall may have forgotten the connection. The call would look like a lost response although AWS has not received
    the token, and so could the final attempt, on the next idle connection.

    urllib3 closes an idle connection if its socket has data, but does not see data that TLS has already decrypted. The
    call would receive a second response to the call before it, and each further call the response to another one.
    """

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection = super()._get_conn(timeout)  # type: ignore[misc]
        # Only a socket with TLS has this method.
        pending: Callable[[], int] = getattr(connection.sock, "pending", int)
        if thread_call.consumes or pending():
            # urllib3 opens it again.
            connection.close()
        return connection


class _HttpPool(_FreshPool, AWSHTTPConnectionPool):
    ConnectionCls = _HttpConnection


class _HttpsPool(_FreshPool, AWSHTTPSConnectionPool):
    ConnectionCls = _HttpsConnection


def _drop_unusable_members(response_dict: dict[str, Any], operation_model: OperationModel, **_: object) -> None:
    """Handle botocore's event before-parse: remove members of a type that botocore cannot parse.

    One such member, or a character in another encoding, would make botocore reject the whole response, and the tokens
    in it would be lost.
    """
    members, shape = decode_response(response_dict["body"]), operation_model.output_shape
    if members is None or shape is None:
        return
    usable = {
        name: value
        for name, value in members.items()
        if name not in shape.members or _is_usable(shape.members[name].type_name, value)
    }
    response_dict["body"] = json.dumps(usable).encode()


def _is_usable(type_name: str, value: object) -> bool:
    if type_name == "integer":
        return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    return isinstance(value, _CONTAINERS.get(type_name, object))


class _ThreadCredentials(botocore.credentials.Credentials):
    """Credentials that are looked up for each signature, so that one client signs for any number of identities.

    A client for each identity would cost 140 KB and its own connections.
    """

    def __init__(self) -> None:
        super().__init__("", "")

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        credentials = thread_call.credentials
        if credentials is None:
            raise NoCredentialsError
        return ReadOnlyCredentials(credentials.access_key_id, credentials.secret_access_key, credentials.session_token)


class _NoChain(CredentialResolver):
    """An empty credential chain: a Secret with a missing key must never fall back to the operator's own identity."""

    def __init__(self) -> None:
        super().__init__(providers=[])

    def load_credentials(self) -> _ThreadCredentials:
        return _ThreadCredentials()


class _ProxyConfiguration(ProxyConfiguration):
    """Chooses the proxy of each request, and authenticates to it."""

    def __init__(self, proxies: Proxies) -> None:
        super().__init__()
        # Not _proxies, which is an attribute of the base class.
        self._keyturn_proxies = proxies

    def proxy_url_for(self, url: str) -> str | None:  # type: ignore[override]  # botocore returns None too
        proxy = self._keyturn_proxies.for_url(url)
        return proxy.url if proxy else None

    def proxy_headers_for(self, proxy_url: str) -> dict[str, str]:
        known = (self._keyturn_proxies.http, self._keyturn_proxies.https)
        return next((proxy.headers for proxy in known if proxy and proxy.url == proxy_url), {})


class _ProxiedSession(botocore.session.Session):
    """Creates clients, including those of its credential chain, that use `proxies` instead of the environment.

    botocore ignores networks in NO_PROXY, fails if a password is not ASCII, and may show the password in an exception.
    Its Config(proxies=...) applies to all hosts.
    """

    def __init__(self, proxies: Proxies, **options: Any) -> None:
        super().__init__(**options)
        self._proxy_configuration = _ProxyConfiguration(proxies)
        # By CA bundle. OpenSSL needs a megabyte for the public CA certificates, and each client would load its own.
        self._tls_contexts: dict[str, Any] = {}
        self.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=parse_time)

    def create_client(self, *arguments: Any, **options: Any) -> Any:
        client: Any = super().create_client(*arguments, **options)
        # There is no public way to replace them. A test fails if botocore renames them.
        endpoint = client._endpoint  # noqa: SLF001
        session = endpoint.http_session
        session._proxy_config = self._proxy_configuration  # noqa: SLF001
        session._pool_classes_by_scheme.update(http=_HttpPool, https=_HttpsPool)  # noqa: SLF001
        pool_options = session._manager.connection_pool_kw  # noqa: SLF001
        context = self._tls_contexts.setdefault(str(session._verify), pool_options["ssl_context"])  # noqa: SLF001
        pool_options["ssl_context"] = context
        # For connections through a proxy.
        session._get_ssl_context = lambda: context  # noqa: SLF001
        endpoint.http_session = BoundedSession(session)
        return client


def parse_time(value: Any) -> datetime:
    """Parse a time in a response of AWS. Raises ValueError if it is none.

    botocore's parser, which accepts more formats, takes a seventh of the CPU time of a call.
    """
    try:
        is_number = isinstance(value, int | float)
        moment = datetime.fromtimestamp(value, UTC) if is_number else datetime.fromisoformat(value)
    except (TypeError, ValueError, OverflowError, OSError):
        return parse_timestamp(value)
    return moment if moment.tzinfo else parse_timestamp(value)


def session_without_chain(proxies: Proxies) -> boto3.session.Session:
    """Create a session without the default credential chain and without ~/.aws. `thread_call` signs its calls."""
    core = _ProxiedSession(
        proxies,
        session_vars={
            "profile": (None, None, None, None),
            "config_file": (None, None, os.devnull, None),
            "credentials_file": (None, None, os.devnull, None),
        },
    )
    core.register_component("credential_provider", _NoChain())
    return boto3.session.Session(botocore_session=core)


def ambient_session(proxies: Proxies, *, is_allowed: bool) -> boto3.session.Session:
    """Create a session that signs with the operator's own AWS identity, from botocore's default credential chain.

    Raises NoCredentialsError if the settings do not allow it, or if there is no identity yet: that of a pod may become
    available only after the pod starts. The chain refreshes its credentials itself; a copy of them would expire.
    """
    session = boto3.session.Session(botocore_session=_ProxiedSession(proxies)) if is_allowed else None
    if session is None or session.get_credentials() is None:
        raise NoCredentialsError
    return session
