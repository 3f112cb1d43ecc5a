import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from keyturn.sidecar.client import fetch_credentials
from keyturn.sidecar.credential_cache import NoCredentialsError

FIELDS = {
    "AccessKeyId": "ASIA1",
    "SecretAccessKey": "planted-secret",
    "Token": "planted-token",
    "Expiration": "2026-01-01T01:00:00Z",
}
DOCUMENT = json.dumps(FIELDS)
TOKEN = "planted-authorization"


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    return path


@contextmanager
def single_response_server(response: str, host: str = "127.0.0.1") -> Iterator[tuple[int, list[bytes]]]:
    """Serve one request; yields the port and the received bytes."""
    received: list[bytes] = []
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                received.append(connection.recv(65536))
                connection.sendall(response.encode())

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1], received
        thread.join(timeout=5)


@contextmanager
def closed_port() -> Iterator[tuple[socket.socket, int]]:
    """A socket that does not listen yet, and its port, which no other process can use."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        yield server, server.getsockname()[1]


def raw_response(status: int, body: str, header: str = "") -> str:
    return f"HTTP/1.1 {status} X\r\n{header or f'Content-Length: {len(body)}'}\r\n\r\n{body}"


@pytest.mark.parametrize(
    ("host", "path", "response"),
    [
        pytest.param("127.0.0.1", "/a?b=c", raw_response(200, DOCUMENT), id="body with a length"),
        pytest.param("[::1]", "", raw_response(200, DOCUMENT, "Connection: close"), id="IPv6, body until closed"),
        pytest.param(
            "localhost",
            "/",
            raw_response(200, f"{len(DOCUMENT):x}\r\n{DOCUMENT}\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
            id="chunked body",
        ),
    ],
)
def test_request_matches_that_of_an_sdk(host: str, path: str, response: str, token_file: Path) -> None:
    with single_response_server(response, "::1" if "::" in host else "127.0.0.1") as (port, received):
        credentials = fetch_credentials(f"http://{host}:{port}{path}", token_file)

    assert json.loads(credentials.document) == FIELDS
    request_line, *headers = received[0].decode().split("\r\n")
    assert request_line == f"GET {path or '/'} HTTP/1.1"
    assert {f"Host: {host}:{port}", f"Authorization: {TOKEN}"} <= set(headers)


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        pytest.param(
            raw_response(503, '{"code": "ServiceUnavailable", "message": "they expired"}'),
            "returned HTTP 503: they expired",
            id="error with a message",
        ),
        pytest.param(raw_response(404, "<html>"), "returned HTTP 404: no message", id="error without a message"),
        pytest.param(raw_response(200, "{}"), "the credentials have no AccessKeyId", id="no credentials"),
        pytest.param(raw_response(200, "planted"), "the credentials have no AccessKeyId", id="no JSON"),
        pytest.param("planted rubbish\r\n\r\n", "no response from 127.0.0.1:", id="not HTTP"),
        pytest.param("", "no response from 127.0.0.1:", id="nothing"),
        pytest.param(raw_response(200, "x" * 99, "Content-Length: 999"), "no response from 127.0.0.1:", id="truncated"),
        pytest.param(raw_response(200, "x" * 99999), "its response is too long", id="too long"),
    ],
)
def test_response_without_credentials_is_refused(response: str, reason: str, token_file: Path) -> None:
    with single_response_server(response) as (port, _), pytest.raises(NoCredentialsError, match=reason) as caught:
        fetch_credentials(f"http://127.0.0.1:{port}", token_file)

    assert "planted" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "http://10.0.0.7/",
        "http://evil.example/",
        "http://localhost.evil.example/",
        "http://localhost@evil.example/",
        "http://169.254.169.254/",
        "http://127.0.0.1/a b",
        "http://127.0.0.1/\r\nX: y",
        "ftp://127.0.0.1/",
        "",
    ],
)
def test_token_is_sent_to_loopback_only(url: str, token_file: Path) -> None:
    with pytest.raises(NoCredentialsError, match="must start with http:// and a loopback address"):
        fetch_credentials(url, token_file)


def test_refused_connection_is_reported_after_the_timeout(token_file: Path) -> None:
    with (
        closed_port() as (_, port),
        pytest.raises(NoCredentialsError, match=f"no response from 127.0.0.1:{port}: .*Connection refused"),
    ):
        fetch_credentials(f"http://127.0.0.1:{port}", token_file, timeout_seconds=0.2)


def test_connection_is_retried_while_the_sidecar_restarts(token_file: Path) -> None:
    def respond() -> None:
        time.sleep(0.5)
        server.listen()
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(raw_response(200, DOCUMENT).encode())

    with closed_port() as (server, port):
        thread = threading.Thread(target=respond)
        thread.start()
        credentials = fetch_credentials(f"http://127.0.0.1:{port}", token_file)
        thread.join()

    assert json.loads(credentials.document) == FIELDS


@pytest.mark.parametrize("port", ["0", "65536", "99999"])
def test_invalid_port_is_refused(port: str, token_file: Path) -> None:
    with pytest.raises(NoCredentialsError, match="must have a port from 1 to 65535"):
        fetch_credentials(f"http://127.0.0.1:{port}", token_file)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(None, "cannot read .*token: No such file", id="no file"),
        pytest.param("", "must contain only visible ASCII", id="empty"),
        pytest.param("planted\n", "must contain only visible ASCII", id="a newline"),
        pytest.param("planted\r\nX: y", "must contain only visible ASCII", id="an additional header"),
    ],
)
def test_token_that_is_invalid_in_a_header_is_refused(content: str | None, reason: str, token_file: Path) -> None:
    if content is None:
        token_file.unlink()
    else:
        token_file.write_text(content)
    with pytest.raises(NoCredentialsError, match=reason) as caught:
        fetch_credentials("http://127.0.0.1:1", token_file)

    assert "planted" not in str(caught.value)
