"""Messages over WebSocket to a peer on Node.js, through real processes."""

import time
from collections.abc import Callable

from tests.acceptance.link import Link
from tests.peers.foreign import node
from tests.servers.ports import free_port
from tests.servers.ws import Got, WsReceiver
from tests.stack import Stack


def test_what_node_answers_to_a_request_becomes_its_response(shared_stack: Stack) -> None:
    """The reply frame goes to `reply_to` as a message of its own, correlated with the request."""
    with node("ws.js", "ws") as port, WsReceiver() as caller:
        caller.answer("ok")
        link = Link(shared_stack, f"ws://127.0.0.1:{port}", config={"reply": "message", "compression": True})
        shared_stack.register(f"{link.source}-in", caller.url, config={"reply": "ack"})
        message_id = link.send(message_type="request", payload={"ask": "ä 🙂"}, reply_to=f"{link.source}-in")
        found = link.ended(message_id)
        [got] = caller.wait_for(1)

    assert (found["state"], found["ack_level"]) == ("delivered", "application")
    assert got.data == '{"ask":"ä 🙂"}'
    path = f"messages/?correlation_id={message_id}&message_type=response"
    [response] = shared_stack.api("GET", path).json()["results"]
    assert response["source_system"] == link.target


def test_many_messages_share_one_connection_and_node_acks_each_by_its_id(shared_stack: Stack) -> None:
    with node("ws.js", "ws", "ack") as port:
        config = {"reply": "ack", "match": "id", "body": "envelope"}
        link = Link(shared_stack, f"ws://127.0.0.1:{port}", config=config, max_in_flight=64)
        batch = [link.message() for _ in range(300)]
        results = shared_stack.api("POST", "messages/", json=batch).json()
        ids = [result["message_id"] for result in results["results"]]
        found = [link.ended(message_id) for message_id in ids[::50]]

    assert {one["state"] for one in found} == {"delivered"}
    assert {one["attempts"] for one in found} == {1}


def test_a_message_too_big_for_node_is_dead_and_the_next_goes_through(shared_stack: Stack) -> None:
    """1009 is final: the same bytes would be too big again."""
    with node("ws.js", "ws", "echo", "1000") as port:
        link = Link(shared_stack, f"ws://127.0.0.1:{port}", config={"reply": "message"})
        big = link.ended(link.send(payload="x" * 2000))
        small = link.ended(link.send(payload="x"))

    assert (big["state"], big["reason"], big["error_class"], big["attempts"]) == ("dead", "refused", "protocol", 1)
    assert small["state"] == "delivered"


def test_node_that_is_killed_and_comes_back_loses_nothing(shared_stack: Stack) -> None:
    port = free_port()
    with node("ws.js", "ws", port=port):
        link = Link(shared_stack, f"ws://127.0.0.1:{port}", config={"reply": "message"})
        first = link.ended(link.send())
    # Its connections are gone without a farewell, and nobody listens.
    waiting = link.send()
    link.until(waiting, "pending", reason="retrying")
    with node("ws.js", "ws", port=port):
        found = link.ended(waiting)

    assert (first["state"], found["state"]) == ("delivered", "delivered")
    assert found["attempt_list"][0]["error_class"] == "connect"


def test_a_nack_waits_as_long_as_it_asks(shared_stack: Stack) -> None:
    said: list[float] = []

    def answer(got: Got) -> str:
        said.append(time.monotonic())
        return '{"type": "nack", "reason": "busy", "retry_after_s": 1.5}' if len(said) == 1 else '{"type": "ack"}'

    with WsReceiver() as receiver:
        receiver.answer(answer)
        link = Link(shared_stack, receiver.url, config={"reply": "ack"})
        found = link.ended(link.send())

    assert [one["error_class"] for one in found["attempt_list"]] == ["nack", None]
    assert said[1] - said[0] >= 1.5


def test_a_worker_that_is_killed_while_frames_are_on_their_way_loses_none(make_stack: Callable[..., Stack]) -> None:
    """What was sent and not acknowledged is sent again by the next one."""
    with WsReceiver() as receiver:
        receiver.answer(None)
        stack = make_stack(CONTROLPLANE_LEASE_S="2")
        stack.start("web")
        stack.start("deliver")
        link = Link(stack, receiver.url, config={"reply": "ack"}, timeout_s=30)
        ids = [link.send(payload={"n": n}) for n in range(5)]
        receiver.wait_for(5)
        stack.kill("deliver")
        receiver.answer('{"type": "ack"}')
        stack.start("deliver")
        found = [link.ended(message_id) for message_id in ids]

    assert {one["state"] for one in found} == {"delivered"}
    assert {got.data for got in receiver.received} == {f'{{"n":{n}}}' for n in range(5)}
