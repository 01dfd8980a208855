"""A real WebSocket server on loopback (the `websockets` library's own) with scripted answers; it keeps what it got.

    with WsReceiver() as receiver:
        receiver.answer(b"ok")                 # the last of several repeats; None says nothing
        ... send to receiver.url ...
        assert receiver.wait_for(1)[0].data == '{"n":1}'

A script may be a callable of `Got`; what it returns is said: text, bytes, None, `Close` or `CUT`.
"""

import asyncio
import logging
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from tests.servers.ports import free_port
from tests.servers.threads import InThread, stop_listening

_quiet = logging.getLogger("tests.servers.ws")
_quiet.setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Got:
    """One message as it came; header names of its handshake are lower-case."""

    data: str | bytes
    connection: int
    headers: dict[str, str] = field(default_factory=dict)
    path: str = "/"
    subprotocol: str | None = None

    @property
    def body(self) -> bytes:
        return self.data.encode() if isinstance(self.data, str) else self.data


@dataclass(frozen=True)
class Close:
    """Close the connection instead of answering."""

    code: int = 1000
    reason: str = ""


@dataclass(frozen=True)
class Many:
    """Say several things."""

    said: tuple[Any, ...]


CUT = object()  # cut the line
Said = str | bytes | Close | Many | None
Script = Said | Callable[[Got], Any] | object


class WsReceiver(InThread):
    """The server; use as a context manager or `start` and `stop`."""

    def __init__(
        self,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
        token: str = "",
        **options: Any,
    ):
        self.host, self.port = host, port or free_port()
        self._tls, self._is_kind = tls, False
        self._token = token  # what a handshake has to show, if anything
        self._options: dict[str, Any] = {"max_size": 64 * 1024 * 1024, "compression": None, **options}
        self._script: list[Script] = [b""]
        self._refusal: tuple[int, dict[str, str]] | None = None
        self._changed = threading.Condition()
        self._open: set[ServerConnection] = set()
        self.received: list[Got] = []
        self.connections = self.handshakes = 0
        self.is_keeping = True

    # -- what a test says and asks ---------------------------------------------------

    @property
    def url(self) -> str:
        return f"{'wss' if self._tls else 'ws'}://{self.host}:{self.port}"

    def answer(self, *script: Script) -> None:
        """Answer the next messages so, one after the other; the last one is for all that follow."""
        with self._changed:
            self._script = list(script)

    def refuse(self, status: int | None, **headers: str) -> None:
        """Answer handshakes with this status; None accepts them."""
        with self._changed:
            self._refusal = None if status is None else (status, headers)

    def wait_for(self, count: int, timeout_s: float = 30.0) -> list[Got]:
        """Return what was received once it is at least `count`; raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.received) >= count, timeout_s):
                raise TimeoutError(f"{len(self.received)} of {count} messages after {timeout_s} s")
            return list(self.received)

    def wait_until_open(self, count: int, timeout_s: float = 10.0) -> bool:
        """Say whether there are so many open connections at last."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._open) == count, timeout_s)

    # -- life ------------------------------------------------------------------------

    def stop(self, *, is_kind: bool = False) -> None:
        """Stop listening and cut every connection (kindly: with a close frame); safe to call twice."""
        self._is_kind = is_kind
        super().stop()

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[None]:
        server = await serve(
            self._converse,
            self.host,
            self.port,
            ssl=self._tls,
            process_request=self._look,
            logger=_quiet,
            **self._options,
        )
        yield
        if not self._is_kind:
            for each in list(self._open):
                each.transport.abort()
        await stop_listening(server)
        await server.wait_closed()

    # -- one connection --------------------------------------------------------------

    def _look(self, connection: ServerConnection, request: Request) -> Response | None:
        with self._changed:
            self.handshakes += 1
            refusal = self._refusal
        if refusal is None and self._token and request.headers.get("Authorization") != f"Bearer {self._token}":
            refusal = (401, {})
        if refusal is None:
            return None
        response = connection.respond(HTTPStatus(refusal[0]), "no\n")
        for name, value in refusal[1].items():
            response.headers[name.replace("_", "-")] = value
        return response

    async def _converse(self, connection: ServerConnection) -> None:
        self.connections += 1
        number = self.connections
        with self._changed:
            self._open.add(connection)
            self._changed.notify_all()
        assert connection.request is not None
        headers = {name.lower(): value for name, value in connection.request.headers.raw_items()}
        try:
            async for data in connection:
                got = Got(data, number, headers, connection.request.path, connection.subprotocol)
                await self._say(connection, self._note(got))
        except (ConnectionClosed, asyncio.CancelledError):
            pass
        finally:
            with self._changed:
                self._open.discard(connection)
                self._changed.notify_all()

    def _note(self, got: Got) -> Any:
        with self._changed:
            if self.is_keeping:
                self.received.append(got)
            self._changed.notify_all()
            script = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        return script(got) if callable(script) else script

    async def _say(self, connection: ServerConnection, said: Any) -> None:
        if isinstance(said, Many):
            for each in said.said:
                await self._say(connection, each)
        elif isinstance(said, Close):
            await connection.close(said.code, said.reason)
        elif said is CUT:
            connection.transport.abort()
        elif said is not None:
            await connection.send(said)


__all__ = ["CUT", "Close", "Got", "Many", "WsReceiver"]
