"""Accept over WebSocket: ours beside a bare Channels consumer with group commit, in one run.

`python -m benchmarks.sockets [--database sqlite|postgresql] [--messages 20000] [--repeat 3]` prints every figure.
`python -m benchmarks.sockets bare PORT DATABASE_URL` is the limit: a consumer that queues, and acks when durable.
"""

import argparse
import asyncio
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import uvloop

from benchmarks.payload import BODY
from tests.servers.ports import free_port
from tests.stack import Databases, Stack, postgres_server, wait_for

MANY = 30
IN_FLIGHT = 300  # over all connections
RATE = 1000
FLOOR_ONE, FLOOR_EACH = 500, 200
MESSAGE = orjson.dumps(
    {"type": "send", "ref": "r", "message": {"target_system": "target", "payload": orjson.Fragment(BODY)}}
)


def masked(text: bytes) -> bytes:
    """Return a client's text frame; a mask of zeros leaves the text as it is."""
    return b"\x81\xfe" + len(text).to_bytes(2) + bytes(4) + text


class Line(asyncio.Protocol):
    """One connection: keeps so many messages in flight, or sends when it is told to; counts acks, in order."""

    def __init__(self, head: bytes, load: "Load", window: int) -> None:
        self._head, self._load, self._window = head, load, window
        self._frame, self._buffer, self._is_open = masked(MESSAGE), b"", False
        self._sent: deque[float] = deque()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(self._head)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._is_open:
            head, found, self._buffer = self._buffer.partition(b"\r\n\r\n")
            if not found:
                self._buffer = head
                return
            assert b" 101 " in head, head
            self._is_open = True
            self._load.opened(self)
        at, acks = 0, 0
        while len(self._buffer) - at >= 2:
            size, start = self._buffer[at + 1], at + 2
            if size == 126:
                size, start = int.from_bytes(self._buffer[start : start + 2]), start + 2
            if len(self._buffer) < start + size:
                break
            text = self._buffer[start : start + size]
            opcode = self._buffer[at] & 15
            at = start + size
            if opcode == 9:
                self._transport.write(b"\x8a" + bytes([128 | size]) + bytes(4) + text)
            elif text.startswith(b'{"type":"ack"'):
                acks += 1
            elif opcode != 1 or not text.startswith(b'{"type":"ready"'):
                raise AssertionError(text)
        self._buffer = self._buffer[at:]
        now = time.perf_counter()
        for _ in range(acks):
            self._load.answered(now - self._sent.popleft())
        if acks and self._window:
            self.send(acks)

    def begin(self) -> None:
        if self._window:
            self.send(self._window)

    def send(self, count: int) -> None:
        count = self._load.take(count)
        if count:
            self._sent.extend([time.perf_counter()] * count)
            self._transport.write(self._frame * count)

    def close(self) -> None:
        self._transport.close()


class Load:
    """So many messages over so many connections: as fast as they are acknowledged, or at a steady rate."""

    def __init__(self, messages: int) -> None:
        self._left = self._unanswered = messages
        self._took: list[float] = []
        self._lines: list[Line] = []
        self._opened, self._done = asyncio.Event(), asyncio.Event()
        self._connections = 0

    def opened(self, line: Line) -> None:
        self._lines.append(line)
        if len(self._lines) == self._connections:
            self._opened.set()

    def take(self, count: int) -> int:
        count = min(count, self._left)
        self._left -= count
        return count

    def answered(self, took_s: float) -> None:
        self._took.append(took_s)
        self._unanswered -= 1
        if not self._unanswered:
            self._done.set()

    async def run(self, port: int, path: str, key: str, connections: int, rate: int) -> dict[str, float]:
        head = (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            f"Authorization: Bearer {key}\r\n\r\n"
        ).encode()
        self._connections, window = connections, 0 if rate else IN_FLIGHT // connections
        loop = asyncio.get_running_loop()
        for _ in range(connections):
            await loop.create_connection(lambda: Line(head, self, window), "127.0.0.1", port)
        await asyncio.wait_for(self._opened.wait(), 30)
        started = time.perf_counter()
        for line in self._lines:
            line.begin()
        if rate:
            await self._pace(rate, started)
        await asyncio.wait_for(self._done.wait(), 300)
        seconds = time.perf_counter() - started
        for line in self._lines:
            line.close()
        took = sorted(self._took)
        return {
            "per_second": len(took) / seconds,
            "p50_ms": took[len(took) // 2] * 1000,
            "p99_ms": took[int(len(took) * 0.99)] * 1000,
        }

    async def _pace(self, rate: int, started: float) -> None:
        lines, sent = itertools.cycle(self._lines), 0
        while self._left:
            due = int((time.perf_counter() - started) * rate)
            while sent < due and self._left:
                next(lines).send(1)
                sent += 1
            await asyncio.sleep(0.001)


def bare(port: int, database_url: str) -> None:
    """Serve the least consumer that does the same: it queues what comes, and acks when it is durable."""
    import django
    import uvicorn

    django.setup()
    from channels.generic.websocket import AsyncWebsocketConsumer
    from channels.routing import URLRouter
    from django.urls import path

    from benchmarks.limits import Commits, inserter

    commits = Commits(inserter(database_url))
    commits.start()

    class Consumer(AsyncWebsocketConsumer):  # type: ignore[misc]
        async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            frame = orjson.loads(text_data or "")
            future = asyncio.get_running_loop().create_future()
            future.add_done_callback(lambda _: tasks.add(asyncio.create_task(self._ack(frame["ref"]))))
            commits.queue.put((orjson.dumps(frame["message"]), future))

        async def _ack(self, ref: str) -> None:
            await self.send(text_data=orjson.dumps({"type": "ack", "ref": ref}).decode())
            tasks.discard(asyncio.current_task())

    tasks: set[Any] = set()
    application = URLRouter([path("bare/", Consumer.as_asgi())])
    uvicorn.run(
        application,
        host="127.0.0.1",
        port=port,
        ws="websockets-sansio",
        loop="uvloop",
        lifespan="off",
        log_level="error",
    )


@contextmanager
def bare_server(database_url: str) -> Iterator[int]:
    port = free_port()
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "controlplane.settings"}
    command = [sys.executable, "-m", "benchmarks.sockets", "bare", str(port), database_url]
    with subprocess.Popen(command, env=environment) as process:
        try:
            wait_for(lambda: listens(port), 30, "the bare consumer")
            yield port
        finally:
            process.terminate()


def listens(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def load(port: int, path: str, key: str, messages: int, connections: int, rate: int = 0) -> dict[str, float]:
    """Measure in a process of its own: it must not share our interpreter."""
    words = map(str, (port, path, key, messages, connections, rate))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.sockets", "load", *words], stdout=subprocess.PIPE, check=True, timeout=600
    )
    return dict(orjson.loads(done.stdout))


def measure(stack: Stack, bare_url: str, messages: int, repeat: int) -> dict[str, float]:
    """Return the medians: rates of both with one client and with 30, ours beside theirs, and latencies at a rate."""
    key = stack.key("operator", system="source")
    runs: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        runs.setdefault(name, []).append(value)

    with bare_server(bare_url) as bare_port:
        for _, clients in itertools.product(range(repeat), (1, MANY)):
            ours = load(stack.port, "/ws/v1/gateway/", key, messages, clients)
            theirs = load(bare_port, "/bare/", "", messages, clients)
            note(f"{clients} clients: per second", ours["per_second"])
            note(f"{clients} clients: bare consumer", theirs["per_second"])
            note(f"{clients} clients: ratio", ours["per_second"] / theirs["per_second"])
            note(f"{clients} clients: p99 ms, as fast as can be", ours["p99_ms"])
            paced = load(stack.port, "/ws/v1/gateway/", key, RATE * 5, clients, RATE)
            note(f"{clients} clients: p50 ms at {RATE}/s", paced["p50_ms"])
            note(f"{clients} clients: p99 ms at {RATE}/s", paced["p99_ms"])
    return {name: round(statistics.median(values), 2) for name, values in runs.items()}


def main() -> int:
    kinds = {"bare": lambda words: bare(int(words[0]), words[1]), "load": print_load}
    if len(sys.argv) > 1 and sys.argv[1] in kinds:
        kinds[sys.argv[1]](sys.argv[2:])
        return 0
    parser = argparse.ArgumentParser(prog="benchmarks.sockets", description=__doc__)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], action="append")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--messages", type=int, default=20_000)
    options = parser.parse_args()
    servers, is_met = {"sqlite": None, "postgresql": postgres_server()}, True
    for database in options.database or servers:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            databases = Databases(Path(folder), servers[database])
            with databases.fresh() as url:
                stack = Stack(Path(folder) / "var", url)
                try:
                    stack.start("web")
                    for slug in ("source", "target"):
                        stack.register(slug)
                    door = {"system": "target", "protocol": "gateway"}
                    assert stack.api("POST", "endpoints/", json=door).status_code == 201
                    found = measure(
                        stack, databases.url("bare") if database == "sqlite" else url, options.messages, options.repeat
                    )
                finally:
                    stack.close()
            databases.close()
        print(database, orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
        is_met &= judged(found)
    return 0 if is_met else 1


def judged(found: dict[str, float]) -> bool:
    """Say whether the promises hold."""
    one, many = f"p50 ms at {RATE}/s", f"p99 ms at {RATE}/s"
    return (
        all(found[f"{clients} clients: ratio"] >= 0.6 for clients in (1, MANY))
        and all(found[f"{clients} clients: {many}"] <= 50 for clients in (1, MANY))
        and found[f"{MANY} clients: {one}"] < 2 * found[f"1 clients: {one}"]
        and found["1 clients: per second"] >= FLOOR_ONE
        and found[f"{MANY} clients: per second"] >= FLOOR_EACH * MANY
    )


def print_load(words: list[str]) -> None:
    port, path, key, messages, connections, rate = words
    found = uvloop.run(Load(int(messages)).run(int(port), path, key, int(connections), int(rate)))
    print(orjson.dumps(found).decode())


if __name__ == "__main__":
    sys.exit(main())
