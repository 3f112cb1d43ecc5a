"""Fetches credentials from an endpoint, as an SDK does."""

import json
import re
import socket
import time
from pathlib import Path

import h11

from keyturn.sidecar.authorization import AuthorizationError, read_token
from keyturn.sidecar.credential_cache import NoCredentialsError, ServedCredentials, parse_credentials

# The hosts to which SDKs connect without TLS.
_URL = re.compile(r"http://(localhost|127(?:\.\d{1,3}){3}|\[::1\]|169\.254\.170\.(?:2|23))(?::(\d{1,5}))?(/[!-~]*)?")
_TIMEOUT_SECONDS, _RETRY_SECONDS = 5.0, 0.1
_MAX_PORT = 0xFFFF
_MAX_BYTES = 1 << 16


def fetch_credentials(
    url: str, authorization_file: Path, timeout_seconds: float = _TIMEOUT_SECONDS
) -> ServedCredentials:
    """GET the URL with the token in the file; raises NoCredentialsError if the response contains no credentials.

    The timeout applies to each network operation. A refused connection is retried until the timeout.
    """
    host, port, path = _split(url)
    try:
        token = read_token(authorization_file, _MAX_BYTES)
    except AuthorizationError as error:
        raise NoCredentialsError(str(error)) from None
    except OSError as error:
        raise NoCredentialsError(f"cannot read the authorization file {authorization_file}: {error.strerror}") from None
    headers = [("Host", f"{host}:{port}"), ("Authorization", token), ("Connection", "close")]
    try:
        with _connect(host.strip("[]"), port, timeout_seconds) as connection:
            status, fields = _exchange(connection, h11.Request(method="GET", target=path, headers=headers))
    except h11.ProtocolError:
        # The error's text may contain a part of the response.
        raise NoCredentialsError(
            f"no response from {host}:{port}: it is not an HTTP server, or its response is too long"
        ) from None
    except OSError as error:
        raise NoCredentialsError(f"no response from {host}:{port}: {error}") from None
    if status != 200:  # noqa: PLR2004 - OK
        raise NoCredentialsError(f"{host}:{port} returned HTTP {status}: {fields.get('message', 'no message')}")
    return parse_credentials({"response": json.dumps(fields | {"SessionToken": fields.get("Token")})}, "response")


def _split(url: str) -> tuple[str, int, str]:
    match = _URL.fullmatch(url)
    if match is None:
        raise NoCredentialsError("the URL of the endpoint must start with http:// and a loopback address")
    host, port, path = match[1], int(match[2] or 80), match[3] or "/"
    # The C library takes port numbers modulo 65536, so the token would be sent to another port.
    if not 0 < port <= _MAX_PORT:
        raise NoCredentialsError(f"the URL of the endpoint must have a port from 1 to {_MAX_PORT}")
    return host, port, path


def _connect(host: str, port: int, timeout_seconds: float) -> socket.socket:
    """Connect, and retry if refused: the sidecar may be restarting, and SDKs do not run this process a second time."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            return socket.create_connection((host, port), timeout_seconds)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)


def _exchange(connection: socket.socket, request: h11.Request) -> tuple[int, dict[str, object]]:
    """Send the request; return the status and the JSON object in the response, or {} if there is none."""
    http = h11.Connection(h11.CLIENT)
    connection.sendall((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))
    status, body = 0, b""
    while not isinstance(event := http.next_event(), h11.EndOfMessage):
        if event is h11.NEED_DATA:
            http.receive_data(connection.recv(_MAX_BYTES))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
        if len(body) > _MAX_BYTES:
            raise h11.RemoteProtocolError("the response is too long")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    return status, document if isinstance(document, dict) else {}
