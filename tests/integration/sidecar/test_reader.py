"""Reader mode as a process, asked by real boto3 and by nobody's friends."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import boto3
import pytest

from tests.integration.sidecar.conftest import Pod, keys_of, mount, reader_flags
from tests.support.kubelet_mount import swap
from tests.support.raw_http import connected, read_end
from tests.support.sidecar_process import running_sidecar

ROOT = Path(__file__).parents[3]


def test_boto3_follows_the_secret(pod: Pod, sdk: pytest.MonkeyPatch) -> None:
    sdk.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://{pod.sidecar.credentials}/")
    sdk.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(pod.token_file))
    session = boto3.Session()
    seen = []
    for number in (1, 2, 3):
        pod.mount(number)
        pod.gives(f"ASIA{number}")
        seen.append(keys_of(session))

    assert seen == [(f"ASIA{n}", f"planted-secret-{n}", f"planted-token-{n}") for n in (1, 2, 3)]


def test_the_secret_may_come_late_go_and_come_again(tmp_path: Path) -> None:
    with running_sidecar(tmp_path, *reader_flags(tmp_path)) as sidecar:
        pod = Pod(tmp_path, sidecar)
        before = sidecar.ask(pod.token)[0], sidecar.get("/readyz")[0], sidecar.get("/healthz")[0]
        pod.mount(1, minutes=0.1)
        pod.gives("ASIA1")
        during = sidecar.get("/readyz")[0]
        swap(pod.secret, {})
        time.sleep(1.5)
        pod.gives("ASIA1", seconds=0)
        pod.gives("the credentials expired at ", seconds=8)
        after = sidecar.get("/readyz")[0]
        pod.mount(2)
        pod.gives("ASIA2")

        assert (before, during, after) == ((503, 503, 200), 200, 503)
        assert sidecar.metric('keyturn_sidecar_requests_total{code="503"}') >= 1  # type: ignore[operator]
        log = sidecar.log()
    assert log.count("neither credentials.json nor AWS_ACCESS_KEY_ID") == 3
    assert len(log.splitlines()) == 7


def test_a_kill_loses_nothing(pod: Pod) -> None:
    token = pod.token
    pod.sidecar.kill()
    pod.mount(2)
    pod.sidecar.start()

    assert pod.token == token
    assert pod.given() == "ASIA2"


async def test_in_a_storm_of_rubbish_everybody_else_is_served(pod: Pod) -> None:
    rubbish = [
        os.urandom(300),
        b"GET /" + b"x" * 50_000,
        b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"G",
        b"",
    ]

    async def throw(number: int) -> None:
        async with connected(pod.sidecar.credentials) as (reader, writer):
            for _ in range(3):
                writer.write(rubbish[number % len(rubbish)])
                await asyncio.sleep(0.05)
            if number % 2:
                writer.transport.abort()
            else:
                writer.write_eof()
                await read_end(reader)

    waits = []
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        for number in range(150):
            tasks.create_task(throw(number))
        for _ in range(20):
            began = time.monotonic()
            status, _ = await asyncio.to_thread(pod.sidecar.ask, pod.token)
            waits.append((status, time.monotonic() - began < 1))

    assert waits == [(200, True)] * 20
    assert "Traceback" not in pod.sidecar.log()
    assert "asyncio" not in pod.sidecar.log()


async def test_two_hundred_connections_at_once(pod: Pod) -> None:
    request = f"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: {pod.token}\r\n\r\n".encode()
    all_are_open = asyncio.Barrier(200)

    async def ask() -> set[bytes]:
        found = set()
        async with connected(pod.sidecar.credentials) as (reader, writer):
            await all_are_open.wait()
            for _ in range(10):
                writer.write(request)
                found.add(await reader.readuntil(b"\r\n"))
                await reader.readuntil(b"}")
        return found

    async with asyncio.timeout(30):
        answers = await asyncio.gather(*(ask() for _ in range(200)))

    assert answers == [{b"HTTP/1.1 200 OK\r\n"}] * 200


async def test_a_sigterm_takes_no_answer_from_anybody(pod: Pod) -> None:
    """Each client asks as fast as it can until it is told to close; then every answer was whole."""
    request = f"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: {pod.token}\r\n\r\n".encode()
    document = pod.sidecar.ask(pod.token)[1].encode()

    async def ask() -> list[bool]:
        whole = []
        async with connected(pod.sidecar.credentials) as (reader, writer):
            while True:
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                whole.append(await reader.readexactly(len(document)) == document)
                if b"connection: close" in head:
                    return whole

    async with asyncio.timeout(30):
        asking = asyncio.gather(*(ask() for _ in range(20)))
        await asyncio.sleep(0.5)
        code = await asyncio.to_thread(pod.sidecar.stop)
        answers = await asking

    assert code == 0
    assert all(all(whole) and len(whole) > 1 for whole in answers)


def test_a_sigterm_ends_it_at_once_and_quietly(pod: Pod) -> None:
    with socket.create_connection(("127.0.0.1", int(pod.sidecar.credentials.rpartition(":")[2]))):
        began = time.monotonic()
        code = pod.sidecar.stop()

    assert (code, time.monotonic() - began < 1) == (0, True)
    assert len(pod.sidecar.log().splitlines()) == 3


def test_a_second_process_on_the_port_says_so_and_disturbs_nobody(pod: Pod) -> None:
    flags = [
        f"--listen={pod.sidecar.credentials}",
        "--http-bind-address=127.0.0.1:0",
        *reader_flags(pod.directory),
    ]
    code, lines = fails("--log-level=error", *flags)

    assert (code, len(lines)) == (1, 1)
    assert f"cannot listen on {pod.sidecar.credentials}: Address already in use" in lines[0]
    assert pod.given() == "ASIA1"


def fails(*flags: str, prefix: tuple[str, ...] = ()) -> tuple[int, list[str]]:
    """Run a reader that cannot serve: its exit code and what it said."""
    command = [*prefix, sys.executable, "-m", "keyturn", "sidecar", *flags]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    return ran.returncode, (ran.stdout + ran.stderr).splitlines()


def _mounted(options: str) -> tuple[str, ...]:
    """Have a tmpfs of its own on $0, and fill it."""
    fill = 'mount -t tmpfs -o "$OPTIONS" none "$0"; (cat /dev/zero >"$0/fill") 2>/dev/null; exec "$@"'
    return ("env", f"OPTIONS={options}", "unshare", "--mount", "sh", "-c", fill)


@pytest.mark.parametrize(
    ("prefix", "says"),
    [
        pytest.param(("sh", "-c", 'ulimit -f 0; exec "$@"'), "File too large", id="nothing may be written"),
        pytest.param(_mounted("size=4k"), "No space left on device", id="a full disk"),
        pytest.param(_mounted("ro"), "Read-only file system", id="a disk that is read-only"),
    ],
)
def test_the_authorization_file_cannot_be_made(prefix: tuple[str, ...], says: str, directory: Path) -> None:
    volume = directory / "volume"
    volume.mkdir()
    if "unshare" in prefix and subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.skip("mounting needs root")
    flags = [
        f"--secret-dir={directory / 'secret'}",
        f"--authorization-file={volume / 'token'}",
        "--log-level=error",
    ]
    code, lines = fails(*flags, prefix=(*prefix, str(volume)))

    assert (code, len(lines)) == (1, 1)
    assert lines[0].endswith(f"cannot make the authorization file {volume / 'token'}: {says}")
    assert list(volume.iterdir()) == []


def test_nothing_secret_is_logged_or_counted(directory: Path) -> None:
    with running_sidecar(directory, *reader_flags(directory), "--log-format=json") as sidecar:
        pod = Pod(directory, sidecar)
        for number in (2, 3):
            mount(pod.secret, number)
            pod.gives(f"ASIA{number}")
        swap(pod.secret, {"credentials.json": '{"SecretAccessKey": "planted-half'})
        sidecar.ask("planted-guess")
        time.sleep(1.5)
        told = sidecar.log() + sidecar.get("/metrics")[1] + sidecar.get("/readyz")[1]
        token = pod.token
    lines = [json.loads(line) for line in sidecar.log().splitlines()]

    assert "is not JSON" in lines[-1]["message"]
    assert 'requests_total{code="401"} 1' in told
    assert "planted" not in told
    assert token not in told
