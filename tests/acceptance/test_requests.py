"""Requests get their responses over any protocol: to the caller that waits, or as a message to `reply_to`."""

import base64
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from uuid import uuid4

import pytest

from tests.acceptance.gateway_client import Client
from tests.acceptance.inbox import PullLink
from tests.acceptance.link import Link
from tests.servers.answers import Answer
from tests.servers.http import HttpReceiver
from tests.servers.sockets import TcpReceiver
from tests.stack import Stack

# Each answers every request it gets with this.
ANSWER = '{"price": 1e2, "ok": true}'


@contextmanager
def over_http(stack: Stack) -> Iterator[Link]:
    with HttpReceiver() as receiver:
        receiver.answer(Answer(200, ANSWER.encode(), {"Content-Type": "application/json"}))
        yield Link(stack, receiver.url)


@contextmanager
def over_pull(stack: Stack) -> Iterator[Link]:
    link = PullLink(stack)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(_answer_one, link)
        yield link
        done.result()


def _answer_one(link: PullLink) -> None:
    [fetched] = link.inbox.fetch(wait=60)
    text = f'{{"attempt": {fetched["attempt"]}, "payload": {ANSWER}}}'
    path = f"{link.stack.url}/api/v1/deliveries/{fetched['delivery_id']}/ack/"
    assert link.inbox.session.post(path, data=text, timeout=30).status_code == 200


@contextmanager
def over_gateway(stack: Stack) -> Iterator[Link]:
    link = PullLink(stack, interface="other")  # its key is what we want of it
    door = stack.api("POST", "endpoints/", json={"system": link.target, "protocol": "gateway"})
    assert door.status_code == 201, door.text
    with ThreadPoolExecutor(1) as pool, Client(stack, key=link.new_key("operator")) as client:
        assert client.hear()["type"] == "ready"
        done = pool.submit(_reply_one, client)
        yield link
        done.result()


def _reply_one(client: Client) -> None:
    delivery = client.hear(60)
    client.socket.send(f'{{"type": "reply", "delivery_id": "{delivery["delivery_id"]}", "payload": {ANSWER}}}')


@contextmanager
def over_tcp(stack: Stack) -> Iterator[Link]:
    with TcpReceiver("line") as receiver:
        receiver.answer(ANSWER.encode())
        config = {"framing": "line", "reply": "message", "body": "envelope"}
        link = Link(stack, None)
        place = {"protocol": "tcp", "host": "127.0.0.1", "port": receiver.port, "config": config}
        answer = stack.api("POST", "endpoints/", json={"system": link.target, **place})
        assert answer.status_code == 201, answer.text
        yield link


WAYS: dict[str, Callable[[Stack], AbstractContextManager[Link]]] = {
    "http": over_http,
    "pull": over_pull,
    "gateway": over_gateway,
    "tcp": over_tcp,
}


def as_told(response: dict[str, Any]) -> Any:
    """Return what the receiver said: as JSON where the protocol can say so, else as the text it is."""
    return response["payload"] or base64.b64decode(response["payload_base64"]).decode()


@pytest.fixture(params=WAYS)
def link(request: pytest.FixtureRequest, shared_stack: Stack) -> Iterator[Link]:
    with WAYS[request.param](shared_stack) as link:
        yield link


def test_who_waits_gets_the_response(link: Link) -> None:
    """200 with the deliveries and the response, its JSON as the receiver wrote it."""
    body = link.message(message_type="request", event_type="price.asked", correlation_id="c-7")
    answer = link.stack.api("POST", "messages/?wait=30", json=body, timeout=60)
    found = answer.json()

    assert answer.status_code == 200
    assert [row["state"] for row in found["deliveries"]] == ["delivered"]
    response = found["response"]
    assert (response["message_type"], response["source_system"]) == ("response", link.target)
    assert (response["correlation_id"], response["event_type"]) == ("c-7", "price.asked")
    assert as_told(response) in ({"price": 100.0, "ok": True}, ANSWER)


def test_the_response_goes_to_reply_to(link: Link) -> None:
    """As a message of its own, whose id is the delivery's, correlated to the request."""
    home = PullLink(link.stack)
    link.stack.api("PATCH", f"systems/{home.target}/", json={"accepts_from": ["*"]})
    message_id = link.send(message_type="request", reply_to=home.target)
    [fetched] = home.inbox.fetch(wait=30)
    home.inbox.ack(fetched)

    response = fetched["message"]
    assert (response["message_type"], response["source_system"]) == ("response", link.target)
    assert response["correlation_id"] == message_id
    assert as_told(response) in ({"price": 100.0, "ok": True}, ANSWER)
    assert response["message_id"] == link.delivery(message_id)["id"]


def test_bytes_come_back_as_bytes(shared_stack: Stack) -> None:
    link = PullLink(shared_stack)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(_ask, link)
        [fetched] = link.inbox.fetch(wait=30)
        given = base64.b64encode(b"\x00\xff").decode()
        link.inbox.ack(fetched, payload_base64=given, content_type="image/png")
        response = waiting.result()["response"]

    assert (response["payload_base64"], response["content_type"]) == (given, "image/png")


def _ask(link: Link) -> dict[str, Any]:
    body = link.message(message_type="request")
    return dict(link.stack.api("POST", "messages/?wait=30", json=body, timeout=60).json())


def test_an_ack_without_a_reply_ends_the_wait_without_a_response(shared_stack: Stack) -> None:
    link = PullLink(shared_stack)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(_ask, link)
        link.inbox.ack(link.inbox.fetch(wait=30)[0])
        found = waiting.result()

    assert ([row["state"] for row in found["deliveries"]], found["response"]) == (["delivered"], None)


def test_a_reply_beyond_what_the_receiver_may_send_is_refused_and_the_lease_holds(shared_stack: Stack) -> None:
    link = PullLink(shared_stack)
    link.send(message_type="request", message_id=f"big-{uuid4().hex[:6]}")
    [fetched] = link.inbox.fetch()
    answer = link.inbox.say("ack", fetched, payload="x" * 1_100_000)

    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert link.inbox.ack(fetched, payload="short")["state"] == "delivered"


def test_an_answer_of_what_is_no_request_is_kept_nowhere_but_in_its_attempt(shared_stack: Stack) -> None:
    link = PullLink(shared_stack)
    message_id = link.send(message_type="event")
    link.inbox.ack(link.inbox.fetch()[0], payload={"thanks": True})
    [tried] = link.delivery(message_id)["attempt_list"]

    assert link.stack.api("GET", f"messages/?source_system={link.target}").json()["results"] == []
    assert '"thanks"' in tried["response"]["body"]


def test_an_answer_as_large_as_its_system_may_send_becomes_the_response(shared_stack: Stack) -> None:
    """The cap is the receiving system's own, not what every other one has; it counts from the moment it is changed."""
    answer = b'"' + b"x" * 1_500_000 + b'"'
    with HttpReceiver() as receiver:
        receiver.answer(Answer(200, answer, {"Content-Type": "application/json"}))
        link = Link(shared_stack, receiver.url)
        cut = _ask(link)
        [delivery] = cut["deliveries"]
        changed = shared_stack.api("PATCH", f"systems/{link.target}/", json={"max_message_bytes": 2_000_000})
        assert changed.status_code == 200, changed.text
        whole = shared_stack.wait_for(lambda: _ask(link)["response"], what="the whole answer")

    told = "no response was kept: the answer has more than the 1048576 bytes " + link.target
    found = link.delivery(cut["message_id"])
    [tried] = found["attempt_list"]
    assert (cut["response"], delivery["state"], tried["outcome"]) == (None, "delivered", "delivered")
    assert told in tried["error"]
    assert told in shared_stack.api("GET", f"deliveries/{found['id']}/why/").json()["text"]
    assert "answer_too_large" in shared_stack.log("deliver", 10_000)
    assert whole is not None
    assert as_told(whole) == "x" * 1_500_000


def test_a_request_that_is_sent_again_keeps_both_answers(shared_stack: Stack, http_receiver: HttpReceiver) -> None:
    """Also where both are the same; who asks what came of it gets the last, and a retry within a round adds none."""
    link = Link(shared_stack, http_receiver.url)
    message_id = f"asked-{uuid4().hex[:8]}"
    body = link.message(message_type="request", message_id=message_id)
    told = {"Content-Type": "application/json"}

    def answers() -> list[Any]:
        found = shared_stack.api("GET", f"messages/?correlation_id={message_id}&source_system={link.target}").json()
        names = reversed([row["message_id"] for row in found["results"]])
        shown = (shared_stack.api("GET", f"messages/{name}/?source_system={link.target}").json() for name in names)
        return [row["payload"] for row in shown]

    http_receiver.answer(Answer(200, b'{"n":1}', told))
    link.send(message_type="request", message_id=message_id)
    delivery = link.ended(message_id)
    for number, said in enumerate((b'{"n":1}', b'{"n":2}'), start=2):
        http_receiver.answer(Answer(503), Answer(200, said, told))
        link.act(f"deliveries/{delivery['id']}/resend/")
        assert link.until(message_id, "delivered")["state"] == "delivered"
        shared_stack.wait_for(lambda number=number: len(answers()) == number, what="one more answer")  # type: ignore[misc]
    last = shared_stack.api("POST", "messages/?wait=10", json=body).json()["response"]

    assert answers() == [{"n": 1}, {"n": 1}, {"n": 2}]
    assert last["payload"] == {"n": 2}
