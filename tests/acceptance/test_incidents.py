"""Incidents over real processes: what breaks is told once, what heals is told once, whoever is killed meanwhile."""

from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from tests.acceptance.link import Link
from tests.servers.http import HttpReceiver, Received
from tests.stack import Stack

MakeStack = Callable[..., Stack]
QUICK = {
    "CONTROLPLANE_INCIDENT_SETTLE_S": "2",
    "CONTROLPLANE_INCIDENT_GATHER_S": "1",
    "CONTROLPLANE_INCIDENT_REOPEN_S": "3",
}
HEALS_S = 60


@pytest.fixture
def chat() -> Iterator[HttpReceiver]:
    """Yield a receiver of notices, as a chat's incoming webhook is one."""
    with HttpReceiver() as receiver:
        yield receiver


def watched(make_stack: MakeStack, chat: HttpReceiver, **settings: str) -> Stack:
    """Return a stack with everything running, whose notices go to `chat`."""
    stack = make_stack(**{**QUICK, **settings})
    for role in ("web", "deliver", "monitor"):
        stack.start(role)
    stack.register("chat", chat.url)
    answer = stack.api("POST", "notice-targets/", json={"target": "chat"})
    assert answer.status_code == 201, answer.text
    return stack


def said(chat: HttpReceiver) -> list[dict[str, Any]]:
    """Return the notices that arrived, each once: a retry of ours would carry the same id."""
    found: dict[str, Received] = {}
    for request in list(chat.received):
        found.setdefault(request.headers["webhook-id"], request)
    return [orjson.loads(request.body) for request in found.values()]


def events(chat: HttpReceiver) -> list[str]:
    return [notice["event"] for notice in said(chat)]


def break_it(link: Link, receiver: HttpReceiver, count: int = 12) -> None:
    """Have so many messages fail that the breaker opens."""
    receiver.answer(500)
    answer = link.stack.api("POST", "messages/", json=[link.message() for _ in range(count)])
    assert answer.json()["accepted"] == count, answer.text


def incidents(stack: Stack, **query: str) -> list[dict[str, Any]]:
    answer = stack.api("GET", "incidents/", params=query)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["results"])


def test_a_broken_endpoint_is_told_once_and_its_healing_once_over_a_killed_monitor(
    make_stack: MakeStack, http_receiver: HttpReceiver, chat: HttpReceiver
) -> None:
    """The breaker opens: one notice. It closes: one notice. SIGKILL of the monitor in between changes neither."""
    stack = watched(make_stack, chat)
    link = Link(stack, http_receiver.url)
    break_it(link, http_receiver)
    chat.wait_for(1, HEALS_S)
    stack.kill("monitor")
    stack.start("monitor")
    stack.start("monitor", name="monitor-2")
    [incident] = incidents(stack, open="true")
    http_receiver.answer(200)
    chat.wait_for(2, HEALS_S)
    stack.wait_for(lambda: incidents(stack, open="false"), 20, "a resolved incident")

    opened, resolved = said(chat)
    assert (opened["event"], resolved["event"]) == ("incident.opened", "incident.resolved")
    assert {opened["incident_id"], resolved["incident_id"]} == {incident["id"]}
    assert opened["system"] == link.target
    assert opened["cause"] == "breaker"
    assert opened["url"] == f"{stack.url}/admin/incidents/{incident['id']}/"
    assert "500" in opened["text"]
