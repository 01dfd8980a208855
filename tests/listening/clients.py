"""Small clients of our listeners: plain sockets that know nothing but the contract."""

import hashlib
import hmac
import json
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, ClassVar

from tests.stack import wait_for


class Line:
    """A client of a TCP listener with the framing `line`, or `length`."""

    opened: ClassVar[list["Line"]] = []  # closed after each test

    def __init__(self, port: int, token: str = "", *, framing: str = "line", tls: ssl.SSLContext | None = None) -> None:
        self.framing = framing
        plain = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.socket: socket.socket = tls.wrap_socket(plain, server_hostname="localhost") if tls else plain
        self.rest = b""
        self.opened.append(self)
        if token:
            self.send({"type": "auth", "token": token})
            self.ready = self.read()

    def send(self, *messages: dict[str, Any]) -> None:
        bodies = [json.dumps(message).encode() for message in messages]
        if self.framing == "line":
            self.raw(b"".join(body + b"\n" for body in bodies))
        else:
            self.raw(b"".join(len(body).to_bytes(4, "big") + body for body in bodies))

    def raw(self, data: bytes) -> None:
        self.socket.sendall(data)

    def _more(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise EOFError(self.rest)
        self.rest += data

    def read(self) -> dict[str, Any]:
        """Return the next frame; raises EOFError at the end."""
        if self.framing == "line":
            while b"\n" not in self.rest:
                self._more()
            body, _, self.rest = self.rest.partition(b"\n")
        else:
            while len(self.rest) < 4 or len(self.rest) < 4 + int.from_bytes(self.rest[:4], "big"):
                self._more()
            end = 4 + int.from_bytes(self.rest[:4], "big")
            body, self.rest = self.rest[4:end], self.rest[end:]
        return dict(json.loads(body))

    def read_to_end(self) -> list[dict[str, Any]]:
        """Return the frames up to the end of the connection."""
        found = []
        try:
            while True:
                found.append(self.read())
        except EOFError:
            return found

    def read_all(self) -> bytes:
        """Return everything up to the end of the connection; a reset ends it, too."""
        try:
            while True:
                self._more()
        except (EOFError, ConnectionResetError):
            return self.rest

    def close(self) -> None:
        self.socket.close()


def when_open(port: int, connect: Callable[[], Any] | None = None) -> None:
    """Wait until somebody listens at a TCP port."""

    def is_open() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=2).close()
        except OSError:
            return False
        return True

    wait_for(is_open, 20, f"somebody listening on {port}")


def datagram(key: dict[str, str], body: dict[str, Any] | str, /, **changes: Any) -> bytes:
    """Return a signed datagram; `changes` are put over its members after it was signed."""
    text = body if isinstance(body, str) else json.dumps(body)
    stamp = changes.pop("ts", int(time.time()))
    nonce = "n-1"
    mac = hmac.new(key["secret"].encode(), f"{stamp}.{nonce}.{text}".encode(), hashlib.sha256).hexdigest()
    outer = {"v": 1, "key": key["id"], "ts": stamp, "nonce": nonce, "mac": mac, "body": text}
    return json.dumps({**outer, **changes}).encode()
