"""The relay between network namespaces, here within one."""

import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from tests.support.node import relay

OURS = "/proc/self/ns/net"


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        yield listener


@pytest.fixture
def port(server: socket.socket) -> Iterator[int]:
    """The port of a relay to that server."""
    try:
        with Path(OURS).open() as ours:
            relay.enter(ours.fileno())
    except OSError as error:
        pytest.skip(f"no relay can be started here: {error}")
    ends = (OURS, "127.0.0.1", "0", OURS, "127.0.0.1", str(server.getsockname()[1]))
    with Popen([sys.executable, str(Path(relay.__file__)), *ends], stdout=PIPE, text=True) as running:
        assert running.stdout
        yield int(running.stdout.readline())
        running.kill()


def test_all_passes_both_ways_and_each_end_by_itself(server: socket.socket, port: int) -> None:
    with closing(socket.create_connection(("127.0.0.1", port), timeout=10)) as client:
        accepted, _ = server.accept()
        with accepted:
            client.sendall(b"question" * 100_000)
            client.shutdown(socket.SHUT_WR)
            asked = b"".join(iter(lambda: accepted.recv(65536), b""))
            accepted.sendall(b"answer")
        answered = b"".join(iter(lambda: client.recv(65536), b""))

    assert (asked, answered) == (b"question" * 100_000, b"answer")


def test_where_nobody_listens_the_connection_ends(server: socket.socket, port: int) -> None:
    server.close()
    with closing(socket.create_connection(("127.0.0.1", port), timeout=10)) as client:
        assert client.recv(1) == b""
