"""The long proof: hundreds of kills of many processes with ordered keys, and memory over half a million messages.

`make test-long` runs it; LONG_KILLS (300) and LONG_MESSAGES (500000) shorten it.
"""

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import psutil
import pytest

from tests.acceptance.crashing import ENGINE_POINTS, INTAKE_POINTS
from tests.acceptance.ledgers import Sender, compare, demand_balance, drain, inversions, overdue_s, post_all
from tests.acceptance.link import Link
from tests.acceptance.plain_server import PlainServer
from tests.servers.nginx import Nginx
from tests.servers.ports import free_port
from tests.stack import Stack

pytestmark = [pytest.mark.long, pytest.mark.timeout(0)]
KILLS = int(os.environ.get("LONG_KILLS", "300"))
MESSAGES = int(os.environ.get("LONG_MESSAGES", "500000"))
LEASE_S, GRACE_S = 5, 6
ENGINES = 4
BATCH = 500
MIB = 2**20
WAITING = "SELECT count(*) FROM messaging_delivery WHERE state IN ('pending', 'sending')"


class Installation:
    """Several processes of each role on one database, and what can be done to them."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        webs = 1 if stack.database_url.startswith("sqlite") else 2
        self.ports = {"web": stack.port} | {f"web{n}": free_port() for n in range(1, webs)}
        self.engines = [f"deliver{n}" for n in range(ENGINES)]
        self.done: Counter[str] = Counter()
        for name in (*self.ports, *self.engines):
            self.start(name)

    @property
    def urls(self) -> list[str]:
        return [f"http://127.0.0.1:{port}" for port in self.ports.values()]

    def start(self, name: str, planted: tuple[str, int] | None = None) -> None:
        options = ["--port", str(self.ports[name])] if name in self.ports else []
        self.stack.start("web" if options else "deliver", *options, name=name, planted=planted)

    def kill(self, name: str) -> None:
        """End a process at a random moment and start another in its place."""
        self.stack.kill(name)
        self.start(name)
        self.done["killed"] += 1

    def crash(self, name: str) -> None:
        """Put a process in its place that dies at a named point, and then a sound one."""
        point = random.choice(list(INTAKE_POINTS if name in self.ports else ENGINE_POINTS))
        self.stack.kill(name)
        self.start(name, (point, random.randint(1, 5)))
        process = self.stack.processes[name]
        self.stack.wait_for(lambda: process.poll() is not None or point.startswith("recovered"), 180, point)
        if process.poll() is None:  # another may have recovered it all
            self.stack.kill(name)
        self.start(name)
        self.done["crashed at a point"] += 1

    def freeze(self, name: str) -> None:
        """Stop an engine until its leases are another's, and let it go on."""
        if name in self.ports:
            return self.kill(name)
        self.stack.freeze(name)
        time.sleep(1.5 * LEASE_S)
        self.stack.signal(name, signal.SIGCONT)
        self.done["frozen"] += 1
        return None


def test_hundreds_of_kills_lose_nothing_and_invert_nothing(
    make_stack: Callable[..., Stack], plain_receiver: Nginx | PlainServer
) -> None:
    """Four engines, two web processes (PostgreSQL), killed, crashed and frozen under load with ordered keys."""
    stack = make_stack(CONTROLPLANE_LEASE_S=str(LEASE_S))
    installation = Installation(stack)
    link = Link(stack, f"{plain_receiver.url}/in")
    sender = Sender(stack, link.source, link.target, connections=12, ordered=True, urls=installation.urls)
    sender.start()
    log, overdue = plain_receiver.directory / "access.log", [0.0]

    def has_flowed(arrived: int, acknowledged: int) -> bool:
        overdue.append(overdue_s(stack))
        return log.exists() and log.stat().st_size > arrived and len(sender.acknowledged) >= acknowledged

    begun = time.monotonic()
    while installation.done.total() < KILLS:
        enough = len(sender.acknowledged) + random.randint(1, 60)
        stack.wait_for(partial(has_flowed, log.stat().st_size if log.exists() else 0, enough), 180, "load")
        name = random.choice([*installation.ports, *installation.engines])
        act = random.choices((installation.kill, installation.crash, installation.freeze), (6, 2, 1))[0]
        act(name)
    sender.finish()
    drain(stack, 300)

    lines = plain_receiver.lines()
    figures = compare(stack, sender.acknowledged, lines) | dict(installation.done)
    lost = {str(row[0]) for row in stack.sql("SELECT DISTINCT d.message_id FROM messaging_attempt a"
            " JOIN messaging_delivery d ON d.id = a.delivery_id WHERE a.outcome = 'lost'")}  # fmt: skip
    figures |= {
        "inversions": inversions([line[1] for line in lines]),
        "deliveries with lost claims": len(lost),
        "most overdue lease, s": round(max(overdue), 1),
        "refused": sum(sender.refused.values()),
        "minutes": round((time.monotonic() - begun) / 60, 1),
    }
    print(f"\n{stack.database_url.partition(':')[0]}: {json.dumps(figures)}")
    books = demand_balance(stack)
    assert books["expected"] == books["states"]["delivered"] == len(sender.acknowledged)
    assert figures["inversions"] == 0
    assert max(overdue) <= GRACE_S


def test_memory_stays_flat_over_half_a_million_messages(
    make_stack: Callable[..., Stack], plain_receiver: Nginx | PlainServer
) -> None:
    """What web and deliver hold after two fifths of the messages grows by a tenth at most until the end.

    Before that, SQLite's cache of pages fills up to its bound.
    """
    stack = make_stack(CONTROLPLANE_LEASE_S="30")
    roles = ("web", "deliver")
    processes = {role: psutil.Process(stack.start(role)) for role in roles}
    link = Link(stack, f"{plain_receiver.url}/in", max_in_flight=64)

    def send(count: int) -> dict[str, int]:
        """Send so many in batches, await their delivery, and return each process's own memory in MiB."""
        for sent in range(0, count, 20 * BATCH):
            lot = [link.message() for _ in range(min(20 * BATCH, count - sent))]
            answers = post_all(stack, [lot[n : n + BATCH] for n in range(0, len(lot), BATCH)], connections=4)
            assert {status for status, _ in answers} == {202}
            stack.wait_for(lambda: stack.sql(WAITING)[0][0] < 20 * BATCH, 300, "the backlog going down")
        drain(stack, 300)
        return {role: process.memory_full_info().uss // MIB for role, process in processes.items()}

    early = send(2 * MESSAGES // 5)
    late = send(MESSAGES - 2 * MESSAGES // 5)
    figures = {"messages": MESSAGES, "MiB after two fifths": early, "MiB after all": late}
    print(f"\n{stack.database_url.partition(':')[0]}: {json.dumps(figures)}")
    assert len(plain_receiver.lines()) == MESSAGES
    for role in roles:
        assert late[role] <= 1.1 * early[role], role
