"""What is accepted arrives: ten thousand messages, each once, and bodies byte for byte."""

import os
import random
from collections import Counter
from collections.abc import Callable

import pytest

from tests.acceptance.ledgers import compare, demand_balance, drain, post_all
from tests.acceptance.link import Link
from tests.acceptance.plain_server import PlainServer
from tests.servers.http import HttpReceiver
from tests.servers.nginx import Nginx
from tests.stack import Stack

COUNT = 10_000


@pytest.mark.timeout(600)
def test_ten_thousand_messages_arrive_each_once(
    make_stack: Callable[..., Stack], plain_receiver: Nginx | PlainServer
) -> None:
    """One a request over 32 connections, to a receiver that is not ours: without faults there are no duplicates."""
    stack = make_stack(CONTROLPLANE_LEASE_S="30")
    stack.start("web")
    stack.start("deliver")
    link = Link(stack, f"{plain_receiver.url}/in", max_in_flight=64)

    answers = post_all(stack, [link.message(message_id=f"m-{n}") for n in range(COUNT)])
    drain(stack, 300)

    assert Counter(status for status, _ in answers) == {202: COUNT}
    figures = compare(stack, [answer["message_id"] for _, answer in answers], plain_receiver.lines())
    assert (figures["received"], figures["duplicates"]) == (COUNT, 0)
    assert stack.sql("SELECT count(DISTINCT delivery_id), count(*) FROM messaging_attempt") == [(COUNT, COUNT)]
    books = demand_balance(stack)
    assert (books["expected"], books["states"]["delivered"]) == (COUNT, COUNT)


def test_raw_bodies_arrive_byte_for_byte(shared_stack: Stack, http_receiver: HttpReceiver) -> None:
    """0 B to 64 KiB of random bytes, NUL among them, through /to/."""
    link = Link(shared_stack, http_receiver.url)
    sizes = [0, 1, 2, 65_535, 65_536, *random.Random(4711).sample(range(65_536), 95)]
    bodies = [b"\0" + os.urandom(size - 1) if size else b"" for size in sizes]

    sent = {}
    for body in bodies:
        headers = {"Content-Type": "application/octet-stream", "X-Source-System": link.source}
        answer = shared_stack.api("POST", f"/to/{link.target}", data=body, headers=headers)
        assert answer.status_code == 202, answer.text
        sent[answer.json()["message_id"]] = body
    received = http_receiver.wait_for(len(bodies), 30)

    assert {request.headers["x-message-id"]: request.body for request in received} == sent
    assert len(received) == len(bodies) == 100
