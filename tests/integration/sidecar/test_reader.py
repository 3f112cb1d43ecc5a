"""Reader mode as a separate process, called by boto3 and by hostile clients."""

import asyncio
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.support.kubelet_mount import mount_credentials, swap
from tests.support.processes import until
from tests.support.raw_http import connect, read_until_closed
from tests.support.sidecar_process import ReaderPod, reader_flags, running_sidecar

ROOT = Path(__file__).parents[3]


def test_secret_may_be_mounted_later_removed_and_mounted_again(tmp_path: Path) -> None:
    with running_sidecar(tmp_path, *reader_flags(tmp_path)) as sidecar:
        pod = ReaderPod(tmp_path, sidecar)
        before = sidecar.get_credentials(pod.token)[0], sidecar.get("/readyz")[0], sidecar.get("/healthz")[0]
        pod.mount(1, minutes=0.1)
        pod.wait_for_response("ASIA1")
        during = sidecar.get("/readyz")[0]
        swap(pod.secret, {})
        until(lambda: sidecar.log().count("neither credentials.json") == 2)
        pod.wait_for_response("ASIA1", seconds=0)
        pod.wait_for_response("the credentials expired at ", seconds=8)
        after = sidecar.get("/readyz")[0]
        pod.mount(2)
        pod.wait_for_response("ASIA2")

        assert (before, during, after) == ((503, 503, 200), 200, 503)
        assert sidecar.metric('keyturn_sidecar_requests_total{code="503"}') >= 1  # type: ignore[operator]
        log = sidecar.log()
    assert log.count("neither credentials.json nor AWS_ACCESS_KEY_ID") == 3
    assert len(log.splitlines()) == 7


def test_restart_after_a_kill_keeps_the_token(pod: ReaderPod) -> None:
    token = pod.token
    pod.sidecar.kill()
    pod.mount(2)
    pod.sidecar.start()

    assert pod.token == token
    assert pod.response() == "ASIA2"


async def test_hostile_clients_do_not_delay_others(pod: ReaderPod) -> None:
    hostile = [
        os.urandom(300),
        b"GET /" + b"x" * 50_000,
        b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"G",
        b"",
    ]

    async def attack(number: int) -> None:
        async with connect(pod.sidecar.credentials) as (reader, writer):
            for _ in range(3):
                writer.write(hostile[number % len(hostile)])
                await asyncio.sleep(0.05)
            if number % 2:
                writer.transport.abort()
            else:
                writer.write_eof()
                await read_until_closed(reader)

    results = []
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        for number in range(150):
            tasks.create_task(attack(number))
        for _ in range(20):
            start = time.monotonic()
            status, _ = await asyncio.to_thread(pod.sidecar.get_credentials, pod.token)
            results.append((status, time.monotonic() - start < 1))

    assert results == [(200, True)] * 20
    assert "Traceback" not in pod.sidecar.log()
    assert "asyncio" not in pod.sidecar.log()


async def test_two_hundred_connections_are_served_concurrently(pod: ReaderPod) -> None:
    request = f"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: {pod.token}\r\n\r\n".encode()
    all_are_open = asyncio.Barrier(200)

    async def send_ten() -> set[bytes]:
        status_lines = set()
        async with connect(pod.sidecar.credentials) as (reader, writer):
            await all_are_open.wait()
            for _ in range(10):
                writer.write(request)
                status_lines.add(await reader.readuntil(b"\r\n"))
                await reader.readuntil(b"}")
        return status_lines

    async with asyncio.timeout(30):
        status_lines = await asyncio.gather(*(send_ten() for _ in range(200)))

    assert status_lines == [{b"HTTP/1.1 200 OK\r\n"}] * 200


@pytest.fixture
def _many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4096:
        pytest.skip("the test opens 3,000 connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("_many_files")
def test_three_thousand_idle_connections_do_not_block_clients(pod: ReaderPod) -> None:
    host, _, port = pod.sidecar.credentials.rpartition(":")
    statuses = []
    with ExitStack() as stack:
        for _ in range(3000):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)  # noqa: FBT003 - the socket module's own argument
            client.connect_ex((host, int(port)))
        for _ in range(10):
            statuses.append(pod.sidecar.get_credentials(pod.token)[0])
            # Lets the kernel retry connection attempts that it dropped at first.
            time.sleep(0.2)

    assert statuses == [200] * 10
    assert "Traceback" not in pod.sidecar.log()


def test_clients_that_do_not_read_cannot_exhaust_memory(pod: ReaderPod) -> None:
    host, _, port = pod.sidecar.probes.rpartition(":")
    pipelined = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 10_000
    with ExitStack() as stack:
        for _ in range(256):
            client = stack.enter_context(socket.create_connection((host, int(port))))
            client.settimeout(0.01)
            with suppress(TimeoutError):
                client.sendall(pipelined)
        time.sleep(3)
        status = Path(f"/proc/{pod.sidecar.process.pid}/status").read_text()
    peak_kib = int(status.partition("VmHWM:")[2].split()[0])

    # The memory limit of an injected sidecar is 64 MiB.
    assert peak_kib < 48 * 1024


async def test_sigterm_lets_responses_complete(pod: ReaderPod) -> None:
    """Each client sends requests as fast as it can until a response announces the end."""
    request = f"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: {pod.token}\r\n\r\n".encode()
    document = pod.sidecar.get_credentials(pod.token)[1].encode()

    results = [list[bool]() for _ in range(20)]

    async def send_until_closed(is_complete: list[bool]) -> None:
        async with connect(pod.sidecar.credentials) as (reader, writer):
            while True:
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                is_complete.append(await reader.readexactly(len(document)) == document)
                if b"connection: close" in head:
                    return

    async with asyncio.timeout(30):
        clients = asyncio.gather(*map(send_until_closed, results))
        while any(len(is_complete) < 2 for is_complete in results):  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.05)
        code = await asyncio.to_thread(pod.sidecar.stop)
        await clients

    assert code == 0
    assert all(map(all, results))


def test_sigterm_ends_the_process_within_a_second(pod: ReaderPod) -> None:
    with socket.create_connection(("127.0.0.1", int(pod.sidecar.credentials.rpartition(":")[2]))):
        start = time.monotonic()
        code = pod.sidecar.stop()

    assert (code, time.monotonic() - start < 1) == (0, True)
    assert len(pod.sidecar.log().splitlines()) == 3


def test_second_sigterm_does_not_wait_for_open_requests(pod: ReaderPod) -> None:
    with socket.create_connection(("127.0.0.1", int(pod.sidecar.credentials.rpartition(":")[2]))) as client:
        client.sendall(b"GET /")
        time.sleep(0.2)
        start = time.monotonic()
        pod.sidecar.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        code = pod.sidecar.stop()

    assert (code, time.monotonic() - start < 1) == (0, True)
    assert len(pod.sidecar.log().splitlines()) == 3


def test_port_in_use_is_reported_and_its_owner_keeps_serving(pod: ReaderPod) -> None:
    flags = [f"--listen={pod.sidecar.credentials}", "--http-bind-address=127.0.0.1:0", *reader_flags(pod.directory)]
    code, lines = run_until_exit("--log-level=error", *flags)

    assert (code, len(lines)) == (1, 1)
    assert f"cannot listen on {pod.sidecar.credentials}: Address already in use" in lines[0]
    assert pod.response() == "ASIA1"


def run_until_exit(*flags: str, prefix: tuple[str, ...] = ()) -> tuple[int, list[str]]:
    """Run a sidecar that fails to start; return its exit code and the lines of its output."""
    command = [*prefix, sys.executable, "-m", "keyturn", "sidecar", *flags]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    return process.returncode, (process.stdout + process.stderr).splitlines()


def on_full_tmpfs(options: str) -> tuple[str, ...]:
    """Return the prefix of a command that runs with a full tmpfs mounted at its first argument."""
    fill = 'mount -t tmpfs -o "$OPTIONS" none "$0"; (cat /dev/zero >"$0/fill") 2>/dev/null; exec "$@"'
    return ("env", f"OPTIONS={options}", "unshare", "--mount", "sh", "-c", fill)


@pytest.mark.parametrize(
    ("prefix", "reason"),
    [
        pytest.param(("sh", "-c", 'ulimit -f 0; exec "$@"'), "File too large", id="file size limit of zero"),
        pytest.param(on_full_tmpfs("size=4k"), "No space left on device", id="full disk"),
        pytest.param(on_full_tmpfs("ro"), "Read-only file system", id="read-only disk"),
    ],
)
def test_authorization_file_that_cannot_be_created_is_reported(
    prefix: tuple[str, ...], reason: str, directory: Path
) -> None:
    volume = directory / "volume"
    volume.mkdir()
    if "unshare" in prefix and subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.skip("mounting needs root")
    flags = [f"--secret-dir={directory / 'secret'}", f"--authorization-file={volume / 'token'}", "--log-level=error"]
    code, lines = run_until_exit(*flags, prefix=(*prefix, str(volume)))

    assert (code, len(lines)) == (1, 1)
    assert lines[0].endswith(f"cannot create the authorization file {volume / 'token'}: {reason}")
    assert list(volume.iterdir()) == []


def test_no_secret_is_logged_or_exposed(directory: Path) -> None:
    with running_sidecar(directory, *reader_flags(directory), "--log-format=json") as sidecar:
        pod = ReaderPod(directory, sidecar)
        for number in (2, 3):
            mount_credentials(pod.secret, number)
            pod.wait_for_response(f"ASIA{number}")
        swap(pod.secret, {"credentials.json": '{"SecretAccessKey": "planted-half'})
        sidecar.get_credentials("planted-guess")
        until(lambda: "is not valid JSON" in sidecar.log())
        output = sidecar.log() + sidecar.get("/metrics")[1] + sidecar.get("/readyz")[1]
        token = pod.token
    lines = [json.loads(line) for line in sidecar.log().splitlines()]

    assert "is not valid JSON" in lines[-1]["message"]
    assert 'requests_total{code="401"} 1' in output
    assert "planted" not in output
    assert token not in output
