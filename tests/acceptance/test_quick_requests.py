"""However a request is cut into packets, it gets the same answer: one that comes whole is answered on a short way."""

import json
import socket
from collections.abc import Iterator

import pytest

from tests.acceptance.link import Link
from tests.servers.http import HttpReceiver
from tests.stack import Stack

PATIENCE_S = 30


class Wire:
    """One connection, spoken to in bytes."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.socket = socket.create_connection(("127.0.0.1", link.stack.port), timeout=PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self.socket.makefile("rb")

    def request(self, body: bytes | None = None, **headers: str) -> bytes:
        body = json.dumps(self._link.message()).encode() if body is None else body
        given = {"Host": "127.0.0.1", "Content-Type": "application/json", "Content-Length": str(len(body))}
        given |= {"Authorization": f"Bearer {self._link.stack.key()}"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        return f"POST /api/v1/messages/ HTTP/1.1\r\n{lines}\r\n".encode() + body

    def send(self, *parts: bytes) -> None:
        for part in parts:
            self.socket.sendall(part)

    def answer(self) -> tuple[int, dict[str, str], dict[str, object]]:
        """Return status, headers and body of the next answer."""
        status = int(self._file.readline().split()[1])
        headers = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode().partition(": ")
            headers[name.lower()] = value
        return status, headers, json.loads(self._file.read(int(headers["content-length"])))

    def is_over(self) -> bool:
        return self._file.read(1) == b""

    def close(self) -> None:
        self._file.close()
        self.socket.close()


@pytest.fixture
def link(shared_stack: Stack, http_receiver: HttpReceiver) -> Link:
    return Link(shared_stack, http_receiver.url)


@pytest.fixture
def wire(link: Link) -> Iterator[Wire]:
    link.post()  # caller and systems are known from here on, for a moment
    wire = Wire(link)
    yield wire
    wire.close()


def test_a_request_is_answered_alike_whole_or_in_pieces(wire: Wire) -> None:
    whole = wire.request()
    head = whole.index(b"\r\n\r\n") + 4
    told = []
    for parts in ([whole], [whole[:head], whole[head:]], [whole[:20], whole[20:]], [whole[:-1], whole[-1:]]):
        wire.send(*parts)
        told.append(wire.answer())

    assert [status for status, _, _ in told] == [202] * 4
    assert {frozenset(headers) - {"date"} for _, headers, _ in told} == {frozenset({"content-type", "content-length"})}
    assert {body["status"] for _, _, body in told} == {"accepted"}
    assert len({body["message_id"] for _, _, body in told}) == 4


def test_requests_in_one_packet_are_answered_in_their_order(wire: Wire, link: Link) -> None:
    names = [f"p-{number}" for number in range(20)]
    bodies = [json.dumps(link.message() | {"message_id": name}).encode() for name in names]
    bodies[7] = b'{"payload": '  # answered in its place
    wire.send(b"".join(map(wire.request, bodies)))
    told = [wire.answer() for _ in names]

    assert [status for status, _, _ in told] == [400 if number == 7 else 202 for number in range(20)]
    assert [body.get("message_id") for _, _, body in told] == [n if n != "p-7" else None for n in names]


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"[]", {}, 413, "too_large"),
        (b'{"payload": 1', {}, 400, "malformed"),
        (None, {"Authorization": "Bearer cp_nobody"}, 401, "unauthenticated"),
        (None, {"Content_Encoding": "gzip"}, 415, "unsupported_media_type"),
        (None, {"Content_Type": "text/plain"}, 415, "unsupported_media_type"),
        (b'{"payload": 1, "source_system": "nobody-there"}', {}, 422, "unknown_system"),
    ],
)
def test_what_is_wrong_is_told_and_the_connection_goes_on(
    wire: Wire, body: bytes | None, headers: dict[str, str], status: int, code: str
) -> None:
    wire.send(wire.request(body, **headers))
    wrong = wire.answer()
    wire.send(wire.request())

    assert (wrong[0], wrong[2]["code"]) == (status, code)
    assert wire.answer()[0] == 202


def test_a_conflict_that_only_the_database_knows_is_told(wire: Wire, link: Link) -> None:
    for payload in (1, 2):
        wire.send(wire.request(json.dumps(link.message() | {"message_id": "same", "payload": payload}).encode()))
    first, second = wire.answer(), wire.answer()

    assert first[0] == 202
    assert (second[0], second[1]["content-type"], second[2]["code"]) == (422, "application/problem+json", "id_conflict")


def test_who_asks_to_close_is_answered_and_closed(wire: Wire) -> None:
    wire.send(wire.request(Connection="close"))
    status, headers, _ = wire.answer()

    assert (status, headers["connection"]) == (202, "close")
    assert wire.is_over()
