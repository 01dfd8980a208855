"""The life of a message over the API: when it is due, when it ends, and what a person can do to it."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.acceptance.link import Link, seconds_between
from tests.servers.answers import Answer
from tests.servers.http import HttpReceiver, Received
from tests.stack import Stack

SOON_S = 1.5


@pytest.fixture
def link(shared_stack: Stack, http_receiver: HttpReceiver) -> Link:
    return Link(shared_stack, http_receiver.url, retry_schedule_s=[0.1])


def soon(seconds: float = SOON_S) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def numbers(receiver: HttpReceiver) -> list[int]:
    """Return the `n` of every payload received, in order of arrival."""
    return [int(request.body.decode().split(":")[1].rstrip("}")) for request in receiver.received]


# --- when ------------------------------------------------------------------------


def test_a_message_that_cannot_be_delivered_expires(link: Link, http_receiver: HttpReceiver) -> None:
    """Its time to live counts from acceptance; whoever waits for it is told `expired`, not `dead`."""
    http_receiver.answer(500)
    found = link.ended(link.send(ttl=SOON_S))

    assert (found["state"], found["reason"]) == ("expired", "ttl")
    assert seconds_between(found["created_at"], found["finished_at"]) >= SOON_S
    assert found["attempts"] >= 1


def test_a_message_that_was_held_too_long_expires_unsent(link: Link, http_receiver: HttpReceiver) -> None:
    link.act(f"endpoints/{link.endpoint}/pause/")
    found = link.ended(link.send(ttl=0.5))

    assert (found["state"], found["attempts"], http_receiver.received) == ("expired", 0, [])


def test_a_message_is_not_sent_before_its_time(link: Link, http_receiver: HttpReceiver) -> None:
    """It waits as `scheduled`, and goes when its time has come."""
    message_id = link.send(deliver_at=soon(4))
    waiting = link.delivery(message_id)
    found = link.ended(message_id)

    assert (waiting["state"], waiting["reason"], found["state"]) == ("pending", "scheduled", "delivered")
    late_s = http_receiver.received[0].at - datetime.fromisoformat(waiting["due_at"]).timestamp()
    assert 0 <= late_s < 5


def test_higher_priorities_go_first(link: Link, http_receiver: HttpReceiver) -> None:
    """Of what waits for one receiver; within a priority the oldest first."""
    shared = Link(link.stack, http_receiver.url, max_in_flight=1)
    shared.act(f"endpoints/{shared.endpoint}/pause/")
    sent = ["low", "normal", "emergency", "high", "critical", "normal"]
    ids = [shared.send(priority=priority, payload={"n": n}) for n, priority in enumerate(sent)]
    shared.until(ids[-1], "pending", reason="paused")
    shared.act(f"endpoints/{shared.endpoint}/resume/")
    http_receiver.wait_for(len(sent))

    order = [sent[n] for n in numbers(http_receiver)]
    assert order[0] == "emergency"
    assert [request.headers["x-priority"] for request in http_receiver.received] == order
    assert order.index("critical") < order.index("high") < order.index("normal") < order.index("low")


# --- what a person does ----------------------------------------------------------


def test_a_waiting_delivery_can_be_cancelled(link: Link, http_receiver: HttpReceiver) -> None:
    """Once; what has ended cannot."""
    delivery = link.delivery(link.send(deliver_at=soon(3600)))
    cancelled = link.act(f"deliveries/{delivery['id']}/cancel/")
    again = link.stack.api("POST", f"deliveries/{delivery['id']}/cancel/")

    assert (cancelled["state"], cancelled["reason"]) == ("cancelled", "operator")
    assert (again.status_code, again.json()["code"]) == (409, "wrong_state")
    assert http_receiver.received == []


def test_a_dead_delivery_sent_again_is_the_same_delivery(link: Link, http_receiver: HttpReceiver) -> None:
    """Same webhook-id, same bytes, a new budget; its history keeps both parts."""
    http_receiver.answer(404)
    dead = link.ended(link.send(payload={"order": 4711}))
    http_receiver.answer(200)
    link.act(f"deliveries/{dead['id']}/resend/")
    found = link.until(dead["message_id"], "delivered")

    first, second = http_receiver.wait_for(2)
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == dead["id"] == found["id"]
    assert first.body == second.body
    assert [(row["outcome"], row["trigger"]) for row in found["attempt_list"]] == [
        *[("dead", "scheduled"), ("delivered", "manual")]
    ]


def test_a_delivered_one_can_be_sent_again_whatever_its_keys(link: Link, http_receiver: HttpReceiver) -> None:
    """A person's wish is not swallowed as a duplicate."""
    done = link.ended(link.send(idempotency_key="k", message_id="m"))
    link.act(f"deliveries/{done['id']}/resend/")

    http_receiver.wait_for(2)
    assert link.until("m", "delivered")["attempts"] == 2


@pytest.mark.parametrize("what", ["endpoint", "interface", "system"])
def test_a_pause_holds_and_a_resume_lets_go(link: Link, http_receiver: HttpReceiver, what: str) -> None:
    """Of an endpoint, a door or a whole system: nothing is sent, nothing is spent, nothing is lost."""
    path, body = {
        "endpoint": (f"endpoints/{link.endpoint}", {}),
        "interface": (f"systems/{link.target}", {"interface": "main"}),
        "system": (f"systems/{link.target}", {}),
    }[what]
    link.act(f"{path}/pause/", {**body, "reason": "maintenance of the rack"})
    message_id = link.send()
    held = link.until(message_id, "pending", reason="paused")
    with HttpReceiver() as elsewhere:
        other = Link(link.stack, elsewhere.url)
        assert other.ended(other.send())["state"] == "delivered"
    assert http_receiver.received == []

    link.act(f"{path}/resume/", body)
    assert (held["attempts"], link.ended(message_id)["attempts"]) == (0, 1)


def test_a_pause_that_names_its_end_ends_by_itself(link: Link) -> None:
    link.act(f"endpoints/{link.endpoint}/pause/", {"until": soon(3)})
    found = link.ended(link.send())

    assert found["state"] == "delivered"
    assert link.stack.api("GET", f"endpoints/{link.endpoint}/").json()["state"] == "enabled"


def test_a_new_address_makes_every_retry_due(shared_stack: Stack, http_receiver: HttpReceiver) -> None:
    """Whoever mends an endpoint need not wait out the old delays."""
    with HttpReceiver() as broken:
        link = Link(shared_stack, broken.url, retry_schedule_s=[3600])
        link.ended(link.send())  # the engine knows the endpoint: its registration is no news any more
        broken.answer(500)
        message_id = link.send()
        link.until(message_id, "pending", reason="retrying")
        changed = {"port": http_receiver.port}
        assert shared_stack.api("PATCH", f"endpoints/{link.endpoint}/", json=changed).status_code == 200

        # Without news of the endpoint the second try would be an hour away.
        assert link.until(message_id, "delivered")["attempts"] == 2
    assert len(http_receiver.received) == 1


def test_siblings_take_over_from_one_that_is_paused(shared_stack: Stack, http_receiver: HttpReceiver) -> None:
    """Endpoints of one interface are replicas: while one can be used, nothing is held."""
    with HttpReceiver() as other:
        link = Link(shared_stack, http_receiver.url)
        address = {"system": link.target, "protocol": "http", "host": "127.0.0.1", "path": "/"}
        shared_stack.api("POST", "endpoints/", json={**address, "name": "two", "port": other.port})
        link.act(f"endpoints/{link.endpoint}/pause/")
        shared_stack.wait_for(
            lambda: link.ended(link.send())["endpoint"] != link.endpoint, what="the sibling taking over"
        )
        assert other.received


# --- waiting and answering ---------------------------------------------------------


def waited(link: Link, seconds: float, **fields: Any) -> tuple[int, dict[str, Any]]:
    answer = link.stack.api("POST", f"messages/?wait={seconds}", json=link.message(**fields))
    return answer.status_code, answer.json()


def test_a_caller_who_waits_is_told_the_end(link: Link) -> None:
    """200 with the delivery as the API shows it."""
    status, body = waited(link, 30)

    assert (status, body["status"], body["response"]) == (200, "accepted", None)
    assert [row["state"] for row in body["deliveries"]] == ["delivered"]


def test_a_caller_who_waits_too_shortly_is_told_how_far_it_is(link: Link, http_receiver: HttpReceiver) -> None:
    """202, of the same shape."""
    http_receiver.answer(Answer(200, delay_s=30))
    started = time.monotonic()
    status, body = waited(link, 0.5)

    assert (status, body["status"], body["response"]) == (202, "accepted", None)
    assert body["deliveries"][0]["state"] in ("pending", "sending")
    assert time.monotonic() - started < 20


def test_one_who_gives_up_does_not_end_the_wait_of_another(link: Link, http_receiver: HttpReceiver) -> None:
    """Two wait for the same message, each as long as it asked to."""
    http_receiver.answer(Answer(200, delay_s=4))
    with ThreadPoolExecutor(1) as pool:
        patient = pool.submit(waited, link, 30, message_id="m-1")
        http_receiver.wait_for(1)
        assert waited(link, 0.2, message_id="m-1")[0] == 202
        status, body = patient.result(60)

    assert (status, body["deliveries"][0]["state"]) == (200, "delivered")


def test_a_request_brings_its_response_back(link: Link, http_receiver: HttpReceiver) -> None:
    """What the receiver answered is a message of its own, from the target, about the request."""
    http_receiver.answer(Answer(200, b'{"answer":42}', {"Content-Type": "application/json"}))
    status, body = waited(link, 30, message_type="request", message_id="ask-1", correlation_id="c-1")

    response = body["response"]
    assert status == 200
    assert (response["message_type"], response["source_system"]) == ("response", link.target)
    assert (response["payload"], response["correlation_id"]) == ({"answer": 42}, "c-1")


def test_a_response_goes_where_the_request_says(shared_stack: Stack, http_receiver: HttpReceiver) -> None:
    """`reply_to` makes a delivery of it."""
    with HttpReceiver() as asking:
        link, home = Link(shared_stack, http_receiver.url), Link(shared_stack, asking.url)
        http_receiver.answer(Answer(200, b"yes", {"Content-Type": "text/plain"}))
        link.send(message_type="request", reply_to=home.target)
        [answer] = asking.wait_for(1)

    assert (answer.body, answer.headers["x-message-type"]) == (b"yes", "response")
    assert answer.headers["x-source-system"] == link.target


def test_a_response_that_is_no_text_is_kept_byte_for_byte(link: Link, http_receiver: HttpReceiver) -> None:
    """However odd its headers, an answer harms neither the engine nor a list."""
    http_receiver.answer(Answer(200, b"\xff\x00", {"Content-Type": "text/\xff\xfe"}))
    status, body = waited(link, 30, message_type="request")

    assert status == 200
    assert body["response"]["payload_base64"] == "/wA="
    assert link.stack.api("GET", "messages/").status_code == 200


# --- where -------------------------------------------------------------------------


def test_a_door_is_addressed_by_its_name(link: Link, shared_stack: Stack, http_receiver: HttpReceiver) -> None:
    """`/to/system/interface` and `system/interface` reach that door and no other."""
    with HttpReceiver() as orders:
        door = {"system": link.target, "interface": "orders", "protocol": "http", "host": "127.0.0.1", "path": "/"}
        assert shared_stack.api("POST", "endpoints/", json={**door, "port": orders.port}).status_code == 201

        def sent() -> bool:
            headers = {"X-Source-System": link.source, "X-Event-Type": "order.made"}
            path = f"/to/{link.target}/orders"
            return shared_stack.api("POST", path, data=b"raw", headers=headers).status_code == 202

        shared_stack.wait_for(sent, what="the new door being known")
        link.send(target_system=f"{link.target}/orders")
        received = orders.wait_for(2)

    assert {request.body for request in received} == {b"raw", b'{"n":1}'}
    assert http_receiver.received == []


def test_a_message_to_many_is_one_delivery_each(shared_stack: Stack, http_receiver: HttpReceiver) -> None:
    """One that refuses does not keep it from the others."""
    with HttpReceiver() as refusing:
        refusing.answer(404)
        one, two = Link(shared_stack, http_receiver.url), Link(shared_stack, refusing.url)
        answer = one.post(target_system=[one.target, two.target]).json()
        path = f"messages/{answer['message_id']}/"
        shared_stack.wait_for(
            lambda: (
                {row["state"] for row in shared_stack.api("GET", path).json()["deliveries"]} == {"delivered", "dead"}
            ),
            what="both ends",
        )

    assert answer["deliveries"] == 2


def test_a_message_to_nobody_is_accepted_and_unrouted(link: Link, http_receiver: HttpReceiver) -> None:
    """It is in the history, and the books know of it."""
    answer = link.post(target_system=None).json()
    shown = link.stack.api("GET", f"messages/{answer['message_id']}/").json()

    assert (answer["deliveries"], shown["unrouted"], shown["deliveries"]) == (0, True, [])


# --- order -------------------------------------------------------------------------


def test_each_key_keeps_its_order_over_retries(shared_stack: Stack, http_receiver: HttpReceiver) -> None:
    """The head fails twice and its followers wait; other keys go on. Inversions: 0."""
    keys, each = ("a", "b", "c"), 8
    failures = {("a", 0): 2, ("b", 3): 2}

    def answer(request: Received) -> int:
        spot = (request.headers["x-event-type"], int(request.body.decode().split(":")[1].rstrip("}")))
        failures[spot] = failures.get(spot, 0) - 1
        return 500 if failures[spot] >= 0 else 200

    http_receiver.answer(answer)
    link = Link(shared_stack, http_receiver.url, retry_schedule_s=[0.3])
    batch = [link.message(ordering_key=key, event_type=key, payload={"n": n}) for n in range(each) for key in keys]
    assert shared_stack.api("POST", "messages/", json=batch).json()["accepted"] == len(batch)
    received = http_receiver.wait_for(len(batch) + 4, 30)

    seen: dict[str, list[int]] = {key: [] for key in keys}
    for request in received:
        seen[request.headers["x-event-type"]].append(int(request.body.decode().split(":")[1].rstrip("}")))
    assert seen["a"] == [0, 0, *range(each)]
    assert seen["b"] == [0, 1, 2, 3, 3, *range(3, each)]
    assert seen["c"] == list(range(each))
    assert received.index(next(r for r in received if r.headers["x-event-type"] == "c")) < len(received) - each


def test_a_dead_head_frees_its_followers(link: Link, http_receiver: HttpReceiver) -> None:
    """The policy `block`: the next moves on once the head is dead."""
    http_receiver.answer(404, 200)
    first, second = (link.send(ordering_key="k", payload={"n": n}) for n in (0, 1))

    assert (link.ended(first)["state"], link.ended(second)["state"]) == ("dead", "delivered")
    assert numbers(http_receiver) == [0, 1]


def test_a_cancelled_head_frees_its_followers(link: Link, http_receiver: HttpReceiver) -> None:
    """A scheduled head blocks too, until a person takes it away."""
    head = link.send(ordering_key="k", deliver_at=soon(3600))
    follower = link.send(ordering_key="k")
    link.ended(link.send())
    assert link.delivery(follower)["state"] == "pending"

    link.act(f"deliveries/{link.delivery(head)['id']}/cancel/")
    assert link.ended(follower)["state"] == "delivered"
