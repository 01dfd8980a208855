"""Rows of the matrix: for each protocol a peer, how to register it, and which cells cannot apply and why.

A new protocol adds a class here (or in matrix_callers, if its peers come to us) and its name in
ROWS of matrix_table. `peer` is a context manager like
those of tests/servers: `port`, `start`, `stop` (cutting every connection), and through the
row `received`, `say` (what the peer answers) and `hold` (it takes messages and answers nothing).
"""

import socket
import ssl
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tests.servers.answers import HANG, Answer
from tests.servers.certificates import CertificateAuthority
from tests.servers.http import HttpReceiver, Received
from tests.servers.sockets import NOTHING, TcpReceiver, UdpReceiver
from tests.servers.ws import WsReceiver

if TYPE_CHECKING:
    from tests.acceptance.link import Link

NO_TLS = "it has no TLS of its own"


class Row:
    """HTTP's, and what the others have like it."""

    protocol = "http"
    ack_level = "application"
    host = "127.0.0.1"
    speaks_tls = False
    kind = socket.SOCK_STREAM
    calls_us = False  # the peer opens the connection, not we
    waits_as = "retrying"  # the reason of what waits for a peer that is down
    config: ClassVar[dict[str, Any]] = {}
    largest = 1024 * 1024 - 64  # bytes of a payload that it carries and the message cap lets in
    too_large_is = (413, "too_large")
    credential: ClassVar[tuple[str, str]] = ("bearer", "token")  # kind, and the field that holds the secret
    # Words of a cell that say more than that it holds.
    says: ClassVar[dict[str, str]] = {}
    cannot: ClassVar[dict[str, str]] = {"wrong_name": NO_TLS}

    def __init__(self, authority: CertificateAuthority, directory: Path) -> None:
        self.authority, self.directory = authority, directory

    def peer(self, *, name: str = "localhost", secret: str = "", port: int = 0) -> AbstractContextManager[Any]:
        """Return a peer: with a certificate for `name` if it speaks TLS; if `secret` is given it must be shown."""

        def answer(request: Received) -> Answer:
            return Answer(200 if request.headers.get("authorization") == f"Bearer {secret}" else 401)

        receiver = HttpReceiver(port=port, tls=self.tls(name))
        if secret:
            receiver.answer(answer)
        return receiver

    def tls(self, name: str) -> ssl.SSLContext | None:
        """Return the peer's side of TLS, None where there is none."""
        return self.authority.server_context(self.directory, name) if self.speaks_tls else None

    def endpoint(self, port: int) -> dict[str, Any]:
        """Return the fields of an endpoint at the peer; it awaits an answer where the protocol has one."""
        config = {**self.config, **({"tls": {"ca": self.authority.pem}} if self.speaks_tls else {})}
        return {"protocol": self.protocol, "host": self.host, "port": port, "config": config}

    def join(self, link: "Link") -> None:
        """Tell the peers to which link they belong."""

    def names_peer(self, request: dict[str, Any], link: "Link", peer: Any) -> bool:
        """Say whether a try, as it is shown, names the peer."""
        return str(request["url"]).startswith(f"{self.protocol}://{self.host}:{peer.port}")

    def received(self, peer: Any) -> list[bytes]:
        """Return the bodies that the peer got."""
        return [request.body for request in list(peer.received)]

    def echo(self, peer: Any) -> None:
        """Have the peer answer with what it got."""
        peer.answer(lambda request: Answer(200, request.body))

    def say(self, peer: Any) -> None:
        """Have the peer take what comes."""
        peer.answer(200)

    def hold(self, peer: Any) -> None:
        """Have the peer take what comes, and answer nothing."""
        peer.answer(HANG)


class HttpsRow(Row):
    """The same over TLS."""

    protocol = "https"
    host = "localhost"
    speaks_tls = True
    cannot: ClassVar[dict[str, str]] = {}


class TcpRow(Row):
    """Frames of `length`, each acknowledged by one."""

    protocol = "tcp"
    ack_level = "transport"
    config: ClassVar[dict[str, Any]] = {"framing": "length", "reply": "ack"}
    says: ClassVar[dict[str, str]] = {"reply": "by order, one at a time on a connection"}

    def peer(self, *, name: str = "localhost", secret: str = "", port: int = 0) -> AbstractContextManager[Any]:
        receiver = TcpReceiver("length", port=port, auth=secret, tls=self.tls(name))
        receiver.answer(b'{"type":"ack"}')
        return receiver

    def received(self, peer: Any) -> list[bytes]:
        return list(peer.received)

    def echo(self, peer: Any) -> None:
        peer.answer(lambda message: message)

    def say(self, peer: Any) -> None:
        peer.answer(b'{"type":"ack"}')

    def hold(self, peer: Any) -> None:
        peer.answer(NOTHING)


class TlsRow(TcpRow):
    """The same over TLS."""

    protocol = "tls"
    host = "localhost"
    speaks_tls = True
    cannot: ClassVar[dict[str, str]] = {}


class UdpRow(TcpRow):
    """Datagrams, each answered by one."""

    protocol = "udp"
    ack_level = "application"
    kind = socket.SOCK_DGRAM
    config: ClassVar[dict[str, Any]] = {"reply": "message"}
    largest = 65_507
    too_large_is = (422, "unfit")
    says: ClassVar[dict[str, str]] = {
        "reply": "a socket for each message",
        "down": "where the host says so, or no reply comes",
        "killed": "with `reply: message`; else only `written` is claimed",
        "oversized": "over 65,507 bytes refused before acceptance",
    }
    cannot: ClassVar[dict[str, str]] = {
        "wrong_name": NO_TLS,
        "bad_credential": "a datagram has no place for a credential; an endpoint with one is refused",
    }

    def peer(self, *, name: str = "localhost", secret: str = "", port: int = 0) -> AbstractContextManager[Any]:
        return UdpReceiver(port=port)


class WsRow(Row):
    """Frames, each acknowledged by one."""

    protocol = "ws"
    config: ClassVar[dict[str, Any]] = {"reply": "ack"}
    says: ClassVar[dict[str, str]] = {"reply": "by id, or by order and one at a time on a connection"}

    def peer(self, *, name: str = "localhost", secret: str = "", port: int = 0) -> AbstractContextManager[Any]:
        return WsReceiver(port=port, tls=self.tls(name), token=secret)

    def echo(self, peer: Any) -> None:
        peer.answer(lambda got: got.data)

    def say(self, peer: Any) -> None:
        peer.answer(b'{"type":"ack"}')

    def hold(self, peer: Any) -> None:
        peer.answer(None)


class WssRow(WsRow):
    """The same over TLS."""

    protocol = "wss"
    host = "localhost"
    speaks_tls = True
    cannot: ClassVar[dict[str, str]] = {}
