"""Connections from one network namespace to an address in another.

`python relay.py LISTEN_IN HOST PORT CONNECT_IN HOST PORT`; a namespace is a file such as /proc/1/ns/net. Prints
the port on which it listens, which is a free one for 0.
"""

import asyncio
import ctypes
import socket
import sys
from asyncio import StreamReader, StreamWriter
from pathlib import Path

CHUNK = 65536


def enter(namespace: int) -> None:
    """Have this thread open its sockets in another network namespace from now on."""
    if ctypes.CDLL(None, use_errno=True).setns(namespace, 0):
        raise OSError(ctypes.get_errno(), "no way into the network namespace")


async def copy(source: StreamReader, sink: StreamWriter) -> None:
    while chunk := await source.read(CHUNK):
        sink.write(chunk)
        await sink.drain()
    sink.write_eof()


async def serve(listener: socket.socket, host: str, port: int) -> None:
    """Pass every connection on until the process ends."""

    async def pass_on(reader: StreamReader, writer: StreamWriter) -> None:
        there: StreamWriter | None = None
        try:
            answer, there = await asyncio.open_connection(host, port)
            async with asyncio.TaskGroup() as both:
                both.create_task(copy(reader, there))
                both.create_task(copy(answer, writer))
        except (OSError, ExceptionGroup):
            pass  # either side has gone: the other one sees its connection end
        finally:
            for end in (writer, there):
                if end:
                    end.close()

    async with await asyncio.start_server(pass_on, sock=listener) as server:
        await server.serve_forever()


def main(listen_in: str, host: str, port: str, connect_in: str, *target: str) -> None:
    with Path(listen_in).open() as here, Path(connect_in).open() as there:
        enter(here.fileno())
        listener = socket.create_server((host, int(port)))
        enter(there.fileno())
    print(listener.getsockname()[1], flush=True)
    asyncio.run(serve(listener, target[0], int(target[1])))


if __name__ == "__main__":
    main(*sys.argv[1:])
