"""Rows of the matrix whose peers come to us: a client of the gateway, and a consumer that fetches."""

import base64
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Self

import requests
from websockets.exceptions import ConnectionClosed

from tests.acceptance.gateway_client import Client
from tests.acceptance.inbox import Inbox
from tests.acceptance.link import Link
from tests.acceptance.matrix import Row
from tests.stack import Stack, wait_for

Message = dict[str, Any]


def body_of(message: Message) -> bytes:
    """Return the bytes that were sent; raw bytes come as base64."""
    return base64.b64decode(message["payload_base64"])


def packed(body: bytes) -> dict[str, str]:
    return {"payload_base64": base64.b64encode(body).decode(), "content_type": "application/octet-stream"}


class Caller:
    """A peer that connects as soon as it knows to whom, in a thread of its own, and keeps the bodies it got.

    `mode`: `take` acknowledges, `echo` answers with what it got, `hold` does nothing.
    """

    port = 0

    def __init__(self) -> None:
        self.mode = "take"
        self.is_keeping = True  # False: only count
        self.received: list[bytes] = []
        self.count = 0
        self._link: Link | None = None
        self._is_up = False
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._failures: list[BaseException] = []

    def join(self, link: Link) -> None:
        self._link = link
        self._begin()

    def start(self) -> None:
        self._is_up = True
        self._begin()

    def stop(self) -> None:
        """Cut the connection, whatever is on its way."""
        self._is_up = False
        if self._thread is not None:
            self._stopping.set()
            self.cut()
            self._thread.join(30)
            self._thread = None
        assert not self._failures, self._failures

    def wait_for(self, count: int, timeout: float = 30) -> None:
        wait_for(lambda: self.count >= count, timeout, f"{count} messages at the caller")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _begin(self) -> None:
        if self._is_up and self._link is not None and self._thread is None:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._guarded, args=(self._link,), daemon=True)
            self._thread.start()

    def _guarded(self, link: Link) -> None:
        try:
            self.converse(link)
        except (OSError, ConnectionClosed, requests.RequestException) as error:
            if not self._stopping.is_set():
                self._failures.append(error)
        except AssertionError as error:
            self._failures.append(error)

    def keep(self, message: Message) -> bytes:
        """Note a message and return its bytes."""
        body = body_of(message)
        if self.is_keeping:
            self.received.append(body)
        self.count += 1
        return body

    def converse(self, link: Link) -> None:
        """Take messages until stopped."""
        raise NotImplementedError

    def cut(self) -> None:
        """End the connection without a farewell."""
        raise NotImplementedError


class GatewayCaller(Caller):
    """A client of the gateway."""

    _client: Client | None = None

    def converse(self, link: Link) -> None:
        self._client = Client(link.stack, key=link.stack.key("operator", system=link.target))
        assert self._client.hear() == {"type": "ready", "system": link.target}
        while not self._stopping.is_set():
            try:
                frame = self._client.hear(0.5)
            except TimeoutError:
                continue
            assert frame["type"] == "delivery", frame
            body = self.keep(frame["message"])
            said = {"take": {"type": "ack"}, "echo": {"type": "reply", **packed(body)}}.get(self.mode)
            if said:
                self._client.say(delivery_id=frame["delivery_id"], **said)

    def cut(self) -> None:
        if self._client is not None:
            with contextlib.suppress(OSError):
                self._client.socket.socket.shutdown(2)


class PullCaller(Caller):
    """A consumer that fetches."""

    def converse(self, link: Link) -> None:
        inbox = Inbox(link.stack, link.target, link.stack.key("viewer", system=link.target))
        with inbox.session, ThreadPoolExecutor(8) as pool:
            while not self._stopping.is_set():
                fetched = inbox.fetch(max=100, wait=0.5)
                bodies = [self.keep(one["message"]) for one in fetched]
                if self.mode != "hold":
                    answers = [packed(body) if self.mode == "echo" else {} for body in bodies]
                    list(pool.map(lambda one, said: inbox.ack(one, **said), fetched, answers))

    def cut(self) -> None:
        """It says nothing any more."""


class CallerRow(Row):
    """What both have."""

    calls_us = True
    host = ""
    makes: ClassVar[type[Caller]]
    cannot: ClassVar[dict[str, str]] = {
        "wrong_name": "it is the peer that connects, to our own address; the name is the peer's to check",
    }
    _caller: Caller | None = None
    _link: Link | None = None

    def peer(self, *, name: str = "localhost", secret: str = "", port: int = 0) -> AbstractContextManager[Any]:
        self._caller = self.makes()
        if self._link is not None:
            self._caller.join(self._link)
        return self._caller

    def join(self, link: Link) -> None:
        self._link = link
        if self._caller is not None:
            self._caller.join(link)

    def endpoint(self, port: int) -> dict[str, Any]:
        return {"protocol": self.protocol, "config": dict(self.config)}

    def received(self, peer: Any) -> list[bytes]:
        return list(peer.received)

    def echo(self, peer: Any) -> None:
        peer.mode = "echo"

    def say(self, peer: Any) -> None:
        peer.mode = "take"

    def hold(self, peer: Any) -> None:
        peer.mode = "hold"

    def refused(self, stack: Stack, system: str, key: str) -> int:
        """Return with which code a client is refused that asks for what is for `system` with `key`."""
        raise NotImplementedError


class GatewayRow(CallerRow):
    """Clients connected to us."""

    protocol = "gateway"
    waits_as = "no_client"
    makes = GatewayCaller
    refusals: ClassVar[tuple[int, int]] = (4401, 4403)
    says: ClassVar[dict[str, str]] = {
        "reply": "by `delivery_id`",
        "down": "held as `no_client`, nothing spent, sent when one connects",
        "killed": "sent again to the next client",
        "bad_credential": "the client is closed with 4401, and with 4403 at another system",
    }

    def names_peer(self, request: dict[str, Any], link: Link, peer: Any) -> bool:
        return bool(request["url"] == f"gateway://{link.target}/main")

    def refused(self, stack: Stack, system: str, key: str) -> int:
        with Client(stack) as client:
            client.say(type="auth", token=key, system=system)
            code, heard = client.until_closed()
        assert heard == []
        return code


class PullRow(CallerRow):
    """A consumer that asks us."""

    protocol = "pull"
    waits_as = "new"
    makes = PullCaller
    config: ClassVar[dict[str, Any]] = {"lease_s": 3}
    refusals: ClassVar[tuple[int, int]] = (401, 404)
    says: ClassVar[dict[str, str]] = {
        "reply": "with the ack, by `delivery_id`",
        "down": "waits to be fetched, nothing spent",
        "killed": "handed out again after the lease",
        "bad_credential": "the consumer gets 401, and 404 at another system",
    }

    def names_peer(self, request: dict[str, Any], link: Link, peer: Any) -> bool:
        return "test-viewer-" in request["by"]  # the key that fetched

    def refused(self, stack: Stack, system: str, key: str) -> int:
        inbox = Inbox(stack, system, key)
        with inbox.session:
            return inbox.ask().status_code
