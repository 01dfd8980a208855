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
