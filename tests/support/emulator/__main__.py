"""python -m tests.support.emulator --port 4566: the emulator by itself, until SIGTERM or Ctrl-C."""

import argparse
import asyncio
import signal
import socket
import ssl
import sys
from datetime import UTC, datetime

import msgspec
from aiohttp import web

from tests.support.certificates import issue_loopback_certificate
from tests.support.emulator.app import make_app
from tests.support.emulator.oauth.app import make_issuer_app
from tests.support.emulator.oauth.issuer import Issuer
from tests.support.emulator.state import Settings, State


def main() -> int:
    """Run until told to stop; 1 if it gave an answer that AWS could not give (the log has it)."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.emulator", description=__doc__)
    parser.add_argument("--port", type=int, default=4566, help="0 picks a free one")
    for setting in msgspec.structs.fields(Settings):
        parser.add_argument(f"--{setting.name.replace('_', '-')}", type=setting.type, default=setting.default)
    given = vars(parser.parse_args())
    with _listening(given.pop("port")) as aws, _listening() as issuer:
        certified = issue_loopback_certificate(_now())
        host, port = issuer.getsockname()
        world = State(Settings(**given), _now, Issuer(f"https://{host}:{port}", certified.ca))
        asyncio.run(_serve(world, aws, issuer, certified.server_context()))
    return 1 if world.bugs else 0


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - the one real clock of the emulator


def _listening(port: int = 0) -> socket.socket:
    return socket.create_server(("127.0.0.1", port))


async def _serve(world: State, aws: socket.socket, issuer: socket.socket, tls: ssl.SSLContext) -> None:
    stopped = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stopped.set)
    # A call that a fault holds back must not hold back the end.
    runners = [
        web.AppRunner(make_app(world), access_log=None, shutdown_timeout=0.1),
        web.AppRunner(make_issuer_app(world), access_log=None, shutdown_timeout=0.1),
    ]
    for runner in runners:
        await runner.setup()
    await web.SockSite(runners[0], aws).start()
    await web.SockSite(runners[1], issuer, ssl_context=tls).start()
    host, port = aws.getsockname()
    print(f"AWS emulator ready: http://{host}:{port}", flush=True)
    await stopped.wait()
    for runner in runners:
        await runner.cleanup()


if __name__ == "__main__":
    sys.exit(main())
