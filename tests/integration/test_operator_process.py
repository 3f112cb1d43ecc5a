import base64
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.controlplane import die_with_parent
from tests.support.processes import http_get, until
from tests.support.tls import CERTIFICATE

FILE_LIMIT = 1024


@pytest.fixture
def kubeconfig(tmp_path: Path) -> str:
    """A kubeconfig whose API server refuses connections."""
    entries = {
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (tmp_path / "kubeconfig").write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **entries}))
    return str(tmp_path / "kubeconfig")


@contextmanager
def running_operator(kubeconfig: str, address: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "keyturn", "operator", f"--kubeconfig={kubeconfig}"]
    command = ["sh", "-c", f'ulimit -n {FILE_LIMIT}; exec "$@"', "sh", *command, f"--http-bind-address={address}"]
    with subprocess.Popen(die_with_parent(command), stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def is_healthy(address: str) -> bool:
    try:
        return http_get(f"http://{address}/healthz")[0] == 200
    except OSError:
        return False


def test_probes_respond_under_idle_connections(kubeconfig: str, unused_tcp_port: int) -> None:
    address = f"127.0.0.1:{unused_tcp_port}"
    with running_operator(kubeconfig, address) as process, ExitStack() as connections:
        until(lambda: is_healthy(address))
        for _ in range(FILE_LIMIT):
            connections.enter_context(socket.create_connection(("127.0.0.1", unused_tcp_port), timeout=5))

        assert all(is_healthy(address) for _ in range(10))
        assert process.poll() is None


def test_port_in_use_is_reported_in_one_line(kubeconfig: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with running_operator(kubeconfig, address) as process:
            _, stderr = process.communicate(timeout=60)

    assert stderr.splitlines()[0].endswith(f"ERROR   keyturn: cannot listen on {address}: Address already in use")
    assert (process.returncode, len(stderr.splitlines())) == (1, 1)


def test_stopped_operator_leaves_no_key_in_the_temporary_directory(
    kubeconfig: str, unused_tcp_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, temporary = json.loads(Path(kubeconfig).read_text()), tmp_path / "temporary"
    certificate, key = (base64.b64encode(it.encode()).decode() for it in (CERTIFICATE.certificate, CERTIFICATE.key))
    config["users"][0]["user"] = {"client-certificate-data": certificate, "client-key-data": key}
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    Path(kubeconfig).write_text(json.dumps(config))
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    address = f"127.0.0.1:{unused_tcp_port}"
    with running_operator(kubeconfig, address) as process:
        until(lambda: is_healthy(address))
        process.terminate()

        assert process.wait(timeout=20) == 0
    assert list(temporary.iterdir()) == []
