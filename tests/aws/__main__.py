"""python -m tests.aws --port 4566: the emulator by itself, until SIGTERM or Ctrl-C."""

import argparse
import asyncio
import signal
import sys
from datetime import UTC, datetime

import msgspec
from aiohttp import web

from tests.aws.app import make_app
from tests.aws.world import Settings, World


def main() -> int:
    """Run until told to stop; 1 if it gave an answer that AWS could not give (the log has it)."""
    parser = argparse.ArgumentParser(prog="python -m tests.aws", description=__doc__)
    parser.add_argument("--port", type=int, default=4566, help="0 picks a free one")
    for setting in msgspec.structs.fields(Settings):
        parser.add_argument(f"--{setting.name.replace('_', '-')}", type=setting.type, default=setting.default)
    given = vars(parser.parse_args())
    port = given.pop("port")
    world = World(Settings(**given), lambda: datetime.now(UTC))  # noqa: TID251 - the one real clock of the emulator
    asyncio.run(_serve(world, port))
    return 1 if world.bugs else 0


async def _serve(world: World, port: int) -> None:
    stopped = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stopped.set)
    # A call that a fault holds back must not hold back the end.
    runner = web.AppRunner(make_app(world), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    host, bound_port = runner.addresses[0]
    print(f"AWS emulator ready: http://{host}:{bound_port}", flush=True)
    await stopped.wait()
    await runner.cleanup()


if __name__ == "__main__":
    sys.exit(main())
