"""A client of the gateway that this project did not write: the `websockets` package, a frame at a time."""

import time
from typing import Any

import orjson
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.stack import Stack, Timeout


class Client:
    """One connection, a frame at a time."""

    def __init__(self, stack: Stack, *, key: str | None = None, system: str | None = None, **options: Any) -> None:
        url = options.pop("url", stack.url).replace("http", "ws") + "/ws/v1/gateway/" + options.pop("path", "")
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


def send(stack: Stack, target: str, **message: Any) -> str:
    """Send over REST as `gw-source`; return the message's id."""
    body = {"source_system": "gw-source", "target_system": target, "payload": {"n": 1}, **message}
    answer = stack.api("POST", "messages/", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["message_id"])


def delivery_of(stack: Stack, message_id: str) -> dict[str, Any]:
    """Return the one delivery of a message."""
    return dict(stack.api("GET", f"deliveries/?message_id={message_id}").json()["results"][0])


def awaited(stack: Stack, message_id: str, **wanted: Any) -> dict[str, Any]:
    """Return the delivery of a message once it looks like this."""
    seen: list[dict[str, Any]] = []

    def found() -> bool:
        seen[:] = [delivery_of(stack, message_id)]
        return {name: seen[0][name] for name in wanted} == wanted

    try:
        stack.wait_for(found, 30, f"{message_id} to be {wanted}")
    except Timeout as exc:
        raise Timeout(f"{exc}\nit is {seen}") from None
    return seen[0]


def gateway_door(stack: Stack, slug: str, **endpoint: Any) -> dict[str, Any]:
    """Register a system with a door that connected clients take from, and `gw-source` that sends to it."""
    stack.register(slug)
    if stack.api("GET", "systems/gw-source/").status_code == 404:
        stack.register("gw-source")
    answer = stack.api("POST", "endpoints/", json={"system": slug, "protocol": "gateway", **endpoint})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())
