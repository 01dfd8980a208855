"""What a dead, slow, endless or malicious receiver costs the others, and how much memory it costs us."""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import psutil
import pytest

from tests.acceptance.ledgers import demand_balance
from tests.acceptance.link import Link
from tests.acceptance.test_engine_defects import fill
from tests.servers.aside import Aside, BlackHole
from tests.stack import Stack

pytestmark = pytest.mark.timeout(600)
GOOD, KEPT = 7, 0.9
EACH, OF_BAD, A_SECOND = 2500, 2000, 40.0
SETTLE_S, MEASURE_S, ROUNDS, TRIES = 0.6, 1.2, 3, 3
MIB = 2**20


def delivered(stack: Stack, links: Sequence[Link]) -> int:
    marks = ", ".join("?" * len(links))
    query = (
        "SELECT count(*) FROM messaging_delivery d JOIN endpoints_system s ON s.id = d.system_id"
        f" WHERE d.state = 'delivered' AND s.slug IN ({marks})"
    )
    return int(stack.sql(query, *(link.target for link in links))[0][0])


def rate(stack: Stack, links: Sequence[Link]) -> float:
    """Return how many a second are delivered over `links` just now."""
    time.sleep(SETTLE_S)
    before, begun = delivered(stack, links), time.monotonic()
    time.sleep(MEASURE_S)
    return (delivered(stack, links) - before) / (time.monotonic() - begun)


def make_due(stack: Stack, links: Sequence[Link], *, is_flowing: bool) -> None:
    """Have what waits for `links` be due bit by bit, or not at all; in the table, since a pause is work too."""
    spread_s = OF_BAD / A_SECOND
    if stack.database_url.startswith("sqlite"):
        wait = f"((abs(random()) % {spread_s * 1000:.0f}) / 1000.0) || ' seconds'" if is_flowing else "'1 hour'"
        due = f"strftime('%Y-%m-%d %H:%M:%f', 'now', {wait})"
    else:
        due = f"now() + random() * interval '{spread_s} seconds'" if is_flowing else "now() + interval '1 hour'"
    for link in links:
        stack.sql(
            f"UPDATE messaging_delivery SET due_at = {due} WHERE state = 'pending'"
            " AND system_id = (SELECT id FROM endpoints_system WHERE slug = ?)",
            link.target,
        )


def kept(stack: Stack, good: Sequence[Link], bad: Sequence[Link]) -> tuple[float, float]:
    """Return the rate of the good ones with the bad ones beside them, and without; the two take turns."""
    beside, alone = [], []
    for _ in range(ROUNDS):
        make_due(stack, bad, is_flowing=False)
        alone.append(rate(stack, good))
        make_due(stack, bad, is_flowing=True)
        beside.append(rate(stack, good))
    return sum(beside), sum(alone)


def test_three_bad_receivers_leave_the_other_seven_their_rate(make_stack: Callable[..., Stack]) -> None:
    """Of ten endpoints one is black-holed, one drips and one answers 10 GB: the others keep nine tenths or more.

    The seven are bound by their receivers (20 ms an answer, one at a time: some 40 a second),
    not by this machine, and the three get as many. What else a machine does can spoil a
    measurement, so the best of three counts.
    """
    stack = make_stack(CONTROLPLANE_LEASE_S="30")
    stack.start("web")
    with ExitStack() as servers:
        slow = servers.enter_context(Aside(delay_s=0.02))
        hole, drip = servers.enter_context(BlackHole()), servers.enter_context(Aside("DRIP_HEAD"))
        huge = servers.enter_context(Aside("HUGE"))
        good = [Link(stack, f"{slow.url}/{n}", max_in_flight=1, timeout_s=30) for n in range(GOOD)]
        bad = [Link(stack, server.url, timeout_s=2) for server in (hole, drip, huge)]
        for links, count in ((good, EACH), (bad, OF_BAD)):
            for link in links:
                link.send()
                fill(stack, link, count)
        stack.start("deliver")
        stack.wait_for(lambda: delivered(stack, good) > GOOD, what="the first deliveries")

        tries: list[float] = []
        while len(tries) < TRIES and max(tries, default=0.0) < KEPT:
            beside, alone = kept(stack, good, bad)
            tries.append(beside / alone)
        attempts = (
            "SELECT e.port, count(*) FROM messaging_attempt a JOIN endpoints_endpoint e ON e.id = a.endpoint_id"
            " GROUP BY e.port"
        )
        used = dict(stack.sql(attempts))
        figures = {"kept": [round(value, 2) for value in tries], "of a second": round(alone / ROUNDS)}
        figures["tries at the bad ones"] = [
            used.get(int(server.url.rpartition(":")[2]), 0) for server in (hole, drip, huge)
        ]
        print(f"\n{stack.database_url.partition(':')[0]}: {json.dumps(figures)}")

        assert max(tries) >= KEPT
        assert min(figures["tries at the bad ones"]) > 0, "a bad one that is not tried spoils nothing"
        waiting = "SELECT count(*) FROM messaging_delivery WHERE state = 'pending'"
        assert stack.sql(waiting)[0][0] > 2 * OF_BAD, "all were to have work to the end"


PER_KIND = 8  # endpoints
HOSTILE = ("GZIP_BOMB", "HUGE", "ENDLESS", "BAD_CHUNKING", "MANY_HEADERS", "CUT_BODY")


def test_hostile_answers_cost_no_memory(make_stack: Callable[..., Stack]) -> None:
    """Hundreds of bombs and endless answers, asked for as responses to keep: what stays is a few MiB."""
    stack = make_stack(CONTROLPLANE_LEASE_S="30")
    stack.start("web")
    process = psutil.Process(stack.start("deliver"))
    with ExitStack() as servers:
        links = [
            Link(stack, url, timeout_s=5, max_attempts=1, max_in_flight=1)
            for url in [servers.enter_context(Aside(name)).url for name in HOSTILE]
            for _ in range(PER_KIND)
        ]

        def send(each: int) -> int:
            batch = [link.message(message_type="request") for link in links for _ in range(each)]
            assert stack.api("POST", "messages/", json=batch).json()["accepted"] == len(batch)
            left = "SELECT count(*) FROM messaging_delivery WHERE state IN ('pending', 'sending')"
            stack.wait_for(lambda: stack.sql(left) == [(0,)], 240, "all of them ended")
            return int(process.memory_info().rss)

        send(1)
        before = send(2)
        after = send(6)  # nine in all: with one more their breakers would hold them
    demand_balance(stack)
    figures = {"before, MiB": before // MIB, "after, MiB": after // MIB}
    print(f"\n{stack.database_url.partition(':')[0]}: {json.dumps(figures)}")
    assert after - before < 32 * MIB
