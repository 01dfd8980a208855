"""A process that slept beyond its leases tells ends that are no longer its to tell: none is counted, anywhere."""

import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.acceptance.gateway_client import Client, gateway_door, send
from tests.acceptance.ledgers import drain
from tests.acceptance.link import Link
from tests.servers.answers import HANG
from tests.servers.http import HttpReceiver
from tests.stack import Stack

LEASE_S = "3"
MANY = 12  # more than a breaker needs to open
COUNTED = (
    "SELECT event, sum(count) FROM messaging_rollup WHERE event IN ('owed', 'delivered', 'attempt') GROUP BY event"
)


@pytest.mark.parametrize("word", ["ack", "nack"])
def test_one_word_of_a_client_ends_what_it_holds_under_an_old_lease_and_a_new_one_once(
    make_stack: Callable[..., Stack], word: str
) -> None:
    """The process that holds its socket slept, had the deliveries taken away, and pushed them again."""
    stack = make_stack(CONTROLPLANE_LEASE_S=LEASE_S)
    stack.start("web")
    stack.start("deliver")
    gateway_door(stack, "crm", timeout_s=60, retry_schedule_s=[600])
    with Client(stack, key=stack.key("operator", system="crm"), ping_interval=None) as client:
        client.hear()
        sent = [send(stack, "crm") for _ in range(5)]
        pushed = [client.hear()["delivery_id"] for _ in sent]
        stack.freeze("web")
        back = "SELECT count(*) FROM messaging_delivery WHERE losses = 1 AND state = 'pending'"
        stack.wait_for(lambda: stack.sql(back) == [(len(sent),)], 60, what="the deliveries taken back")
        stack.signal("web", signal.SIGCONT)
        assert sorted(client.hear(60)["delivery_id"] for _ in sent) == sorted(pushed)
        for delivery_id in pushed:
            client.say(type=word, delivery_id=delivery_id)
        stack.wait_for(lambda: "stale_finishes_refused" in stack.log("web"), what="the old ends being refused")
        stack.wait_for(lambda: dict(stack.sql(COUNTED)).get("attempt", 0) >= len(sent), what="the new ends")

    lost_and = ["delivered", "lost"] if word == "ack" else ["lost", "retry"]
    outcomes = [
        sorted(outcome for (outcome,) in stack.sql("SELECT outcome FROM messaging_attempt WHERE delivery_id = ?", row))
        for (row,) in stack.sql("SELECT id FROM messaging_delivery")
    ]
    assert outcomes == [lost_and] * len(sent)
    expected: dict[str, Any] = {"owed": 5, "attempt": 5} | ({"delivered": 5} if word == "ack" else {})
    assert {event: int(count) for event, count in stack.sql(COUNTED)} == expected


def test_tries_that_were_taken_over_open_no_breaker(
    make_stack: Callable[..., Stack], http_receiver: HttpReceiver
) -> None:
    """They time out all at once when their process wakes up; meanwhile another delivered them."""
    stack = make_stack(CONTROLPLANE_LEASE_S=LEASE_S)
    stack.start("web")
    stack.start("deliver")
    http_receiver.answer(HANG)
    link = Link(stack, http_receiver.url, timeout_s=6, max_in_flight=16)
    for _ in range(MANY):
        link.send()
    http_receiver.wait_for(MANY)
    stack.freeze("deliver")
    http_receiver.answer(200)
    stack.start("deliver", name="second")
    drain(stack)
    stack.signal("deliver", signal.SIGCONT)
    stack.wait_for(lambda: "stale_finishes_refused" in stack.log("deliver"), 60, what="the late ends being refused")
    stack.kill("second")

    assert link.ended(link.send())["state"] == "delivered"  # by the one that slept: its own gate is open, too
    assert (
        stack.sql("SELECT state, healed_at FROM endpoints_breaker WHERE state <> 'closed' OR healed_at IS NOT NULL")
        == []
    )
