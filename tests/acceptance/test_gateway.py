"""The gateway as a system's own client knows it: real sockets against real processes, on both databases."""

import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.stack import Stack


class Client:
    """One connection, a frame at a time."""

    def __init__(self, stack: Stack, *, key: str | None = None, system: str | None = None, **options: Any) -> None:
        url = stack.url.replace("http", "ws") + "/ws/v1/gateway/"
        headers = options.pop("additional_headers", {}) | ({"Authorization": f"Bearer {key}"} if key else {})
        self._opened = connect(url, additional_headers=headers, max_size=None, proxy=None, **options)
        self.socket: ClientConnection = self._opened.__enter__()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.__exit__(None, None, None)

    def say(self, **frame: Any) -> None:
        self.socket.send(orjson.dumps(frame).decode())

    def hear(self, timeout: float = 10) -> dict[str, Any]:
        return dict(orjson.loads(self.socket.recv(timeout)))

    def until_closed(self, timeout: float = 10) -> tuple[int, list[dict[str, Any]]]:
        """Return the close code, and what was said before."""
        heard = []
        deadline = time.monotonic() + timeout
        try:
            while True:
                heard.append(self.hear(max(0.01, deadline - time.monotonic())))
        except ConnectionClosed:
            assert self.socket.close_code is not None
            return self.socket.close_code, heard


Connect = Callable[..., Client]


@pytest.fixture(scope="session")
def bound(shared_stack: Stack) -> str:
    """Return the key of a system that sends and has a door at the gateway."""
    shared_stack.register("crm")
    shared_stack.register("gw-source")
    answer = shared_stack.api("POST", "endpoints/", json={"system": "crm", "protocol": "gateway", "timeout_s": 5})
    assert answer.status_code == 201, answer.text
    return shared_stack.key("operator", system="crm")


def test_a_message_is_acknowledged_once_it_is_stored(shared_stack: Stack, bound: str) -> None:
    with Client(shared_stack, key=bound) as client:
        assert client.hear() == {"type": "ready", "system": "crm"}
        client.say(type="send", ref="a1", message={"payload": {"n": 1}})
        ack = client.hear()

    assert (ack["type"], ack["ref"], ack["status"]) == ("ack", "a1", "accepted")
    stored = shared_stack.sql("SELECT message_id FROM messaging_message WHERE message_id = ?", ack["message_id"])
    assert len(stored) == 1


def send(stack: Stack, target: str = "crm", **message: Any) -> str:
    """Send over REST; return the message's id."""
    body = {"source_system": "gw-source", "target_system": target, "payload": {"n": 1}, **message}
    answer = stack.api("POST", "messages/", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["message_id"])


def delivery_of(stack: Stack, message_id: str) -> dict[str, Any]:
    return dict(stack.api("GET", f"deliveries/?message_id={message_id}").json()["results"][0])


def awaited(stack: Stack, message_id: str, **wanted: Any) -> dict[str, Any]:
    """Return the delivery of a message once it looks like this."""

    def found() -> dict[str, Any] | None:
        delivery = delivery_of(stack, message_id)
        return delivery if {name: delivery[name] for name in wanted} == wanted else None

    return stack.wait_for(found, 20, f"{message_id} to be {wanted}: {delivery_of(stack, message_id)}") or {}


def test_a_delivery_is_delivered_once_its_client_says_so(shared_stack: Stack, bound: str) -> None:
    with Client(shared_stack, key=bound) as client:
        client.hear()
        message_id = send(shared_stack, event_type="invoice.paid", payload={"exact": [1e2, "ü"]}, headers={"x-a": "b"})
        delivery = client.hear()
        assert delivery_of(shared_stack, message_id)["state"] == "sending"
        client.say(type="ack", delivery_id=delivery["delivery_id"])
        found = awaited(shared_stack, message_id, state="delivered")

    assert (delivery["type"], delivery["attempt"]) == ("delivery", 1)
    message = delivery["message"]
    assert (message["message_id"], message["event_type"], message["source_system"]) == (
        message_id, "invoice.paid", "gw-source",
    )  # fmt: skip
    assert (message["payload"], message["headers"]) == ({"exact": [1e2, "ü"]}, {"x-a": "b"})
    assert (found["ack_level"], found["attempts"]) == ("application", 1)


def test_without_a_client_it_is_held_and_goes_as_soon_as_one_connects(shared_stack: Stack, bound: str) -> None:
    message_id = send(shared_stack)
    held = awaited(shared_stack, message_id, state="pending", reason="no_client")
    why = shared_stack.command("why", message_id)
    assert held["attempts"] == 0
    assert "no client of crm is connected" in why.stdout
    with Client(shared_stack, key=bound) as client:
        client.hear()
        delivery = client.hear()
        client.say(type="ack", delivery_id=delivery["delivery_id"])
        found = awaited(shared_stack, message_id, state="delivered")

    assert (delivery["message"]["message_id"], found["attempts"]) == (message_id, 1)
