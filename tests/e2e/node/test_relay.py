"""The relay between network namespaces, here within one."""

import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from tests.support.node import relay

NAMESPACE = "/proc/self/ns/net"


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        yield listener


@pytest.fixture
def port(server: socket.socket) -> Iterator[int]:
    """The port of a relay to the server."""
    try:
        with Path(NAMESPACE).open() as namespace:
            relay.enter_namespace(namespace.fileno())
    except OSError as error:
        pytest.skip(f"no relay can be started here: {error}")
    ends = (NAMESPACE, "127.0.0.1", "0", NAMESPACE, "127.0.0.1", str(server.getsockname()[1]))
    with Popen([sys.executable, str(Path(relay.__file__)), *ends], stdout=PIPE, text=True) as process:
        assert process.stdout
        yield int(process.stdout.readline())
        process.kill()


def test_data_passes_both_ways_and_each_end_closes_separately(server: socket.socket, port: int) -> None:
    with closing(socket.create_connection(("127.0.0.1", port), timeout=10)) as client:
        accepted, _ = server.accept()
        with accepted:
            client.sendall(b"request" * 100_000)
            client.shutdown(socket.SHUT_WR)
            request = b"".join(iter(lambda: accepted.recv(65536), b""))
            accepted.sendall(b"response")
        response = b"".join(iter(lambda: client.recv(65536), b""))

    assert (request, response) == (b"request" * 100_000, b"response")


def test_connection_is_closed_if_nothing_listens(server: socket.socket, port: int) -> None:
    server.close()
    with closing(socket.create_connection(("127.0.0.1", port), timeout=10)) as client:
        assert client.recv(1) == b""
