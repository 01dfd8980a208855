"""A load generator that costs less than what it measures: fixed request bytes, answers only counted.

Run as a process of its own: `python -m benchmarks.load HOST PORT REQUEST_FILE --requests N --connections C [--rate R]`.
Prints JSON: {"requests", "seconds", "per_second", "errors", "p50_ms", "p99_ms"}.
"""

import argparse
import asyncio
import time
from collections import deque
from pathlib import Path
from typing import Any

import orjson
import uvloop


class Connection(asyncio.Protocol):
    """Sends the next request when the answer to the last one is complete."""

    def __init__(self, request: bytes, load: "Load") -> None:
        self._request, self._load = request, load
        self._buffer = b""
        self._sent_at = 0.0
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def send(self) -> None:
        self._sent_at = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = self._buffer[:head_end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._buffer) < head_end + 4 + length:
            return
        is_good = head[9:10] == b"2"
        self._buffer = b""
        self._load.answered(self, time.perf_counter() - self._sent_at, is_good)

    def close(self) -> None:
        self._transport.close()


class Load:
    """As fast as the answers come on every connection, or paced to a rate."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._request = Path(options.request).read_bytes()
        self._left = options.requests
        self._latencies: list[float] = []
        self._errors = 0
        self._free: deque[Connection] = deque()
        self._done = asyncio.Event()

    async def run(self) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        connections = []
        for _ in range(self._options.connections):
            _, protocol = await loop.create_connection(
                lambda: Connection(self._request, self), self._options.host, self._options.port
            )
            connections.append(protocol)
        started = time.perf_counter()
        if self._options.rate:
            await self._pace(connections, started)
        else:
            for connection in connections:
                self._next(connection)
        await self._done.wait()
        seconds = time.perf_counter() - started
        for connection in connections:
            connection.close()
        return self._result(seconds)

    async def _pace(self, connections: list[Connection], started: float) -> None:
        """Send at the rate, each on a free connection; a late one is sent at once."""
        self._free = deque(connections)
        for number in range(self._options.requests):
            wait = started + number / self._options.rate - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            while not self._free:  # noqa: ASYNC110  (cheaper than an event that is set with every answer)
                await asyncio.sleep(0.0005)
            self._left -= 1
            self._free.popleft().send()  # the one longest free, or a server closes what idles

    def _next(self, connection: Connection) -> None:
        if self._left > 0:
            self._left -= 1
            connection.send()

    def answered(self, connection: Connection, latency_s: float, is_good: bool) -> None:
        self._latencies.append(latency_s)
        self._errors += not is_good
        if len(self._latencies) == self._options.requests:
            self._done.set()
        elif self._options.rate:
            self._free.append(connection)
        else:
            self._next(connection)

    def _result(self, seconds: float) -> dict[str, Any]:
        ordered = sorted(self._latencies)
        return {
            "requests": len(ordered),
            "seconds": round(seconds, 3),
            "per_second": round(len(ordered) / seconds, 1),
            "errors": self._errors,
            "p50_ms": round(ordered[len(ordered) // 2] * 1000, 2),
            "p99_ms": round(ordered[int(len(ordered) * 0.99)] * 1000, 2),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("request", help="a file with the bytes of one whole HTTP request")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rate", type=float, default=0.0, help="per second; 0: as fast as it goes")
    print(orjson.dumps(uvloop.run(Load(parser.parse_args()).run())).decode())


if __name__ == "__main__":
    main()
