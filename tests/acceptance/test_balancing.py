"""Endpoints of one interface share what comes: by policy, lowest tier first, and each attempt says which it used."""

from collections import Counter
from typing import Any

import pytest

from tests.acceptance.link import Link
from tests.servers.answers import Answer
from tests.servers.http import HttpReceiver
from tests.stack import Stack

COUNT = 24


def replicas(stack: Stack, receiver: HttpReceiver, policy: str, *others: dict[str, Any]) -> tuple[Link, dict[str, str]]:
    """Register endpoints `/one`, `/two`, ... of one interface; return the link and {endpoint id: path}."""
    first, *rest = others
    link = Link(stack, f"{receiver.url}/one", name="one", balancing=policy, retry_schedule_s=[0.1], **first)
    paths = {link.endpoint: "/one"}
    address = {"system": link.target, "protocol": "http", "host": "127.0.0.1", "port": receiver.port}
    quick = {"balancing": policy, "retry_schedule_s": [0.1]}
    for name, more in zip(("two", "three"), rest, strict=False):
        made = stack.api("POST", "endpoints/", json={**address, "name": name, "path": f"/{name}", **quick, **more})
        assert made.status_code == 201, made.text
        paths[made.json()["id"]] = f"/{name}"
    return link, paths


def all_used(link: Link, receiver: HttpReceiver, *paths: str) -> None:
    """Return once the engine follows the registry: each of the endpoints gets something."""

    def are_used() -> bool:
        link.ended(link.send())
        return {request.path for request in receiver.received} >= set(paths)

    link.stack.wait_for(are_used, 30, "every endpoint being used")
    receiver.clear()


def send_all(link: Link, count: int = COUNT) -> list[dict[str, Any]]:
    """Send so many, one after the other; return their deliveries."""
    return [link.ended(link.send(payload={"n": n})) for n in range(count)]


def shares(receiver: HttpReceiver) -> dict[str, int]:
    return dict(Counter(request.path for request in receiver.received))


def test_round_robin_gives_each_the_same(shared_stack: Stack, http_receiver: HttpReceiver) -> None:
    """And every attempt names the endpoint it went to."""
    link, paths = replicas(shared_stack, http_receiver, "round_robin", {}, {}, {})
    all_used(link, http_receiver, *paths.values())
    found = send_all(link)

    assert {path: round(count / 8) for path, count in shares(http_receiver).items()} == dict.fromkeys(paths.values(), 1)
    sent = {request.headers["webhook-id"]: request.path for request in http_receiver.received}
    for delivery in found:
        [attempt] = delivery["attempt_list"]
        assert paths[attempt["endpoint"]] == paths[delivery["endpoint"]] == sent[delivery["id"]]


def test_weighted_gives_each_by_its_weight(shared_stack: Stack, http_receiver: HttpReceiver) -> None:
    link, _ = replicas(shared_stack, http_receiver, "weighted", {"weight": 1}, {"weight": 3})
    all_used(link, http_receiver, "/one", "/two")
    send_all(link)

    found = shares(http_receiver)
    assert abs(found["/two"] - 18) <= 2
    assert sum(found.values()) == COUNT


def test_least_in_flight_avoids_the_slow_one(shared_stack: Stack, http_receiver: HttpReceiver) -> None:
    """While one hangs on to what it got, the other takes what comes."""
    link, _ = replicas(shared_stack, http_receiver, "least_in_flight", {"max_in_flight": 4}, {"max_in_flight": 4})
    all_used(link, http_receiver, "/one", "/two")
    http_receiver.answer(lambda request: Answer(200, delay_s=2.0 if request.path == "/one" else 0.0))
    batch = [link.message(payload={"n": n}) for n in range(COUNT)]
    assert link.stack.api("POST", "messages/", json=batch).json()["accepted"] == COUNT
    http_receiver.wait_for(COUNT, 30)

    found = shares(http_receiver)
    assert found["/one"] <= COUNT // 3 < found["/two"]


@pytest.mark.parametrize("policy", ["failover", "round_robin"])
def test_a_higher_tier_is_used_only_when_no_other_can_be(
    shared_stack: Stack, http_receiver: HttpReceiver, policy: str
) -> None:
    """The lowest tier takes all; paused, the next takes over; resumed, it has it back."""
    link, paths = replicas(shared_stack, http_receiver, policy, {"tier": 0}, {"tier": 1})
    send_all(link, 6)
    assert shares(http_receiver) == {"/one": 6}

    link.act(f"endpoints/{link.endpoint}/pause/")
    shared_stack.wait_for(lambda: paths[link.ended(link.send())["endpoint"]] == "/two", 30, "the second tier")
    link.act(f"endpoints/{link.endpoint}/resume/")
    shared_stack.wait_for(lambda: paths[link.ended(link.send())["endpoint"]] == "/one", 30, "the first tier again")


def test_failover_uses_the_first_and_a_full_one_overflows(shared_stack: Stack, http_receiver: HttpReceiver) -> None:
    """Within a tier the first by name; only what it has no place for goes to the next."""
    link, _ = replicas(shared_stack, http_receiver, "failover", {"max_in_flight": 1}, {"max_in_flight": 1})
    send_all(link, 6)
    assert shares(http_receiver) == {"/one": 6}

    http_receiver.answer(Answer(200, delay_s=0.3))

    def overflows() -> bool:
        batch = [link.message(payload={"n": n}) for n in range(4)]
        assert link.stack.api("POST", "messages/", json=batch).json()["accepted"] == 4
        return shares(http_receiver).get("/two", 0) >= 1

    shared_stack.wait_for(overflows, 30, "the second one being used")
    assert shares(http_receiver)["/one"] >= 6
