"""What a team writes by default: Celery on Redis, one task a message, `requests`, one row updated (two processes).

`python -m benchmarks.celery_task RECEIVER_URL DATABASE_URL MESSAGES` prints {"per_second": x}. Redis is started for it.
As a module of the worker it holds the task: `celery -A benchmarks.celery_task worker`.
"""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import psycopg
import redis
import requests
from celery import Celery

from benchmarks.payload import BODY
from tests.stack import free_port, wait_for

PROCESSES = 2
CREATE = "CREATE TABLE celery_rows (id integer PRIMARY KEY, state text, finished double precision)"
WORKER = f"celery -A benchmarks.celery_task worker --concurrency {PROCESSES} --loglevel ERROR --without-gossip".split()
UPDATE = "UPDATE celery_rows SET state = 'delivered', finished = {mark} WHERE id = {mark}"

app = Celery("benchmark", broker=os.environ.get("BENCH_REDIS_URL"))
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True, worker_hijack_root_logger=False)


@cache
def session() -> requests.Session:
    return requests.Session()


@cache
def database(url: str) -> tuple[Any, str]:
    """Return a connection that commits each statement, and how it marks parameters."""
    if url.startswith("sqlite"):
        lite = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=20, isolation_level=None)
        lite.execute("PRAGMA journal_mode=WAL")
        return lite, "?"
    return psycopg.connect(url, autocommit=True), "%s"


@app.task(name="benchmarks.celery_task.deliver")
def deliver(number: int, receiver: str, database_url: str) -> None:
    """Send one message and say so in its row."""
    session().post(receiver, data=BODY, headers={"Content-Type": "application/json"}, timeout=15).raise_for_status()
    connection, mark = database(database_url)
    connection.execute(UPDATE.format(mark=mark), (time.time(), number))


@contextmanager
def redis_server() -> Iterator[str]:
    """Run a Redis of our own, without files, and yield its URL."""
    port, folder = free_port(), tempfile.mkdtemp(prefix="bench-redis-")
    server = subprocess.Popen(
        ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder],
        stdout=subprocess.DEVNULL,
    )
    client = redis.Redis(port=port)
    try:
        wait_for(lambda: _answers(client), 10, "redis")
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        client.close()
        server.terminate()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def measure(receiver: str, database_url: str, messages: int) -> float:
    """Return the tasks done a second between the first and the last row that was updated."""
    connection, mark = database(database_url)
    connection.execute("DROP TABLE IF EXISTS celery_rows")
    connection.execute(CREATE)
    insert = f"INSERT INTO celery_rows (id, state) VALUES ({mark}, 'pending')"
    connection.cursor().executemany(insert, [(number,) for number in range(messages)])
    with redis_server() as url:
        app.conf.broker_url = url
        for number in range(messages):
            deliver.delay(number, receiver, database_url)
        worker = subprocess.Popen(
            [sys.executable, "-m", *WORKER],
            env={**os.environ, "BENCH_REDIS_URL": url},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=Path(__file__).resolve().parent.parent,
        )
        try:
            done = "SELECT count(finished), min(finished), max(finished) FROM celery_rows"
            wait_for(lambda: connection.execute(done).fetchone()[0] == messages, 300, "all tasks done")
            _, first, last = connection.execute(done).fetchone()
        finally:
            worker.terminate()
            worker.wait()
    connection.execute("DROP TABLE celery_rows")
    return float(messages / (last - first))


if __name__ == "__main__":
    rate = measure(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    print(orjson.dumps({"per_second": round(rate, 1)}).decode())
