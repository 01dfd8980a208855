"""Measure accept, deliver and latency on SQLite and PostgreSQL, each beside its limit, and keep the figures.

`python -m benchmarks [--database sqlite|postgresql] [--repeat 3] [--messages 10000]`. Every figure is the median of
the repeats; limit and product take turns, since these machines drift. Exit code 1 when a floor is missed.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from benchmarks.order import HOT, KEYS, Drain, Order
from benchmarks.payload import BODY, ENVELOPE, request
from benchmarks.processes import ENDPOINTS, Processes
from benchmarks.streams import Streams
from benchmarks.ws import CONFIG as WS_CONFIG
from tests.servers.nginx import Nginx
from tests.stack import Databases, Stack, free_port, postgres_server, wait_for

RESULTS = Path(__file__).parent / "results"
CONNECTIONS, CROWD = 32, 128
IN_FLIGHT = 64
RATE = 1000
MANY = 1_000_000


@dataclass(frozen=True)
class Figure:
    """One measured number beside its limit; `floor` must be reached by the ratio, `most` not passed by it."""

    name: str
    database: str
    value: float
    unit: str
    limit: float | None = None
    floor: float | None = None
    most: float | None = None
    ceiling: float | None = None

    @property
    def ratio(self) -> float | None:
        return self.value / self.limit if self.limit else None

    @property
    def is_met(self) -> bool:
        if self.ceiling is not None:
            return self.value <= self.ceiling
        if self.most is not None:
            return (self.ratio or 0.0) <= self.most
        return self.floor is None or (self.ratio or 0.0) >= self.floor


def run(*args: str, timeout: float = 600, env: dict[str, str] | None = None) -> dict[str, Any]:
    """Run a module of this package and return the JSON it prints; what it says on its way to a failure is shown."""
    command = [sys.executable, "-m", *args]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=timeout, check=True, env=env)
    return dict(orjson.loads(done.stdout))


def median(pairs: list[tuple[float, float]], which: int) -> float:
    return round(statistics.median(pair[which] for pair in pairs), 2)


class Bench:
    """One database's measurements in a folder of their own."""

    def __init__(
        self, root: Path, database: str, database_url: str, url_of: Callable[[str], str], messages: int
    ) -> None:
        self._root, self._database, self._messages = root, database, messages
        self._url_of = url_of
        self._stack = Stack(root / "var", database_url, CONTROLPLANE_LEASE_S="30")
        self._request = root / "request"

    def measure(self, repeat: int) -> list[Figure]:
        with Nginx(self._root / "nginx", log=False) as receiver:
            try:
                self._prepare(receiver.url)
                accept = [self._accept() for _ in range(repeat)]
                crowd = [self._accept(CROWD) for _ in range(repeat)]
                self._stack.start("deliver")
                self._warm_up()
                latency = [self._latency() for _ in range(repeat)]
                deliver = [self._deliver(receiver.url) for _ in range(repeat)]
                streams = self._streams(repeat)
                order = self._order(receiver.url, repeat)
                processes = self._processes(repeat)
                sockets = self._web_sockets(repeat)
            finally:
                self._stack.close()
            tasks = self._tasks(receiver.url, median(deliver, 0))
        return [
            *self._figures(accept, crowd, deliver, latency),
            Figure("deliver over TCP", self._database, median(streams, 0), "/s", median(streams, 1), floor=0.45),
            *tasks,
            *self._order_figures(order),
            *processes,
            *sockets,
            *self._listeners(repeat),
            *self._suites(repeat),
            *self._claims(),
        ]

    def _tasks(self, receiver: str, rate: float) -> list[Figure]:
        """Return our rate beside that of a Celery task a message, on the same database; nothing without its broker."""
        if shutil.which("redis-server") is None:
            print("skipped: a Celery task a message: no redis-server; apt-get install redis-server")
            return []
        url, name = self._stack.database_url, "deliver over HTTP, beside a Celery task a message"
        peer = run("benchmarks.celery_task", receiver + "/in", url, str(self._messages // 4))["per_second"]
        return [Figure(name, self._database, rate, "/s", peer, floor=6.0)]

    def _suites(self, repeat: int) -> list[Figure]:
        """Return how much load a suite makes beside Locust; once, since it asks no database meanwhile."""
        if self._database != "sqlite":
            return []
        found = run("benchmarks.suites_load", "--repeat", str(repeat))
        name = "load of a suite over HTTP, beside Locust"
        return [Figure(name, self._database, found["ours_per_second"], "/s", found["locust_per_second"], floor=0.6)]

    def _listeners(self, repeat: int) -> list[Figure]:
        """Return what TCP and UDP listeners take beside bare servers with group commit."""
        found = run("benchmarks.listeners", self._database, str(self._messages), str(repeat))
        return [
            Figure(f"accept over {kind.upper()}", self._database, found[kind], "/s", found[f"bare_{kind}"], floor=0.5)
            for kind in ("tcp", "udp")
        ]

    def _claims(self) -> list[Figure]:
        """Return how long claiming 500 of many takes beside 500 of 500; it leaves the database full."""
        found = run("benchmarks.claims", str(MANY), env=self._stack.env)
        name = f"claim 500 of {MANY:,} due, beside 500 of 500"
        return [Figure(name, self._database, found["many_ms"], "ms", found["few_ms"], most=1.2)]

    def _order(self, receiver: str, repeat: int) -> list[tuple[Drain, Drain]]:
        self._stack.terminate("deliver")
        order = Order(self._stack, receiver, self._messages, self._rate_of_draining)
        return [order.measure() for _ in range(repeat)]

    def _processes(self, repeat: int) -> list[Figure]:
        """Return the rate of two deliver processes beside that of one; they share the cores with all the others."""
        port = free_port()
        receiver = subprocess.Popen([sys.executable, "-m", "benchmarks.processes", str(port)])
        try:
            wait_for(lambda: _listens(port), 10, "the slow receiver")
            url, messages = f"http://127.0.0.1:{port}/in", self._messages * 2
            processes = Processes(self._stack, url, messages, lambda: self._rate_of_draining(messages))
            pairs = [processes.measure() for _ in range(repeat)]
        finally:
            receiver.terminate()
            receiver.wait()
        name = f"two processes beside one, {ENDPOINTS} endpoints of 50 ms"
        return [Figure(name, self._database, median(pairs, 0), "/s", median(pairs, 1), floor=1.8)]

    def _web_sockets(self, repeat: int) -> list[Figure]:
        """Return the rate of delivery over WebSocket, each acked, beside a bare loop of the `websockets` client."""
        port = free_port()
        url = f"ws://127.0.0.1:{port}/"
        receiver = subprocess.Popen([sys.executable, "-m", "benchmarks.ws", "server", str(port)])
        try:
            wait_for(lambda: _listens(port), 10, "the WebSocket receiver")
            self._stack.register("ws-target", url, max_in_flight=IN_FLIGHT, config=WS_CONFIG)
            pairs = []
            for _ in range(repeat):
                if "deliver" in self._stack.processes:  # not after two of them were measured
                    self._stack.terminate("deliver")
                self._fill(ENVELOPE.replace(b'"target"', b'"ws-target"'))
                self._stack.start("deliver")
                rate = self._rate_of_draining()
                limit = run("benchmarks.ws", "client", url, str(self._messages))["per_second"]
                pairs.append((rate, limit))
        finally:
            receiver.terminate()
            receiver.wait()
        name = "deliver over WebSocket, each acked"
        return [Figure(name, self._database, median(pairs, 0), "/s", median(pairs, 1), floor=0.45)]

    def _streams(self, repeat: int) -> list[tuple[float, float]]:
        """Return (our rate over TCP with a full queue, the bare client loop's)."""
        port = free_port()
        receiver = subprocess.Popen([sys.executable, "-m", "benchmarks.streams", "server", str(port)])
        try:
            wait_for(lambda: _listens(port), 10, "the line server")
            streams = Streams(self._stack, port, self._messages, self._rate_of_draining)
            words = ("benchmarks.streams", "client", str(port), str(self._messages))
            return [streams.measure(lambda: run(*words)["per_second"]) for _ in range(repeat)]
        finally:
            receiver.terminate()
            receiver.wait()

    def _order_figures(self, order: list[tuple[Drain, Drain]]) -> list[Figure]:
        keyed, beside = [pair[0] for pair in order], [pair[1] for pair in order]
        name = self._database
        return [
            Figure(f"ordered delivery over {KEYS:,} keys", name, median(keyed, 0), "/s", median(keyed, 1), floor=0.7),
            Figure(f"beside a key with {HOT:,} waiting", name, median(beside, 0), "/s", median(beside, 1), floor=0.9),
        ]

    def _figures(self, *measured: list[tuple[float, float]]) -> list[Figure]:
        accept, crowd, deliver, latency = measured
        name = self._database
        return [
            Figure("accept over HTTP", name, median(accept, 0), "/s", median(accept, 1), floor=0.4),
            Figure(f"accept over HTTP, {CROWD} callers", name, median(crowd, 0), "/s", median(crowd, 1), floor=0.4),
            Figure("deliver over HTTP", name, median(deliver, 0), "/s", median(deliver, 1), floor=0.45),
            Figure(f"accept to receiver p50 at {RATE}/s", name, median(latency, 0), "ms", ceiling=10.0),
            Figure(f"accept to receiver p99 at {RATE}/s", name, median(latency, 1), "ms", ceiling=50.0),
        ]

    def _prepare(self, receiver: str) -> None:
        self._stack.start("web")
        self._stack.register("source")
        self._stack.register("target", receiver + "/in", max_in_flight=IN_FLIGHT)
        self._request.write_bytes(
            request(f"127.0.0.1:{self._stack.port}", "/api/v1/messages/", ENVELOPE, self._stack.key())
        )

    def _load(self, port: int, file: Path, *options: str) -> dict[str, Any]:
        found = run("benchmarks.load", "127.0.0.1", str(port), str(file), *options)
        assert not found["errors"], found
        return found

    def _accept(self, callers: int = CONNECTIONS) -> tuple[float, float]:
        """Return (our rate, the bare callable's), one after the other."""
        sizes = ("--requests", str(self._messages), "--connections", str(callers))
        ours = self._load(self._stack.port, self._request, *sizes)["per_second"]
        port = free_port()
        bare_request = self._root / "bare-request"
        bare_request.write_bytes(request(f"127.0.0.1:{port}", "/", ENVELOPE))
        bare = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.limits", "server", str(port), self._url_of(f"bare_{port}")]
        )
        try:
            wait_for(lambda: _listens(port), 10, "the bare server")
            return ours, self._load(port, bare_request, *sizes)["per_second"]
        finally:
            bare.terminate()
            bare.wait()

    def _deliver(self, receiver: str) -> tuple[float, float]:
        """Return (our rate with a full queue, the bare client loop's)."""
        self._stack.terminate("deliver")
        self._fill()
        self._stack.start("deliver")
        rates = self._rate_of_draining()
        limit = run("benchmarks.limits", "client", receiver + "/in", str(self._messages))["per_second"]
        return rates, limit

    def _fill(self, envelope: bytes = ENVELOPE) -> None:
        lines = b"\n".join([envelope] * self._messages)
        answer = self._stack.api(
            "POST", "messages/", data=lines, headers={"Content-Type": "application/x-ndjson"}, timeout=120
        )
        assert answer.json()["accepted"] == self._messages, answer.text

    def _open(self) -> int:
        return int(
            self._stack.sql("SELECT count(*) FROM messaging_delivery WHERE state IN ('pending', 'sending')")[0][0]
        )

    def _drained(self) -> None:
        self._stack.wait_for(lambda: self._open() == 0, 300, "the queue drained")

    def _rate_of_draining(self, messages: int | None = None) -> float:
        """Return deliveries a second between the first and the last finish of the newest ones, as the table says."""
        count = messages or self._messages
        newest = f"(SELECT state, finished_at FROM messaging_delivery ORDER BY id DESC LIMIT {count}) AS newest"
        still_open = f"SELECT 1 FROM {newest} WHERE state IN ('pending', 'sending') LIMIT 1"
        self._stack.wait_for(lambda: not self._stack.sql(still_open), 300, "the queue drained")
        latest = self._stack.sql(f"SELECT min(finished_at), max(finished_at), count(*) FROM {newest}")[0]
        first, last = (
            moment if isinstance(moment, datetime) else datetime.fromisoformat(moment) for moment in latest[:2]
        )
        return float(latest[2] / (last - first).total_seconds())

    def _warm_up(self) -> None:
        """Let the process that was just started deliver something, so that its start is not taken for latency."""
        self._load(self._stack.port, self._request, "--requests", "200")
        self._drained()

    def _latency(self) -> tuple[float, float]:
        """Return (p50, p99) in ms from acceptance to the receiver's answer, at a steady rate."""
        seconds = 10
        self._load(
            self._stack.port,
            self._request,
            "--requests",
            str(RATE * seconds),
            "--connections",
            "32",
            "--rate",
            str(RATE),
        )
        self._drained()
        rows = self._stack.sql(
            "SELECT d.created_at, a.started_at, a.took_ms FROM messaging_delivery d"
            f" JOIN messaging_attempt a ON a.delivery_id = d.id ORDER BY d.id DESC LIMIT {RATE * seconds}"
        )
        took = sorted(_moment(started) - _moment(created) + took_ms / 1000 for created, started, took_ms in rows)
        return took[len(took) // 2] * 1000, took[int(len(took) * 0.99)] * 1000


def _moment(value: Any) -> float:
    found = value if isinstance(value, datetime) else datetime.fromisoformat(value).replace(tzinfo=UTC)
    return found.timestamp()


def _listens(port: int) -> bool:
    import socket

    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def show(figures: list[Figure]) -> None:
    table = Table(title=f"{os.cpu_count()} cores, body {len(BODY)} bytes, receiver nginx, {IN_FLIGHT} in flight")
    for column in ("figure", "database", "measured", "limit of the same run", "ratio", "asked", ""):
        table.add_column(column, justify="left" if column in ("figure", "database", "") else "right")
    for figure in figures:
        asked = f">= {figure.floor}" if figure.floor else f"<= {figure.most or f'{figure.ceiling:g} {figure.unit}'}"
        table.add_row(
            figure.name,
            figure.database,
            f"{figure.value:,.1f} {figure.unit}",
            f"{figure.limit:,.0f} {figure.unit}" if figure.limit else "",
            f"{figure.ratio:.2f}" if figure.ratio else "",
            asked,
            "[green]met" if figure.is_met else "[red]missed",
        )
    Console(width=None if sys.stdout.isatty() else 130).print(table)


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], action="append")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--messages", type=int, default=10_000)
    options = parser.parse_args()
    if Nginx.installed() is None:
        sys.exit("nginx is needed as the receiver: apt-get install nginx-light")
    figures: list[Figure] = []
    servers = {"sqlite": None, "postgresql": postgres_server()}
    for database in options.database or servers:
        if database == "postgresql" and servers[database] is None:
            print("skipped postgresql: no server; run make services")
            continue
        root = Path(tempfile.mkdtemp(prefix="bench-"))
        databases = Databases(root, servers[database])
        try:
            with databases.fresh() as url:
                if database == "postgresql":
                    bench = Bench(root, database, url, lambda name, url=url: url, options.messages)
                else:
                    bench = Bench(root, database, url, databases.url, options.messages)
                figures += bench.measure(options.repeat)
        finally:
            databases.close()
            shutil.rmtree(root, ignore_errors=True)
    show(figures)
    RESULTS.mkdir(exist_ok=True)
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    kept = [{**asdict(figure), "ratio": figure.ratio, "is_met": figure.is_met} for figure in figures]
    (RESULTS / f"{stamp}.json").write_bytes(orjson.dumps(kept, option=orjson.OPT_INDENT_2))
    return 0 if all(figure.is_met for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
