"""NDJSON without end: committed as it comes, bounded in memory, and honest about how far it came."""

import asyncio
import socket
import struct
from collections.abc import Callable, Iterator

import orjson
import psutil
import pytest

from endpoints.errors import Overloaded, TooSlow
from messaging.intake.bodies import Body, Budget
from tests.acceptance.link import Link
from tests.stack import Stack

NDJSON = {"Content-Type": "application/x-ndjson"}
MIB = 1024 * 1024


@pytest.fixture
def link(shared_stack: Stack) -> Link:
    return Link(shared_stack, None)


def line(link: Link, number: int, **fields: object) -> bytes:
    return orjson.dumps({"source_system": link.source, "payload": {"n": number}, **fields}) + b"\n"


def stored(link: Link) -> int:
    query = "SELECT count(*) FROM messaging_message WHERE source_id = (SELECT id FROM endpoints_system WHERE slug = ?)"
    return int(link.stack.sql(query, link.source)[0][0])


def test_each_line_is_stored_before_the_stream_ends(link: Link) -> None:
    """A producer that waits for each line to be stored gets to its end."""

    def lines() -> Iterator[bytes]:
        for number in range(5):
            yield line(link, number)
            link.stack.wait_for(lambda n=number: stored(link) == n + 1, 20, f"line {number} being stored")

    answer = link.stack.api("POST", "messages/", data=lines(), headers=NDJSON, timeout=60)

    assert (answer.status_code, answer.json()["accepted"]) == (202, 5)


def test_a_stream_that_breaks_leaves_what_came_before(link: Link) -> None:
    """A connection that is reset within a line has stored every whole one."""
    body = b"".join(line(link, number) for number in range(3)) + b'{"half'
    head = (
        f"POST /api/v1/messages/ HTTP/1.1\r\nHost: x\r\nX-API-Key: {link.stack.key()}\r\n"
        f"Content-Type: application/x-ndjson\r\nContent-Length: {len(body) + 100}\r\n\r\n"
    )
    connection = socket.create_connection(("127.0.0.1", link.stack.port), timeout=10)
    connection.sendall(head.encode() + body)
    link.stack.wait_for(lambda: stored(link) == 3, 20, "three lines")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()

    assert stored(link) == 3


def test_a_line_beyond_the_cap_ends_the_stream_and_says_how_far_it_came(link: Link) -> None:
    def parts() -> Iterator[bytes]:
        yield line(link, 1) + line(link, 2) + b"{}\n"
        for _ in range(60):
            yield b"x" * MIB

    answer = link.stack.api("POST", "messages/", data=parts(), headers=NDJSON, timeout=60)

    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert "2 accepted, 0 duplicate, 1 rejected" in answer.json()["detail"]
    assert stored(link) == 2


def test_only_rejected_lines_are_listed(link: Link) -> None:
    body = line(link, 1) + b"\n" + line(link, 2, colour="red") + b"7\n" + line(link, 3).strip()

    answer = link.stack.api("POST", "messages/", data=body, headers=NDJSON).json()

    assert (answer["accepted"], answer["rejected"]) == (2, 2)
    assert [(row["index"], row["code"]) for row in answer["results"]] == [(1, "invalid"), (2, "malformed")]


def memory_while_streaming(link: Link, count: int) -> tuple[float, float]:
    """Stream `count` lines; return the web process's memory in MiB after a tenth of them and the most after that."""
    process = psutil.Process(link.stack.processes["web"].pid)
    seen: list[float] = []

    def lines() -> Iterator[bytes]:
        for start in range(0, count, 100):
            if start % (count // 20) == 0:
                seen.append(process.memory_info().rss / MIB)
            yield b"".join(line(link, number) for number in range(start, start + 100))

    answer = link.stack.api("POST", "messages/", data=lines(), headers=NDJSON, timeout=3600)
    assert answer.json()["accepted"] == count, answer.text
    return seen[2], max(seen[3:])


def test_a_stream_leaves_memory_flat(link: Link) -> None:
    """What is read is what is being stored: twenty thousand lines need no more than two thousand."""
    after_a_tenth, most = memory_while_streaming(link, 20_000)

    assert most <= after_a_tenth + 24


@pytest.mark.long
def test_a_million_lines_leave_memory_flat(make_stack: Callable[..., Stack]) -> None:
    stack = make_stack()
    stack.start("web")

    after_a_tenth, most = memory_while_streaming(Link(stack, None), 1_000_000)

    print(f"1,000,000 lines: {after_a_tenth:.0f} MiB after a tenth, at most {most:.0f} MiB")
    assert most <= after_a_tenth + 32


# --- how bodies are read --------------------------------------------------------------


def body_of(parts: list[bytes], budget: Budget | None = None, *, pause_s: float = 0.0, quiet_s: float = 30) -> Body:
    left = iter(parts)

    async def receive() -> dict[str, object]:
        await asyncio.sleep(pause_s)
        return {"type": "http.request", "body": next(left), "more_body": left.__length_hint__() > 0}

    return Body(receive, budget or Budget(), quiet_s)


async def test_a_body_that_drips_is_given_up() -> None:
    """No single pause is long, and yet the whole would take for ever."""
    with pytest.raises(TooSlow):
        await body_of([b"x"] * 1000, pause_s=0.02, quiet_s=0.3).read({}, MIB)


async def test_a_line_that_drips_is_given_up() -> None:
    async def read() -> None:
        async for _ in body_of([b"{}\n", *[b"x"] * 1000], pause_s=0.02, quiet_s=0.3).lots():
            pass

    with pytest.raises(TooSlow):
        await read()


async def test_a_slow_stream_of_whole_lines_goes_on() -> None:
    """One line after the other, each with a pause, for longer than one line may take."""
    body = body_of([b"{}\n"] * 40, pause_s=0.03, quiet_s=1.0)

    assert [len(lot) async for lot in body.lots()] == [1] * 40


async def test_bodies_share_one_budget_and_give_it_back() -> None:
    """What is being read over all connections is bounded, and free again with the answer."""
    budget = Budget(100)
    first = body_of([b"x" * 40, b"x" * 40], budget)
    assert len(await first.read({}, MIB)) == 80

    with pytest.raises(Overloaded) as refused:
        await body_of([b"x" * 40], budget).read({}, MIB)
    first.close()

    assert refused.value.retry_after_s
    assert budget.held == 0
    assert len(await body_of([b"x" * 40], budget).read({}, MIB)) == 40
