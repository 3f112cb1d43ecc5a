"""Asking an endpoint for its credentials, as an SDK does."""

import json
import re
import socket
import time
from pathlib import Path

import h11

from keyturn.sidecar.credential_cache import Served, UnservableError, served
from keyturn.sidecar.plain_file import read_plain

# These are where SDKs go without TLS.
_URL = re.compile(r"http://(localhost|127(?:\.\d{1,3}){3}|\[::1\]|169\.254\.170\.(?:2|23))(?::(\d{1,5}))?(/[!-~]*)?")
_VISIBLE = re.compile(rb"[!-~]+")
_SECONDS, _PAUSE_SECONDS = 5.0, 0.1
_LARGEST = 1 << 16


def ask(url: str, authorization_file: Path) -> Served:
    """GET the URL with the token in the file; raises UnservableError where that gives no credentials.

    Where nobody listens it tries for five seconds.
    """
    found = _URL.fullmatch(url)
    if found is None:
        raise UnservableError("the URL is not http:// of a loopback address")
    token = _token(authorization_file)
    host, port, path = found[1], int(found[2] or 80), found[3] or "/"
    headers = [("Host", f"{host}:{port}"), ("Authorization", token), ("Connection", "close")]
    try:
        with _connected(host.strip("[]"), port) as connection:
            status, body = _exchange(connection, h11.Request(method="GET", target=path, headers=headers))
    except h11.ProtocolError:
        # Its text has what was answered.
        raise UnservableError(f"no answer of {host}:{port}: it is not HTTP, or too long") from None
    except (OSError, OverflowError) as error:
        raise UnservableError(f"no answer of {host}:{port}: {error}") from None
    fields = _json_object(body)
    if status != 200:  # noqa: PLR2004 - OK
        raise UnservableError(f"{host}:{port} answered {status}: {fields.get('message', 'no message')}")
    return served({"document": json.dumps(fields | {"SessionToken": fields.get("Token")})}, "document")


def _token(path: Path) -> str:
    try:
        token = read_plain(path, _LARGEST)
    except OSError as error:
        raise UnservableError(f"cannot read {path}: {error.strerror}") from None
    if not _VISIBLE.fullmatch(token):
        raise UnservableError(f"{path} is empty, or has characters that no header has, such as a newline")
    return token.decode()


def _connected(host: str, port: int) -> socket.socket:
    """Connect: a sidecar that is started again listens within seconds, and an SDK runs us only once."""
    until = time.monotonic() + _SECONDS
    while True:
        try:
            return socket.create_connection((host, port), _SECONDS)
        except ConnectionRefusedError:
            if time.monotonic() > until:
                raise
            time.sleep(_PAUSE_SECONDS)


def _exchange(connection: socket.socket, request: h11.Request) -> tuple[int, bytes]:
    http = h11.Connection(h11.CLIENT)
    connection.sendall((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))
    status, body = 0, b""
    while not isinstance(event := http.next_event(), h11.EndOfMessage):
        if event is h11.NEED_DATA:
            http.receive_data(connection.recv(_LARGEST))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
        if len(body) > _LARGEST:
            raise h11.RemoteProtocolError("the answer is too long")
    return status, body


def _json_object(body: bytes) -> dict[str, object]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {}
