"""Delivery over TCP: lines, each acknowledged, beside a bare asyncio client loop to the same server.

`python -m benchmarks.streams server PORT` - takes lines and acknowledges each.
`python -m benchmarks.streams client PORT N` - a bare client loop over asyncio's streams, 64 at a time (the limit).
`python -m benchmarks.streams sends PORT N` - our transport without the engine, as many at a time.
"""

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any

import orjson
import uvloop

from benchmarks.payload import BODY
from tests.stack import Stack

CONNECTIONS = 64
ACK = b'{"type":"ack"}\n'


class Lines(asyncio.Protocol):
    """Acknowledges each line."""

    def __init__(self) -> None:
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._transport.write(ACK * len(lines))  # type: ignore[attr-defined]


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Lines, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


async def client(port: int, messages: int) -> dict[str, float]:
    """Send so many lines and return the rate."""
    left = iter(range(messages))

    async def work() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in left:
            writer.write(BODY + b"\n")
            await writer.drain()
            await reader.readline()
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
    return {"per_second": round(messages / (time.perf_counter() - started), 1)}


async def sends(port: int, messages: int) -> dict[str, float]:
    """Send so many through our transport and return the rate."""
    from benchmarks.sends import MESSAGE
    from endpoints.egress import Egress, parse_zones
    from endpoints.transports.base import Address
    from endpoints.transports.tcp import TcpTransport

    fields = {"config": {"reply": "ack"}, "max_in_flight": CONNECTIONS}
    address = Address("1", "erp", "main", "tcp", "127.0.0.1", port, **fields)
    transport = TcpTransport(address, Egress(parse_zones(["127.0.0.0/8"])))
    await transport.open()
    left = iter(range(messages))

    async def work() -> None:
        for _ in left:
            await transport.send(MESSAGE)

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
    took_s = time.perf_counter() - started
    await transport.aclose()
    return {"per_second": round(messages / took_s, 1)}


class Streams:
    """Drains a full queue over TCP; `rate_of_draining` is how fast the newest deliveries ended."""

    def __init__(self, stack: Stack, port: int, messages: int, rate_of_draining: Callable[[], float]) -> None:
        self._stack, self._port, self._messages, self._rate = stack, port, messages, rate_of_draining
        stack.register(
            "wire", f"tcp://127.0.0.1:{port}", max_in_flight=CONNECTIONS, config={"framing": "line", "reply": "ack"}
        )

    def measure(self, limit: Callable[[], float]) -> tuple[float, float]:
        """Return (our rate with a full queue, the limit's)."""
        if "deliver" in self._stack.processes:
            self._stack.terminate("deliver")
        message = {"source_system": "source", "target_system": "wire", "payload": orjson.Fragment(BODY)}
        lines = b"\n".join([orjson.dumps(message)] * self._messages)
        headers = {"Content-Type": "application/x-ndjson"}
        answer = self._stack.api("POST", "messages/", data=lines, headers=headers, timeout=120)
        assert answer.json()["accepted"] == self._messages, answer.text
        self._stack.start("deliver")
        return self._rate(), limit()


def main(kind: str, port: str, *count: str) -> Any:
    if kind == "server":
        return uvloop.run(serve(int(port)))
    return uvloop.run({"client": client, "sends": sends}[kind](int(port), int(count[0])))


if __name__ == "__main__":
    print(orjson.dumps(main(*sys.argv[1:])).decode())
