"""How fast event streams are: to one subscriber and to a hundred, beside a bare loop that sends the same frames.

`python -m benchmarks.events [sqlite|postgresql]` - a backlog read from the start, then the lag of what is
committed live at 200/s, from its sender's hand to the subscriber's.
"""

import asyncio
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import orjson
import requests
import uvloop
from websockets.asyncio.client import connect

from benchmarks.payload import BODY
from tests.stack import Databases, Stack, free_port, postgres_server, wait_for

BACKLOG = {1: 20_000, 100: 1_000}  # messages by subscribers
RATE, LIVE_S = 200, 10
EVENT = {
    "type": "event",
    "id": "s",
    "cursor": "AAAAAAAAAAEAAAAAAA",
    "message": {"envelope": "x" * 600, "payload": orjson.Fragment(BODY)},
}
STAMP = b'"correlation_id":"t'


async def read(url: str, key: str, count: int, after: str | None, started: asyncio.Event | None) -> list[float]:
    """Read `count` events and return how late each stamped one was, in milliseconds."""
    lags = []
    headers = {"Authorization": f"Bearer {key}"}
    async with connect(url, additional_headers=headers, compression=None, proxy=None, max_queue=None) as line:
        if started is not None:
            await line.recv()
            await line.send(orjson.dumps({"type": "subscribe", "id": "s", "after": after, "credit": 100_000}).decode())
            await line.recv()
            started.set()
        else:
            await line.send(str(count))
        for _ in range(count):
            frame = await line.recv(decode=False)
            at = bytes(frame).find(STAMP)
            if at >= 0:
                sent = float(frame[at + len(STAMP) : frame.index(b'"', at + len(STAMP))])
                lags.append(1000 * (time.time() - sent))
    return lags


async def subscribers(url: str, key: str, number: int, count: int, after: str | None, bare: str) -> dict[str, Any]:
    """Let so many read at once; return the seconds from the first event asked for to the last one read, and lags."""
    began = time.monotonic()
    ready = [None if bare else asyncio.Event() for _ in range(number)]
    tasks = [asyncio.create_task(read(url, key, count, after, started)) for started in ready]
    for started in ready:
        if started is not None:
            await started.wait()
    sys.stderr.write("ready\n")
    lags = sorted(lag for found in await asyncio.gather(*tasks) for lag in found)
    took_s = time.monotonic() - began
    quantiles = [lags[len(lags) * part // 100] for part in (50, 99)] if lags else []
    return {"per_second": number * count / took_s, "lag_ms": quantiles}


async def bare(scope: Any, receive: Any, send: Any) -> None:
    """Send as many events as the client says, and nothing else."""
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    for _ in range(int((await receive())["text"])):
        await send({"type": "websocket.send", "text": orjson.dumps(EVENT).decode()})
    await receive()


def ask(url: str, key: str, number: int, count: int, after: str | None, *, is_bare: bool = False) -> Any:
    """Start subscribers in a process of their own."""
    words = [url, key, str(number), str(count), orjson.dumps(after).decode(), "bare" if is_bare else ""]
    command = [sys.executable, "-m", "benchmarks.events", "read", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def answer_of(process: Any) -> dict[str, Any]:
    told, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors.decode()
    return dict(orjson.loads(told))


def fill(stack: Stack, count: int) -> None:
    line = orjson.dumps({"source_system": "source", "event_type": "order.paid", "payload": orjson.Fragment(BODY)})
    headers = {"Content-Type": "application/x-ndjson"}
    answer = stack.api("POST", "messages/", data=b"\n".join([line] * count), headers=headers, timeout=300)
    assert answer.json()["accepted"] == count, answer.text


def live(stack: Stack, number: int) -> list[float]:
    """Return p50 and p99 of the lag at `RATE`, in milliseconds."""
    url, key = stack.url.replace("http", "ws") + "/ws/v1/gateway/", stack.key("operator")
    reading = ask(url, key, number, RATE * LIVE_S, None)
    assert reading.stderr.readline() == b"ready\n"
    begun = time.monotonic()

    def send(first: int) -> None:
        with requests.Session() as session:
            session.headers["X-API-Key"] = stack.key()
            for turn in range(first, RATE * LIVE_S, 4):
                time.sleep(max(0.0, begun + turn / RATE - time.monotonic()))
                body = {"source_system": "source", "payload": {"n": turn}, "correlation_id": f"t{time.time()}"}
                session.post(f"{stack.url}/api/v1/messages/", json=body, timeout=30)

    threads = [threading.Thread(target=send, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return list(answer_of(reading)["lag_ms"])


def measure(stack: Stack, database: str) -> None:
    stack.start("web")
    stack.register("source")
    url, key = stack.url.replace("http", "ws") + "/ws/v1/gateway/", stack.key("operator")
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "benchmarks.events:bare", "--port", str(port), "--log-level", "error"]
    limit = subprocess.Popen([*command, "--ws", "websockets-sansio", "--loop", "uvloop"])
    try:
        wait_for(lambda: _listens(port), 20, "the bare server")
        for number, count in sorted(BACKLOG.items(), reverse=True):
            fill(stack, count)
            ours = answer_of(ask(url, key, number, count, "start"))["per_second"]
            theirs = answer_of(ask(f"ws://127.0.0.1:{port}/", key, number, count, None, is_bare=True))["per_second"]
            print(f"{database}: a backlog to {number}: {ours:,.0f} events/s, bare {theirs:,.0f}/s, {ours / theirs:.2f}")
        for number in BACKLOG:
            p50, p99 = live(stack, number)
            print(f"{database}: live to {number} at {RATE}/s: lag p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    finally:
        limit.terminate()
        limit.wait()


def _listens(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def main() -> None:
    if sys.argv[1:2] == ["read"]:
        url, key, number, count, after, is_bare = sys.argv[2:]
        found = uvloop.run(subscribers(url, key, int(number), int(count), orjson.loads(after), is_bare))
        print(orjson.dumps(found).decode())
        return
    database = sys.argv[1] if len(sys.argv) > 1 else "sqlite"
    with tempfile.TemporaryDirectory() as folder:
        databases = Databases(Path(folder), postgres_server() if database == "postgresql" else None)
        with databases.fresh() as url:
            stack = Stack(Path(folder) / "var", url)
            try:
                measure(stack, database)
            finally:
                stack.close()
        databases.close()


if __name__ == "__main__":
    main()
