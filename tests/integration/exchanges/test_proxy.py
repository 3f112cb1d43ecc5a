"""Calls to AWS through a corporate proxy that terminates TLS with certificates of its own CA."""

import selectors
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer

import pytest

from keyturn.core.errors import UnavailableError
from keyturn.core.settings import AwsSettings
from tests.support.emulator.client import Emulator
from tests.support.exchange_steps import assume_role, aws, get_access_token
from tests.support.tls import CERTIFICATE, SERVER_CONTEXT

# Only the proxy forwards these to the emulator.
HOSTS = dict.fromkeys(("sts", "license-manager"), "https://localhost:9")


@dataclass(slots=True)
class Proxy:
    """An HTTP proxy that accepts CONNECT, terminates TLS and forwards everything to the emulator."""

    emulator: Emulator
    url: str = ""
    connected_hosts: list[str] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def serve(self, client: socket.socket) -> None:
        received = b""
        while not received.endswith(b"\r\n\r\n"):
            received += client.recv(1)
        self.connected_hosts.append(received.split()[1].decode())
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        host, _, port = self.emulator.url.removeprefix("http://").partition(":")
        with (
            suppress(OSError),
            SERVER_CONTEXT.wrap_socket(client, server_side=True) as downstream,
            socket.create_connection((host, int(port))) as upstream,
        ):
            _pipe(downstream, upstream, self.done)


def _pipe(downstream: ssl.SSLSocket, upstream: socket.socket, done: threading.Event) -> None:
    """Copy bytes in both directions until one side closes the connection or `done` is set."""
    with selectors.DefaultSelector() as ready:
        ready.register(downstream, selectors.EVENT_READ, upstream)
        ready.register(upstream, selectors.EVENT_READ, downstream)
        while not done.is_set():
            for key, _ in ready.select(0.02):
                data = downstream.recv(65536) if key.fileobj is downstream else upstream.recv(65536)
                # select does not report data that TLS has already decrypted.
                while key.fileobj is downstream and downstream.pending():
                    data += downstream.recv(65536)
                if not data:
                    return
                key.data.sendall(data)


@contextmanager
def running_proxy(emulator: Emulator) -> Iterator[Proxy]:
    proxy = Proxy(emulator)

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            proxy.serve(self.request)

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield proxy
        proxy.done.set()
        server.shutdown()


@pytest.fixture
def bundle(tmp_path: Path) -> str:
    """The path of a file with the corporate CA."""
    path = tmp_path / "ca.pem"
    path.write_text(CERTIFICATE.ca)
    return str(path)


async def test_proxy_with_its_own_ca(emulator: Emulator, bundle: str) -> None:
    with running_proxy(emulator) as proxy:
        settings = AwsSettings(endpoints=HOSTS, proxy=proxy.url, ca_bundle=bundle)
        with closing(aws(settings)) as client:
            values = await get_access_token(client, emulator.refresh_token())
            values = await assume_role(client, values.current_token.value)

    assert values.credentials
    assert set(proxy.connected_hosts) == {"localhost:9"}


async def test_proxy_from_the_environment(emulator: Emulator, bundle: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_proxy(emulator) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        with closing(aws(AwsSettings(endpoints=HOSTS, ca_bundle=bundle))) as client:
            await get_access_token(client, emulator.refresh_token())

    assert proxy.connected_hosts


async def test_nothing_is_sent_without_the_ca_of_the_proxy(emulator: Emulator) -> None:
    with running_proxy(emulator) as proxy:
        settings = AwsSettings(endpoints=HOSTS, proxy=proxy.url)
        with closing(aws(settings)) as client, pytest.raises(UnavailableError) as raised:
            await get_access_token(client, emulator.refresh_token())

    assert raised.value.reason == "Unreachable"
    assert "SSLError" in raised.value.message
    assert emulator.calls("GetAccessToken") == 0
