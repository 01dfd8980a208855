"""WebSocket: a receiver that acks each frame, and the least code that sends to it with the `websockets` library.

`python -m benchmarks.ws server PORT` - acks every message.
`python -m benchmarks.ws client URL N` - a bare client loop, 64 connections, each sends and awaits the ack; prints
{"per_second": x}.
"""

import asyncio
import sys
import time

import orjson
import uvloop
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from benchmarks.limits import CONNECTIONS
from benchmarks.payload import BODY

ACK = '{"type":"ack"}'
CONFIG = {"reply": "ack"}


async def client(url: str, messages: int) -> dict[str, float]:
    """Send `messages` bodies, each acked, and return the rate."""
    left = iter(range(messages))
    connections = [await connect(url, compression=None) for _ in range(CONNECTIONS)]

    async def work(number: int) -> None:
        connection = connections[number]
        for _ in left:
            await connection.send(BODY, text=True)
            await connection.recv()

    started = time.perf_counter()
    await asyncio.gather(*map(work, range(CONNECTIONS)))
    took_s = time.perf_counter() - started
    await asyncio.gather(*(connection.close() for connection in connections))
    return {"per_second": round(messages / took_s, 1)}


async def server(port: int) -> None:
    """Ack every message until killed."""

    async def ack(connection: ServerConnection) -> None:
        async for _ in connection:
            await connection.send(ACK)

    async with serve(ack, "127.0.0.1", port, compression=None):
        await asyncio.Event().wait()


if __name__ == "__main__":
    kind, first, *rest = sys.argv[1:]
    if kind == "client":
        print(orjson.dumps(uvloop.run(client(first, int(rest[0])))).decode())
    else:
        uvloop.run(server(int(first)))
