import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from keyturn.sidecar.client import ask
from keyturn.sidecar.credential_cache import UnservableError

FIELDS = {
    "AccessKeyId": "ASIA1",
    "SecretAccessKey": "planted-secret",
    "Token": "planted-token",
    "Expiration": "2026-01-01T01:00:00Z",
}
DOCUMENT = json.dumps(FIELDS)
TOKEN = "planted-authorization"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    return path


@contextmanager
def answering(answer: str, host: str = "127.0.0.1", port: int = 0) -> Iterator[tuple[int, list[bytes]]]:
    """A server for one request; gives its port and what it was sent."""
    sent: list[bytes] = []
    with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                sent.append(connection.recv(65536))
                connection.sendall(answer.encode())

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1], sent
        thread.join(timeout=5)


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def message(status: int, body: str, header: str = "") -> str:
    return f"HTTP/1.1 {status} X\r\n{header or f'Content-Length: {len(body)}'}\r\n\r\n{body}"


@pytest.mark.parametrize(
    ("host", "path", "answer"),
    [
        pytest.param("127.0.0.1", "/a?b=c", message(200, DOCUMENT), id="with a length"),
        pytest.param("[::1]", "", message(200, DOCUMENT, "Connection: close"), id="IPv6, to the end"),
        pytest.param(
            "localhost",
            "/",
            message(200, f"{len(DOCUMENT):x}\r\n{DOCUMENT}\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
            id="in chunks",
        ),
    ],
)
def test_it_asks_as_an_sdk_does(host: str, path: str, answer: str, file: Path) -> None:
    with answering(answer, "::1" if "::" in host else "127.0.0.1") as (port, sent):
        found = ask(f"http://{host}:{port}{path}", file)

    assert json.loads(found.document) == FIELDS
    first, *headers = sent[0].decode().split("\r\n")
    assert first == f"GET {path or '/'} HTTP/1.1"
    assert {f"Host: {host}:{port}", f"Authorization: {TOKEN}"} <= set(headers)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        pytest.param(
            message(503, '{"code": "ServiceUnavailable", "message": "they expired"}'),
            "answered 503: they expired",
            id="a reason",
        ),
        pytest.param(message(404, "<html>"), "answered 404: no message", id="no reason"),
        pytest.param(message(200, "{}"), "the credentials have no AccessKeyId", id="no credentials"),
        pytest.param(message(200, "planted"), "the credentials have no AccessKeyId", id="no JSON"),
        pytest.param("planted rubbish\r\n\r\n", "no answer of 127.0.0.1:", id="no HTTP"),
        pytest.param("", "no answer of 127.0.0.1:", id="nothing"),
        pytest.param(message(200, "x" * 99, "Content-Length: 999"), "no answer of 127.0.0.1:", id="cut short"),
        pytest.param(message(200, "x" * 99999), "it is not HTTP, or too long", id="too long"),
    ],
)
def test_answers_without_credentials(answer: str, says: str, file: Path) -> None:
    with answering(answer) as (port, _), pytest.raises(UnservableError, match=says) as refused:
        ask(f"http://127.0.0.1:{port}", file)

    assert "planted" not in str(refused.value)


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
def test_the_token_goes_to_loopback_only(url: str, file: Path) -> None:
    with pytest.raises(UnservableError, match="the URL is not http:// of a loopback address"):
        ask(url, file)


def test_nobody_listens(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keyturn.sidecar.client._SECONDS", 0.2)
    port = closed_port()

    with pytest.raises(UnservableError, match=f"no answer of 127.0.0.1:{port}: .*Connection refused"):
        ask(f"http://127.0.0.1:{port}", file)


def test_a_sidecar_that_is_started_again_is_waited_for(file: Path) -> None:
    def listen() -> None:
        time.sleep(0.5)
        with answering(message(200, DOCUMENT), port=port):
            pass

    port = closed_port()
    thread = threading.Thread(target=listen)
    thread.start()
    found = ask(f"http://127.0.0.1:{port}", file)
    thread.join()

    assert json.loads(found.document) == FIELDS


@pytest.mark.parametrize("port", ["0", "65536", "99999"])
def test_no_such_port(port: str, file: Path) -> None:
    with pytest.raises(UnservableError, match=r"no answer of 127\.0\.0\.1:"):
        ask(f"http://127.0.0.1:{port}", file)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(None, "cannot read .*token: No such file", id="no file"),
        pytest.param("", "is empty, or has characters", id="empty"),
        pytest.param("planted\n", "is empty, or has characters", id="a newline"),
        pytest.param("planted\r\nX: y", "is empty, or has characters", id="a header more"),
    ],
)
def test_a_token_that_no_header_can_hold(content: str | None, says: str, file: Path) -> None:
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    with pytest.raises(UnservableError, match=says) as refused:
        ask("http://127.0.0.1:1", file)

    assert "planted" not in str(refused.value)
