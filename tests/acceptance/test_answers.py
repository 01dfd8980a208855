"""How each kind of answer ends a delivery: state, reason, error class and tries, over real HTTP."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest

from tests.acceptance.link import Link
from tests.servers import answers
from tests.servers.answers import Answer, redirect
from tests.servers.http import HttpReceiver, Script
from tests.stack import Stack

REFUSAL = Answer(200, b'{"ok":false}', {"Content-Type": "application/json"})
HOSTILE = Answer(200, b"\xff\x00", {"Content-Type": "text/\xff\xfe", "X-Odd": "\xfe"})


@dataclass(frozen=True)
class Case:
    """What a receiver says, and how the delivery ends: (state, reason, error class, tries that count)."""

    script: tuple[Script, ...]
    end: tuple[str, str, str | None, int]
    endpoint: dict[str, Any] = field(default_factory=dict)
    message: dict[str, Any] = field(default_factory=dict)


def rule(verdict: str) -> dict[str, Any]:
    return {"outcomes": [{"when": {"body.$.ok": {"eq": False}}, "is": verdict}], "max_attempts": 2}


CASES = {
    "200": Case((200,), ("delivered", "sent", None, 1)),
    "500 twice, then 200": Case((500, 500, 200), ("delivered", "sent", None, 3)),
    "500 for ever": Case((500,), ("dead", "exhausted", "server_error", 3), {"max_attempts": 3}),
    "500 with max_retries 0": Case((500,), ("dead", "exhausted", "server_error", 1), message={"max_retries": 0}),
    "max_retries only lowers": Case(
        (500,), ("dead", "exhausted", "server_error", 2), {"max_attempts": 2}, {"max_retries": 50}
    ),
    "404": Case((404,), ("dead", "refused", "client_error", 1)),
    "401": Case((401,), ("dead", "exhausted", "auth", 2), {"max_attempts": 2}),
    "408, then 200": Case((408, 200), ("delivered", "sent", None, 2)),
    "425, then 200": Case((425, 200), ("delivered", "sent", None, 2)),
    "429, then 200": Case((Answer(429, headers={"Retry-After": "1"}), 200), ("delivered", "sent", None, 1)),
    "ok: false means retry": Case((REFUSAL,), ("dead", "exhausted", "nack", 2), rule("retry")),
    "ok: false means dead": Case((REFUSAL,), ("dead", "refused", "nack", 1), rule("dead")),
    "404 means delivered": Case(
        (404,), ("delivered", "sent", None, 1), {"outcomes": [{"when": {"status": {"eq": 404}}, "is": "delivered"}]}
    ),
    "never": Case((answers.HANG,), ("dead", "exhausted", "timeout", 2), {"timeout_s": 0.4, "max_attempts": 2}),
    "10 GB": Case((answers.HUGE,), ("delivered", "sent", None, 1)),
    "10 GB of a refusal by rule": Case((answers.HUGE, 200), ("delivered", "sent", None, 1), rule("dead")),
    "a body that drips": Case((answers.DRIP,), ("delivered", "sent", None, 1), {"timeout_s": 0.5}),
    "a head that drips": Case(
        (answers.DRIP_HEAD,), ("dead", "exhausted", "timeout", 1), {"timeout_s": 0.5, "max_attempts": 1}
    ),
    "a gzip bomb": Case((answers.GZIP_BOMB,), ("delivered", "sent", None, 1)),
    "another protocol": Case((answers.NOT_HTTP,), ("dead", "exhausted", "protocol", 1), {"max_attempts": 1}),
    "a reset, then 200": Case((answers.RESET, 200), ("delivered", "sent", None, 2)),
    "hanging up, then 200": Case((answers.HANG_UP, 200), ("delivered", "sent", None, 2)),
    "bytes that are no text": Case((HOSTILE,), ("delivered", "sent", None, 1)),
    "bytes that are no text, to a request": Case(
        (HOSTILE,), ("delivered", "sent", None, 1), message={"message_type": "request"}
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_an_answer_ends_a_delivery_as_the_table_says(
    shared_stack: Stack, http_receiver: HttpReceiver, case: Case
) -> None:
    """State, reason, class and spent tries; as many requests as attempts on record, all under one webhook-id."""
    http_receiver.answer(*case.script)
    link = Link(shared_stack, http_receiver.url, **case.endpoint)

    found = link.ended(link.send(**case.message))

    assert (found["state"], found["reason"], found["error_class"], found["attempts"]) == case.end
    assert len(found["attempt_list"]) == len(http_receiver.received)
    assert {request.headers["webhook-id"] for request in http_receiver.received} == {found["id"]}


def test_a_429_waits_as_asked_and_spends_nothing(shared_stack: Stack, http_receiver: HttpReceiver) -> None:
    """Throttling says that the receiver is well, only busy."""
    http_receiver.answer(Answer(429, headers={"Retry-After": "2"}), 200)
    link = Link(shared_stack, http_receiver.url, max_attempts=1)

    found = link.ended(link.send())

    assert [attempt["outcome"] for attempt in found["attempt_list"]] == ["throttled", "delivered"]
    first, second = (datetime.fromisoformat(attempt["started_at"]) for attempt in found["attempt_list"])
    assert (second - first).total_seconds() >= 2


def test_of_an_endless_answer_only_the_beginning_is_kept(shared_stack: Stack, http_receiver: HttpReceiver) -> None:
    """10 GB cost 16 KiB."""
    http_receiver.answer(answers.HUGE)
    link = Link(shared_stack, http_receiver.url)

    [attempt] = link.ended(link.send())["attempt_list"]

    assert attempt["response"]["truncated"]
    assert len(attempt["response"]["body"]) == 16 * 1024


def test_a_redirect_is_final_and_never_followed(shared_stack: Stack, http_receiver: HttpReceiver) -> None:
    """Where a redirect leads was not checked, so nobody goes there."""
    with HttpReceiver() as canary:
        http_receiver.answer(redirect(f"{canary.url}/secret"))
        link = Link(shared_stack, http_receiver.url)

        found = link.ended(link.send())

        assert (found["state"], found["reason"], found["error_class"]) == ("dead", "refused", "protocol")
        assert found["attempts"] == 1
        assert canary.connections == 0


def test_an_address_outside_of_the_zones_is_never_connected(make_stack: Callable[..., Stack]) -> None:
    """What may be reached can change after an endpoint was registered: each send is checked anew."""
    with HttpReceiver() as canary:
        stack = make_stack()
        stack.start("web")
        link = Link(stack, canary.url)
        message_id = link.send()

        stack.start("deliver", env={"CONTROLPLANE_EGRESS_ZONES": "10.0.0.0/8"})
        found = link.ended(message_id)

        assert (found["state"], found["reason"], found["error_class"]) == ("dead", "address", "blocked_address")
        assert (found["attempts"], canary.connections) == (1, 0)


def test_nobody_listening_is_retried_until_somebody_does(shared_stack: Stack) -> None:
    """A receiver that is down costs time, not messages."""
    receiver = HttpReceiver().start()
    receiver.stop()
    link = Link(shared_stack, receiver.url, retry_schedule_s=[0.2])
    message_id = link.send()
    waiting = link.until(message_id, "pending", reason="retrying")

    receiver.start()
    found = link.ended(message_id)
    receiver.stop()

    assert waiting["error_class"] == "connect"
    assert found["state"] == "delivered"


def test_a_410_buries_one_and_pauses_the_endpoint_for_the_others(
    shared_stack: Stack, http_receiver: HttpReceiver
) -> None:
    """Gone is said for good, yet the next message waits for a person instead of dying too."""
    http_receiver.answer(410)
    link = Link(shared_stack, http_receiver.url)

    dead = link.ended(link.send())
    shared_stack.wait_for(
        lambda: shared_stack.api("GET", f"endpoints/{link.endpoint}/").json()["state"] == "paused", what="a pause"
    )
    next_one = link.send()
    waiting = link.until(next_one, "pending", reason="paused")
    http_receiver.answer(200)
    link.act(f"endpoints/{link.endpoint}/resume/")
    delivered = link.ended(next_one)

    assert (dead["state"], dead["reason"], dead["error_class"], dead["attempts"]) == (
        *("dead", "refused", "client_error"),
        1,
    )
    assert (waiting["attempts"], delivered["state"]) == (0, "delivered")


def test_endpoints_that_hang_do_not_slow_the_others(shared_stack: Stack, http_receiver: HttpReceiver) -> None:
    """Each interface has its own lane: a hundred that wait for a dead one hold up nobody."""
    with HttpReceiver() as dead:
        dead.answer(answers.HANG)
        stuck = Link(shared_stack, dead.url, timeout_s=60, max_attempts=1)
        batch = [stuck.message() for _ in range(100)]
        assert shared_stack.api("POST", "messages/", json=batch).json()["accepted"] == 100
        dead.wait_for(1)
        link = Link(shared_stack, http_receiver.url)

        assert link.ended(link.send())["state"] == "delivered"
        of_stuck = "system_id = (SELECT id FROM endpoints_system WHERE slug = ?)"
        states = shared_stack.sql(f"SELECT DISTINCT state FROM messaging_delivery WHERE {of_stuck}", stuck.target)
        assert sorted(states) == [("pending",), ("sending",)], "all of them were to wait still"
        shared_stack.sql(
            "UPDATE messaging_delivery SET state = 'cancelled', reason = 'operator', finished_at = created_at"
            f" WHERE state = 'pending' AND {of_stuck}",
            stuck.target,
        )
