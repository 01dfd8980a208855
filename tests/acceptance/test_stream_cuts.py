"""Event streams over real sockets: cut at random, over two processes that commit, nothing is missed or comes twice."""

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
import requests

from tests.acceptance.link import Link
from tests.acceptance.stream_clients import Subscriber, doors
from tests.stack import Stack

NOWHERE = "http://127.0.0.1:9/in"  # nobody delivers here
SENDERS = 2  # for each process


@contextmanager
def two_web_processes(make_stack: Callable[..., Stack]) -> Iterator[list[Stack]]:
    """Yield two web processes of one installation, each at a port of its own."""
    first = make_stack()
    second = Stack(first.var, first.database_url)
    with ExitStack() as closing:
        for number, stack in enumerate([first, second]):
            closing.callback(stack.close)
            stack.start("web", name=f"web{number}")
        yield [first, second]


def write(stacks: list[Stack], link: Link, count: int, pause_s: float) -> list[threading.Thread]:
    """Have `count` messages committed through both processes, in batches of several sizes."""
    key, each = stacks[0].key(), count // (len(stacks) * SENDERS)

    def send(stack: Stack, sender: int) -> None:
        chance, left = random.Random(sender), each
        with requests.Session() as session:
            session.headers["X-API-Key"] = key
            while left:
                size = min(left, chance.choice([1, 1, 2, 5, 9]))
                batch = [link.message(correlation_id=f"t{time.time()}", payload=n) for n in range(size)]
                answer = session.post(f"{stack.url}/api/v1/messages/", json=batch, timeout=60)
                assert answer.json()["accepted"] == size, answer.text
                left -= size
                time.sleep(pause_s * size)

    threads = [threading.Thread(target=send, args=(stack, n)) for n, stack in enumerate(stacks * SENDERS)]
    for thread in threads:
        thread.start()
    return threads


async def follow(stacks: list[Stack], link: Link, subscribers: int, count: int, cuts: int, pause_s: float) -> None:
    """Let all read while all write, then compare what each was sent with what was committed."""
    at = await asyncio.to_thread(doors, stacks)
    readers = [Subscriber(at, random.Random(number)) for number in range(subscribers)]
    async with asyncio.TaskGroup() as group:
        for reader in readers:
            group.create_task(reader.read(count, cuts))
        for reader in readers:
            await reader.ready.wait()
        started = time.monotonic()
        threads = await asyncio.to_thread(write, stacks, link, count, pause_s)
        for thread in threads:
            await asyncio.to_thread(thread.join)
        wrote_s = time.monotonic() - started
    took_s = time.monotonic() - started

    rows = stacks[0].sql("SELECT message_id FROM messaging_message ORDER BY position")
    committed = [row[0] for row in rows]
    assert len(committed) == count
    lags = sorted(lag for reader in readers for lag in reader.lags_s)
    print(
        f"{subscribers} subscribers, {sum(reader.cuts for reader in readers)} cuts,"
        f" {count} messages in {wrote_s:.1f} s,"
        f" all read after {took_s:.1f} s: {subscribers * count / took_s:.0f} events/s,"
        f" lag p50 {1000 * lags[len(lags) // 2]:.0f} ms, p99 {1000 * lags[len(lags) * 99 // 100]:.0f} ms"
    )
    for reader in readers:
        assert reader.cuts >= cuts // 2
        assert reader.received == committed


@pytest.mark.timeout(180)
async def test_subscribers_cut_at_random_end_with_exactly_what_was_committed(make_stack: Callable[..., Stack]) -> None:
    """A hundred of them, each connecting to either process, each a few times."""
    with two_web_processes(make_stack) as stacks:
        link = Link(stacks[0], NOWHERE)
        await follow(stacks, link, subscribers=100, count=600, cuts=5, pause_s=0.01)


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_subscribers_cut_fifty_times_each_end_with_exactly_what_was_committed(
    make_stack: Callable[..., Stack],
) -> None:
    with two_web_processes(make_stack) as stacks:
        link = Link(stacks[0], NOWHERE)
        await follow(stacks, link, subscribers=100, count=3000, cuts=50, pause_s=0.02)
