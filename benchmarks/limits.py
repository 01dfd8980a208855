"""The limits: the least code that does the same thing, run by the same servers on the same machine.

`python -m benchmarks.limits client URL N` - a bare aiohttp client loop, 64 at a time (limit of deliver).
`python -m benchmarks.limits server PORT DATABASE_URL` - a bare ASGI callable with group commit (limit of accept).
"""

import asyncio
import queue
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import orjson
import psycopg
import uvicorn
import uvloop

from benchmarks.payload import BODY

CONNECTIONS = 64


async def client(url: str, requests: int) -> dict[str, float]:
    """Post `requests` bodies and return the rate."""
    left = iter(range(requests))
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as session:

        async def work() -> None:
            for _ in left:
                async with session.post(url, data=BODY, headers=headers) as answer:
                    await answer.read()

        started = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
    return {"per_second": round(requests / (time.perf_counter() - started), 1)}


class Commits(threading.Thread):
    """Inserts what is queued, all at once, and tells the loop."""

    def __init__(self, insert: Callable[[list[bytes]], None]) -> None:
        super().__init__(daemon=True)
        self.queue: queue.SimpleQueue[tuple[bytes, asyncio.Future[None]]] = queue.SimpleQueue()
        self._insert = insert

    def run(self) -> None:
        while True:
            batch = [self.queue.get()]
            while len(batch) < 1000:
                try:
                    batch.append(self.queue.get_nowait())
                except queue.Empty:
                    break
            self._insert([body for body, _ in batch])
            batch[0][1].get_loop().call_soon_threadsafe(self._tell, [future for _, future in batch])

    def _tell(self, futures: list["asyncio.Future[None]"]) -> None:
        for future in futures:
            future.set_result(None)


def inserter(database_url: str) -> Callable[[list[bytes]], None]:
    """Return a function that stores bodies durably in a table of their own."""
    if database_url.startswith("sqlite"):
        lite = sqlite3.connect(database_url.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False)
        lite.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
            "CREATE TABLE IF NOT EXISTS bare (id INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB);"
        )

        def insert_lite(bodies: list[bytes]) -> None:
            lite.execute("BEGIN IMMEDIATE")
            lite.executemany("INSERT INTO bare (body) VALUES (?)", [(body,) for body in bodies])
            lite.execute("COMMIT")

        return insert_lite
    server = psycopg.connect(database_url, prepare_threshold=1)
    server.execute("CREATE TABLE IF NOT EXISTS bare (id bigserial PRIMARY KEY, body bytea)")
    server.commit()

    def insert(bodies: list[bytes]) -> None:
        server.execute("INSERT INTO bare (body) SELECT * FROM unnest(%s::bytea[])", [bodies])
        server.commit()

    return insert


class Bare:
    """The bare ASGI callable: read the body, queue it, answer when it is durable."""

    def __init__(self, commits: Commits) -> None:
        self._commits = commits

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        body = b""
        more = True
        while more:
            event = await receive()
            body += event.get("body", b"")
            more = event.get("more_body", False)
        future = asyncio.get_running_loop().create_future()
        self._commits.queue.put((body, future))
        await future
        answer = b'{"status":"accepted"}'
        await send(
            {
                "type": "http.response.start",
                "status": 202,
                "headers": [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))],
            }
        )
        await send({"type": "http.response.body", "body": answer})


def server(port: int, database_url: str) -> None:
    commits = Commits(inserter(database_url))
    commits.start()
    uvicorn.run(
        Bare(commits), host="127.0.0.1", port=port, http="httptools", loop="uvloop", lifespan="off", log_level="error"
    )


if __name__ == "__main__":
    kind, first, second = sys.argv[1:4]
    if kind == "client":
        print(orjson.dumps(uvloop.run(client(first, int(second)))).decode())
    else:
        server(int(first), second)
