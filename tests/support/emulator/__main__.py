"""python -m tests.support.emulator --port 4566: run the emulator until SIGTERM or Ctrl-C."""

import argparse
import asyncio
import signal
import socket
import ssl
import sys
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from tests.support.certificates import issue_certificate
from tests.support.clock import real_now
from tests.support.emulator.app import make_app
from tests.support.emulator.oauth.app import make_issuer_app
from tests.support.emulator.oauth.issuer import IssuerState
from tests.support.emulator.state import Settings, State


def main() -> int:
    """Run until terminated; return 1 if it produced a response that AWS could not have returned, which it logs."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.emulator", description=__doc__)
    parser.add_argument("--port", type=int, default=4566, help="0 picks a free port")
    for setting in msgspec.structs.fields(Settings):
        parser.add_argument(f"--{setting.name.replace('_', '-')}", type=setting.type, default=setting.default)
    arguments = vars(parser.parse_args())
    port = arguments.pop("port")
    with socket.create_server(("127.0.0.1", port)) as aws, socket.create_server(("127.0.0.1", 0)) as issuer:
        settings = Settings(**arguments)
        aliases = [alias for alias in settings.issuer_aliases.split(",") if alias]
        names = {urlsplit(alias).hostname or "" for alias in aliases if alias.startswith("https://")}
        certificate = issue_certificate(real_now(), ["127.0.0.1"], ["localhost", *sorted(names)])
        host, issuer_port = issuer.getsockname()
        address = f"https://{host}:{issuer_port}"
        url = aliases[0] if aliases else address
        state = State(settings, real_now, IssuerState(url, certificate.ca, address, frozenset(aliases)))
        asyncio.run(_serve(state, aws, issuer, certificate.server_context()))
    return 1 if state.bugs else 0


async def _serve(state: State, aws: socket.socket, issuer: socket.socket, tls: ssl.SSLContext) -> None:
    stopped = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stopped.set)
    # A call that a fault delays must not delay the shutdown.
    runners = [
        web.AppRunner(app, access_log=None, shutdown_timeout=0.1) for app in (make_app(state), make_issuer_app(state))
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
