"""More than can be stored: refused with a time to come back, never buffered without end, and never lost once told."""

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import orjson
import psutil
import pytest
import requests

from tests.acceptance.holding import nothing_is_stored
from tests.acceptance.link import Link
from tests.acceptance.test_callers import made_key
from tests.stack import Stack, wait_for

MIB = 1024 * 1024
MOST_MIB = 400  # of the web process with both queues full


def memory(stack: Stack) -> float:
    return psutil.Process(stack.processes["web"].pid).memory_info().rss / MIB


@pytest.mark.timeout(240)
def test_a_flood_is_refused_and_what_was_acknowledged_is_stored(make_stack: Callable[..., Stack]) -> None:
    """Thirty thousand at once while nothing can be stored and the receiver is down: the queue takes its fill.

    The rest is told when to come back, memory stays within its bound, and not one acknowledged message is lost.
    """
    stack = make_stack()
    stack.start("web")
    link = Link(stack, "http://127.0.0.1:9/")
    keys = [made_key(link, role="operator", name=f"caller {number}")[1] for number in range(3)]
    batch = orjson.dumps([link.message(payload={"text": "x" * 400})] * 500)
    url = f"{stack.url}/api/v1/messages/"
    before = memory(stack)

    def post(key: str) -> requests.Response:
        headers = {"X-API-Key": key, "Content-Type": "application/json"}
        return requests.post(url, data=batch, headers=headers, timeout=120)

    for key in keys:  # so that each is known: with SQLite a new caller's note would wait, too
        assert stack.api("GET", "systems/", key=key).status_code == 200
    with ThreadPoolExecutor(60) as pool:
        with nothing_is_stored(stack):
            asked = [pool.submit(post, key) for key in keys for _ in range(20)]
            wait_for(lambda: sum(one.done() for one in asked) == 20, 60, "twenty refusals")
            most = memory(stack)
        answers = [one.result() for one in asked]

    counts = Counter(answer.status_code for answer in answers)
    assert counts == {202: 40, 503: 20}
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in answers if answer.status_code != 202)
    assert {answer.json()["accepted"] for answer in answers if answer.status_code == 202} == {500}
    assert stack.sql("SELECT count(*) FROM messaging_message") == [(20_000,)]
    assert post(keys[0]).status_code == 202
    print(f"memory {before:.0f} MiB before, {most:.0f} MiB with both queues full")
    assert most <= MOST_MIB


def test_one_callers_flood_leaves_room_for_the_others(make_stack: Callable[..., Stack]) -> None:
    """429 for the one that fills its half, while another's message is taken."""
    stack = make_stack()
    stack.start("web")
    link = Link(stack, "http://127.0.0.1:9/")
    flooder, other = (made_key(link, role="operator", name=name)[1] for name in ("flooder", "other"))
    batch = orjson.dumps([link.message()] * 1000)
    url = f"{stack.url}/api/v1/messages/"

    def post(key: str, body: bytes) -> requests.Response:
        headers = {"X-API-Key": key, "Content-Type": "application/json"}
        return requests.post(url, data=body, headers=headers, timeout=60)

    for key in (flooder, other):
        assert stack.api("GET", "systems/", key=key).status_code == 200
    with ThreadPoolExecutor(16) as pool:
        with nothing_is_stored(stack):
            flood = [pool.submit(post, flooder, batch) for _ in range(12)]
            wait_for(lambda: sum(one.done() for one in flood) == 2, 30, "two refusals")
            single = pool.submit(post, other, orjson.dumps(link.message()))
            time.sleep(0.2)
            assert not single.done()
        assert single.result().status_code == 202
        assert Counter(one.result().status_code for one in flood) == {202: 10, 429: 2}


def test_half_read_bodies_are_bounded_in_sum(make_stack: Callable[..., Stack]) -> None:
    """Five senders that stop within 24 MiB each: what is beyond the budget is refused, and memory stays."""
    stack = make_stack()
    stack.start("web")
    stack.register("source")
    head = (
        f"POST /to/source HTTP/1.1\r\nHost: x\r\nX-API-Key: {stack.key()}\r\nX-Source-System: source\r\n"
        f"Content-Length: {25 * MIB}\r\n\r\n"
    ).encode()
    before = memory(stack)
    connections = [socket.create_connection(("127.0.0.1", stack.port), timeout=20) for _ in range(5)]
    answers: list[bytes] = []

    def send(connection: socket.socket) -> None:
        try:
            connection.sendall(head)
            for _ in range(24):
                connection.sendall(b"x" * MIB)
            answers.append(connection.recv(65536))
        except OSError:
            pass  # closed by the test once it has seen enough

    threads = [threading.Thread(target=send, args=(connection,), daemon=True) for connection in connections]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: answers, 60, "a refusal")
        most = memory(stack)
    finally:
        for connection in connections:
            with suppress(OSError):  # the refused one is closed already
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        for thread in threads:
            thread.join()

    refusal = next(answer for answer in answers if answer)
    assert refusal.startswith(b"HTTP/1.1 503")
    assert b"retry-after: 1" in refusal.lower()
    assert most - before <= 220
    headers = {"X-Source-System": "source"}

    def code() -> str:
        return str(stack.api("POST", "/to/source", data=b"x" * MIB, headers=headers).json()["code"])

    wait_for(lambda: code() == "unknown_system", 20, "a body being read again")


def test_too_many_connections_are_told_to_come_back(make_stack: Callable[..., Stack]) -> None:
    """Beyond the bound a connection is answered 503 at once; those that are served go on."""
    stack = make_stack()
    stack.start("web", "--connections", "8")
    stack.session.close()
    served: list[socket.socket] = []
    refused = b""
    while not refused and len(served) < 20:
        connection = socket.create_connection(("127.0.0.1", stack.port), timeout=5)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        answer = connection.recv(65536)
        if answer.startswith(b"HTTP/1.1 503"):
            refused = answer
            connection.close()
        else:
            assert answer.startswith(b"HTTP/1.1 200"), answer
            served.append(connection)

    assert 6 <= len(served) <= 8
    assert b"retry-after: 1" in refused
    for connection in served:
        connection.close()
    wait_for(lambda: stack.api("GET", "/healthz").status_code == 200, 10, "room for another connection")


def test_a_head_without_end_is_cut(make_stack: Callable[..., Stack]) -> None:
    """Headers are not collected for ever."""
    stack = make_stack()
    stack.start("web")
    with socket.create_connection(("127.0.0.1", stack.port), timeout=20) as connection:
        connection.sendall(b"POST /to/x HTTP/1.1\r\nHost: x\r\n")
        sent = 0
        with suppress(OSError):  # reset, or a broken pipe, as it falls
            for sent in range(100_000):
                connection.sendall(b"x-%d: %s\r\n" % (sent, b"y" * 1000))

    assert sent < 50_000
    assert stack.api("GET", "/healthz").status_code == 200


@pytest.mark.long
def test_a_sender_that_drips_is_told_408(make_stack: Callable[..., Stack]) -> None:
    """One byte a second never pauses for long, and is given up all the same; a head that drips is closed."""
    stack = make_stack()
    stack.start("web")
    stack.register("source")
    with (
        socket.create_connection(("127.0.0.1", stack.port), timeout=90) as body,
        socket.create_connection(("127.0.0.1", stack.port), timeout=90) as head,
    ):
        body.sendall(
            f"POST /to/source HTTP/1.1\r\nHost: x\r\nX-API-Key: {stack.key()}\r\nContent-Length: 1000\r\n\r\n".encode()
        )
        head.sendall(b"POST /to/source HTTP/1.1\r\nX-Slow: ")

        def drip(connection: socket.socket) -> bytes:
            connection.settimeout(1)
            for _ in range(80):
                try:
                    connection.sendall(b"x")
                    return connection.recv(65536)
                except TimeoutError:
                    continue
                except OSError:
                    return b"closed"
            raise AssertionError("still served after 80 s")

        with ThreadPoolExecutor(2) as pool:
            told, closed = pool.map(drip, (body, head))

    assert told.startswith(b"HTTP/1.1 408"), told
    assert closed in (b"", b"closed")
