"""How fast listeners take messages, beside the least code that stores what comes over the same socket.

`python -m benchmarks.listeners [sqlite|postgresql] [MESSAGES] [REPEAT]` - prints JSON: rates of ours and of the bare
server, for tcp and udp, in turn on the same machine; `tcp_owed`: with a delivery to make of each. Lines are pipelined
over 4 connections; of datagrams 200 are on their way, each acknowledged; what gets no answer is counted as dropped.
`python -m benchmarks.listeners bare tcp|udp PORT DATABASE_URL` - the bare server.
"""

import asyncio
import hashlib
import hmac
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import uvloop

from benchmarks.limits import Commits, inserter
from benchmarks.payload import BODY, ENVELOPE
from endpoints.ids import new_name
from tests.stack import Databases, Stack, free_port, postgres_server, wait_for

# One row each on both sides: nothing is owed to anybody. With a delivery beside it a message costs about twice as much.
MESSAGE = orjson.dumps({"source_system": "source", "event_type": "order.created", "payload": orjson.Fragment(BODY)})
CONNECTIONS = 4
IN_FLIGHT = 200
SILENT_S = 2.0


def ack(body: bytes) -> bytes:
    """Return the answer to a message: it must be read to be named."""
    name = orjson.loads(body).get("message_id") or new_name()
    return orjson.dumps({"type": "ack", "message_id": name}) + b"\n"


class BareLines(asyncio.Protocol):
    """Reads lines, queues them, answers each once it is durable."""

    def __init__(self, commits: Commits) -> None:
        self._commits, self._rest = commits, b""
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        loop = asyncio.get_running_loop()
        for line in lines:
            future = loop.create_future()
            answer = ack(line)
            future.add_done_callback(lambda _, answer=answer: self._transport.write(answer))
            self._commits.queue.put((line, future))


class BareDatagrams(asyncio.DatagramProtocol):
    """Queues datagrams, answers each once it is durable."""

    def __init__(self, commits: Commits) -> None:
        self._commits = commits
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        future = asyncio.get_running_loop().create_future()
        answer = ack(data)
        future.add_done_callback(lambda _: self._transport.sendto(answer, addr))
        self._commits.queue.put((data, future))


async def bare(kind: str, port: int, database_url: str) -> None:
    commits = Commits(inserter(database_url))
    commits.start()
    loop = asyncio.get_running_loop()
    if kind == "tcp":
        await loop.create_server(lambda: BareLines(commits), "127.0.0.1", port)
    else:
        await loop.create_datagram_endpoint(lambda: BareDatagrams(commits), local_addr=("127.0.0.1", port))
    print("listening", flush=True)
    await asyncio.Event().wait()


class Lines(asyncio.Protocol):
    """Sends everything at once, and counts the lines that come back."""

    def __init__(self, data: bytes, answers: int, done: "asyncio.Future[None]") -> None:
        self._data, self._left, self._done = data, answers, done

    def connection_made(self, transport: Any) -> None:
        transport.write(self._data)

    def data_received(self, data: bytes) -> None:
        self._left -= data.count(b"\n")
        if self._left <= 0 and not self._done.done():
            self._done.set_result(None)


async def tcp_rate(port: int, messages: int, token: str = "", message: bytes = MESSAGE) -> float:
    """Return how many lines a second are acknowledged."""
    loop = asyncio.get_running_loop()
    each = messages // CONNECTIONS
    first = orjson.dumps({"type": "auth", "token": token}) + b"\n" if token else b""
    data, answers = first + (message + b"\n") * each, each + bool(token)
    done = [loop.create_future() for _ in range(CONNECTIONS)]
    started = time.perf_counter()
    for future in done:
        await loop.create_connection(lambda future=future: Lines(data, answers, future), "127.0.0.1", port)
    await asyncio.gather(*done)
    return each * CONNECTIONS / (time.perf_counter() - started)


def signed(key: dict[str, str], count: int) -> list[bytes]:
    """Return datagrams with an id each."""
    found, message = [], orjson.loads(MESSAGE)
    run = time.time_ns()
    for number in range(count):
        body = orjson.dumps({**message, "message_id": f"u-{run}-{number}"}).decode()
        stamp = int(time.time())
        mac = hmac.new(key["secret"].encode(), f"{stamp}.n.{body}".encode(), hashlib.sha256).hexdigest()
        outer = {"v": 1, "key": key["id"], "ts": stamp, "nonce": "n", "mac": mac, "body": body, "ack": True}
        found.append(orjson.dumps(outer))
    return found


def udp_rate(port: int, datagrams: list[bytes]) -> tuple[float, int]:
    """Return how many datagrams a second are acknowledged, and how many never were."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", port))
        client.settimeout(SILENT_S)
        started, answered, dropped = time.perf_counter(), 0, 0
        for sent, data in enumerate(datagrams, start=1):
            client.send(data)
            if sent - answered - dropped >= IN_FLIGHT:
                try:
                    client.recv(65536)
                    answered += 1
                except TimeoutError:
                    dropped = sent - answered
        try:
            while answered + dropped < len(datagrams):
                client.recv(65536)
                answered += 1
        except TimeoutError:
            dropped = len(datagrams) - answered
        return answered / (time.perf_counter() - started - (SILENT_S if dropped else 0)), dropped


@contextmanager
def bare_server(kind: str, database_url: str) -> Iterator[int]:
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.listeners", "bare", kind, str(port), database_url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()  # it listens
        yield port
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def measure(stack: Stack, bare_url: str, messages: int, repeat: int) -> dict[str, Any]:
    """Return the medians of ours and of the bare servers', which take turns. Needs `source`, `target` and web."""
    token = stack.key()
    made = stack.command("create_signing_key", "source", "--json")
    key = orjson.loads(made.stdout)
    tcp, udp = free_port(), free_port()
    stack.start("listen_tcp", "--port", str(tcp))
    stack.start("listen_udp", "--port", str(udp))
    wait_for(lambda: "Listening" in stack.log("listen_tcp") and "Listening" in stack.log("listen_udp"), 90, "listeners")
    found: dict[str, list[float]] = {
        "tcp": [],
        "bare_tcp": [],
        "tcp_owed": [],
        "udp": [],
        "bare_udp": [],
        "dropped": [],
    }
    uvloop.run(tcp_rate(tcp, 1000, token))
    for _ in range(repeat):
        found["tcp"].append(uvloop.run(tcp_rate(tcp, messages, token)))
        found["tcp_owed"].append(uvloop.run(tcp_rate(tcp, messages, token, ENVELOPE)))
        with bare_server("tcp", bare_url) as port:
            found["bare_tcp"].append(uvloop.run(tcp_rate(port, messages)))
        datagrams = signed(key, messages // 2)
        rate, dropped = udp_rate(udp, datagrams)
        found["udp"].append(rate)
        found["dropped"].append(dropped)
        with bare_server("udp", bare_url) as port:
            found["bare_udp"].append(udp_rate(port, datagrams)[0])
    stack.terminate("listen_tcp")
    stack.terminate("listen_udp")
    return {name: round(statistics.median(values), 1) for name, values in found.items()}


def main(database: str = "sqlite", messages: str = "20000", repeat: str = "3") -> None:
    root = Path(tempfile.mkdtemp(prefix="bench-"))
    databases = Databases(root, postgres_server() if database == "postgresql" else None)
    with databases.fresh() as url:
        stack = Stack(root / "var", url)
        try:
            stack.start("web")
            stack.register("source")
            stack.register("target", "http://127.0.0.1:9/in")
            bare_url = url if database == "postgresql" else databases.url("bare")
            figures = measure(stack, bare_url, int(messages), int(repeat))
        finally:
            stack.close()
    databases.close()
    print(orjson.dumps(figures).decode())


if __name__ == "__main__":
    if sys.argv[1:2] == ["bare"]:
        uvloop.run(bare(sys.argv[2], int(sys.argv[3]), sys.argv[4]))
    else:
        main(*sys.argv[1:4])
