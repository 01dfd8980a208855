"""What a send over HTTP costs: processor time of our transport and of a bare aiohttp loop, in alternation.

`python -m benchmarks.sends [SENDS] [ROUNDS]` - 64 at a time to nginx, all in one process; prints µs per send.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median

import aiohttp
import uvloop

from benchmarks.limits import CONNECTIONS
from benchmarks.payload import BODY
from endpoints.egress import Egress, parse_zones
from endpoints.transports.base import Address, Outgoing
from endpoints.transports.http import HttpTransport
from tests.servers.nginx import Nginx

MESSAGE = Outgoing(
    delivery_id="0193d0a4-7d1e-7c11-9d3e-0a1b2c3d4e5f",
    attempt=1,
    message_id="0193d0a4-7d1e-7c11-9d3e-0a1b2c3d4e5e",
    source_system="shop",
    target_system="erp",
    message_type="event",
    priority="normal",
    timestamp="2026-01-02T03:04:05Z",
    content_type="application/json",
    payload=BODY,
    event_type="order.created",
)


async def cost_us(send: Callable[[], Awaitable[object]], sends: int) -> float:
    """Return the processor time of one send, in microseconds."""
    left = iter(range(sends))

    async def work() -> None:
        for _ in left:
            await send()

    started = time.process_time()
    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
    return (time.process_time() - started) / sends * 1e6


async def measure(nginx: Nginx, sends: int, rounds: int) -> None:
    """Measure both in turn, so that whatever else the machine does hits both."""
    address = Address("1", "erp", "main", "http", "127.0.0.1", nginx.port, "/", max_in_flight=CONNECTIONS)
    transport = HttpTransport(address, Egress(parse_zones(["127.0.0.0/8"])))
    await transport.open()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as session:

        async def bare() -> None:
            async with session.post(nginx.url, data=BODY, headers={"Content-Type": "application/json"}) as answer:
                await answer.read()

        costs = [
            (await cost_us(bare, sends), await cost_us(lambda: transport.send(MESSAGE), sends)) for _ in range(rounds)
        ]
    await transport.aclose()
    for name, each in zip(("bare aiohttp", "transport"), zip(*costs, strict=True), strict=True):
        print(f"{name}: {median(each):.1f} µs, least {min(each):.1f} µs")
    print(f"ratio: {median(ours / theirs for theirs, ours in costs):.2f}")


if __name__ == "__main__":
    sends, rounds = (int(text) for text in (*sys.argv[1:3], *("5000", "5")[len(sys.argv[1:3]) :]))
    with tempfile.TemporaryDirectory() as directory, Nginx(Path(directory) / "nginx", log=False) as nginx:
        uvloop.run(measure(nginx, sends, rounds))
