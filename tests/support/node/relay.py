"""Relays TCP connections from one network namespace to another.

`python relay.py LISTEN_IN HOST PORT CONNECT_IN HOST PORT`; a namespace is a file such as /proc/1/ns/net. It prints
the port on which it listens; 0 picks a free one.
"""

import asyncio
import ctypes
import socket
import sys
from asyncio import StreamReader, StreamWriter
from pathlib import Path


def enter_namespace(namespace: int) -> None:
    """Open new sockets of this thread in another network namespace."""
    if ctypes.CDLL(None, use_errno=True).setns(namespace, 0):
        raise OSError(ctypes.get_errno(), "cannot enter the network namespace")


async def copy(source: StreamReader, sink: StreamWriter) -> None:
    while chunk := await source.read(65536):
        sink.write(chunk)
        await sink.drain()
    sink.write_eof()


async def serve(listener: socket.socket, host: str, port: int) -> None:
    """Relay every connection until the process ends."""

    async def relay(reader: StreamReader, writer: StreamWriter) -> None:
        writers = [writer]
        try:
            target_reader, target_writer = await asyncio.open_connection(host, port)
            writers.append(target_writer)
            async with asyncio.TaskGroup() as group:
                group.create_task(copy(reader, target_writer))
                group.create_task(copy(target_reader, writer))
        except (OSError, ExceptionGroup):
            pass  # one side closed the connection: the other one is closed below
        finally:
            for it in writers:
                it.close()

    async with await asyncio.start_server(relay, sock=listener) as server:
        await server.serve_forever()


def main(listen_in: str, host: str, port: str, connect_in: str, *target: str) -> None:
    with Path(listen_in).open() as listen_namespace, Path(connect_in).open() as connect_namespace:
        enter_namespace(listen_namespace.fileno())
        listener = socket.create_server((host, int(port)))
        enter_namespace(connect_namespace.fileno())
    print(listener.getsockname()[1], flush=True)
    asyncio.run(serve(listener, target[0], int(target[1])))


if __name__ == "__main__":
    main(*sys.argv[1:])
