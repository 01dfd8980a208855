"""How much one `deliver` process has on its way at once: no more than it was told, and than it may open files."""

import os
import resource
import time
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.acceptance.link import Link
from tests.servers.answers import Answer
from tests.servers.http import HttpReceiver
from tests.stack import Stack

DELAY_S = 0.1  # of the receiver: so long is each request on its way at least
OPEN = "SELECT count(*) FROM messaging_delivery WHERE state <> 'delivered'"
TRIES = "SELECT outcome, count(*) FROM messaging_attempt GROUP BY outcome"
LACKING = "SELECT count(*) FROM messaging_attempt WHERE error LIKE ?"
SPENT = "SELECT max(attempts), sum(unspent) FROM messaging_delivery"
SHUT = "SELECT count(*) FROM endpoints_breaker WHERE state <> 'closed'"


@pytest.fixture
def web(make_stack: Callable[..., Stack], http_receiver: HttpReceiver) -> Stack:
    """Return a stack that does not deliver yet."""
    stack = make_stack()
    stack.start("web")
    http_receiver.answer(Answer(200, delay_s=DELAY_S))
    return stack


def links(stack: Stack, receiver: HttpReceiver, count: int) -> list[Link]:
    return [Link(stack, f"{receiver.url}/{number}", max_in_flight=16) for number in range(count)]


def send(links: list[Link], each: int) -> int:
    """Send so many over each link, in one batch."""
    batch = [link.message(payload=number) for number in range(each) for link in links]
    answer = links[0].stack.api("POST", "messages/", json=batch, timeout=60)
    assert answer.json()["accepted"] == len(batch), answer.text
    return len(batch)


def drained(stack: Stack) -> None:
    stack.wait_for(lambda: stack.sql(OPEN) == [(0,)], 60, "everything being delivered")


def most_at_once(receiver: HttpReceiver) -> int:
    """Return how many requests were with the receiver at the same time."""
    begun = sorted(request.at for request in receiver.received)
    return max(place + 1 - bisect_right(begun, at - DELAY_S) for place, at in enumerate(begun))


def test_a_process_sends_no_more_at_once_than_it_may(web: Stack, http_receiver: HttpReceiver) -> None:
    """Over all endpoints, each of which has its turns; a second process brings as many again."""
    many = links(web, http_receiver, 6)
    found = []
    for names, each in ((["deliver"], 20), (["deliver", "deliver-2"], 80)):
        for name in names:
            web.start("deliver", "--sends", "8", name=name)
        sent = send(many, each)
        drained(web)
        received = http_receiver.received
        assert len(received) == sent
        assert len({request.path for request in received[: sent // 2]}) == len(many)
        found.append(most_at_once(http_receiver))
        http_receiver.clear()
        for name in names:
            web.terminate(name)

    assert found[0] == 8
    assert 8 < found[1] <= 16


def test_who_waits_for_a_rate_keeps_no_place_from_others(web: Stack, http_receiver: HttpReceiver) -> None:
    """Neither do many who wait for theirs: what may go at once goes at once."""
    slow = [Link(web, f"{http_receiver.url}/slow", rate_per_s=2) for _ in range(4)]
    quick = links(web, http_receiver, 1)
    web.start("deliver", "--sends", "2")
    send(slow, 20)
    web.wait_for(lambda: len(http_receiver.received) >= 8, 30, "rates being kept")
    http_receiver.clear()
    send(quick, 40)
    web.wait_for(lambda: sum(one.path == "/0" for one in http_receiver.received) == 40, 30, "what has no rate")

    # Two at once are twenty a second, of which the others have eight.
    assert http_receiver.received[-1].at - http_receiver.received[0].at < 40 * DELAY_S


def test_few_files_are_few_sends_and_no_failures(web: Stack, http_receiver: HttpReceiver) -> None:
    """Where 100 files may be open, 192 sends are not begun at once: each would have been a failure."""
    many = links(web, http_receiver, 12)
    pid = web.start("deliver")
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (100, 100))  # long before it asks
    sent = send(many, 20)
    drained(web)

    assert web.sql(TRIES) == [("delivered", sent)]
    assert 16 < most_at_once(http_receiver) <= 25


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="files of a process are counted in /proc")
def test_what_the_host_lacks_spends_nothing_and_shuts_no_breaker(web: Stack, http_receiver: HttpReceiver) -> None:
    """A process that comes to have no files left waits for them: nothing is wrong with any receiver."""
    many = links(web, http_receiver, 6)
    pid = web.start("deliver")
    send(many[:1], 1)
    drained(web)
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{pid}/fd")) + 3, hard))
    send(many, 20)
    web.wait_for(
        lambda: web.sql(LACKING, "this host has too little%") > [(20,)], 30, "sends for which there is no file"
    )
    shut = web.sql(SHUT)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    drained(web)

    assert (shut, web.sql(SHUT)) == ([(0,)], [(0,)])
    [(spent, unspent)] = web.sql(SPENT)
    assert spent == 1
    assert unspent > 20


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_no_statement_is_compiled_first(
    make_stack: Callable[..., Stack], http_receiver: HttpReceiver, database_url: str
) -> None:
    """To compile one takes a server longer than to run it a thousand times, wherever its planner expects many rows."""
    limits = ("jit_above_cost", "jit_inline_above_cost", "jit_optimize_above_cost")
    with psycopg.connect(database_url, autocommit=True) as server:
        for limit in limits:
            server.execute(f"ALTER DATABASE {server.info.dbname} SET {limit} = 0")
    stack = make_stack()
    stack.start("web")
    stack.start("deliver")
    many = links(stack, http_receiver, 3)
    began = time.monotonic()
    sent = [send(many, 1) for _ in range(20)]
    drained(stack)

    assert len(http_receiver.received) == sum(sent)
    assert time.monotonic() - began < 10
