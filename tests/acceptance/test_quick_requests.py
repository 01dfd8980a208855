"""However a request is cut into packets, it gets the same answer: one that comes whole is answered on a short way."""

import json
import signal
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from tests.acceptance.holding import nothing_is_stored
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


def test_a_head_that_is_known_takes_each_body_anew(wire: Wire, link: Link) -> None:
    """The same head, byte for byte: whole, in pieces, with others behind it, and in front of what is refused."""
    names = [f"same-{number}" for number in range(8)]
    good = [json.dumps(link.message() | {"message_id": name}).encode() + b"  " for name in names]
    unknown = good[0].replace(link.target.encode(), b"x" * len(link.target))
    sent = [wire.request(body) for body in (*good[:3], unknown, good[3], b"{" * len(good[0]), *good[4:])]
    head = len(sent[0]) - len(good[0])
    assert len({request[:head] for request in sent}) == 1
    wire.send(sent[0])
    told = [wire.answer()]
    for parts in ([sent[1]], [sent[2][:head], sent[2][head:]], [sent[3]], [sent[4][:-2], sent[4][-2:]], [sent[5]]):
        wire.send(*parts)
        told.append(wire.answer())
    wire.send(sent[6])  # before it is answered, one more, and two in a packet
    wire.send(sent[7])
    wire.send(sent[8] + sent[9])
    told += [wire.answer() for _ in sent[6:]]

    assert [status for status, _, _ in told] == [202, 202, 202, 422, 202, 400, 202, 202, 202, 202]
    assert [body["message_id"] for status, _, body in told if status == 202] == names


def test_a_known_head_is_worth_nothing_without_its_key(wire: Wire, link: Link) -> None:
    key = link.stack.api("POST", "keys/", json={"name": f"k-{link.source}", "role": "operator"}).json()
    given = {"Authorization": f"Bearer {key['key']}"}
    for _ in range(2):
        wire.send(wire.request(**given))
        assert wire.answer()[0] == 202
    assert link.stack.api("POST", f"keys/{key['id']}/revoke/").ok
    time.sleep(1)  # so long a caller may be remembered
    wire.send(wire.request(**given))

    assert wire.answer()[0] == 401


def test_a_connection_that_idles_is_closed(wire: Wire, link: Link) -> None:
    wire.send(wire.request())
    wire.answer()
    other = Wire(link)
    other.send(other.request())  # its head is known from its first request on
    assert other.answer()[0] == 202
    since = time.monotonic()

    assert other.is_over()
    other.close()
    assert 4 < time.monotonic() - since < 10


def test_what_was_taken_before_a_clean_stop_is_answered(
    make_stack: Callable[..., Stack], http_receiver: HttpReceiver
) -> None:
    """SIGTERM while the database stands still: a request on its short way is answered, then the line ends."""
    stack = make_stack()
    stack.start("web")
    link = Link(stack, http_receiver.url)
    link.post()
    wire = Wire(link)
    for _ in range(2):
        wire.send(wire.request())
        assert wire.answer()[0] == 202
    with nothing_is_stored(stack):
        wire.send(wire.request())
        time.sleep(0.2)
        stack.signal("web", signal.SIGTERM)
        time.sleep(1)
    status, headers, body = wire.answer()

    assert (status, headers["connection"], body["status"]) == (202, "close", "accepted")
    assert wire.is_over()
    wire.close()
    assert stack.processes.pop("web").wait(20) == 0


def test_requests_in_one_packet_are_answered_in_their_order(wire: Wire, link: Link) -> None:
    names = [f"p-{number}" for number in range(20)]
    bodies = [json.dumps(link.message() | {"message_id": name}).encode() for name in names]
    bodies[7] = b'{"payload": '  # answered in its place
    wire.send(b"".join(map(wire.request, bodies)))
    told = [wire.answer() for _ in names]

    assert [status for status, _, _ in told] == [400 if number == 7 else 202 for number in range(20)]
    assert [body.get("message_id") for _, _, body in told] == [n if n != "p-7" else None for n in names]


def test_many_requests_in_one_packet_may_end_in_the_middle_of_a_head(wire: Wire) -> None:
    """What is behind whole requests is no head of 100 KiB; a head that is one ends the line."""
    one = wire.request()
    many = 150 * 1024 // len(one)
    flood = one * many + one[:40]
    wire.send(flood)
    told = [wire.answer()[0] for _ in range(many)]
    wire.send(one[40:])
    told.append(wire.answer()[0])
    wire.send(b"POST /api/v1/messages/ HTTP/1.1\r\n", b"X-Long: " + b"x" * 100 * 1024)

    assert told == [202] * (many + 1)
    assert wire.is_over()


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"[]", {}, 400, "invalid"),
        (b'{"payload": 1', {}, 400, "malformed"),
        (None, {"Authorization": "Bearer cp_nobody"}, 401, "unauthenticated"),
        (None, {"Content_Encoding": "gzip"}, 415, "unsupported_media_type"),
        (None, {"Content_Encoding": "gzip\r\nContent-Encoding: identity"}, 415, "unsupported_media_type"),
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


def test_a_trailer_is_no_header(wire: Wire, link: Link) -> None:
    """What a proxy looks at is the head: nothing behind the body may say who calls."""
    body = json.dumps(link.message()).encode()
    head = b"POST /api/v1/messages/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    key = f"Authorization: Bearer {link.stack.key()}\r\n".encode()
    chunked = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n" % (len(body), body)
    for _ in range(2):  # the second is what the first was, if its trailer counted
        wire.send(head + key + chunked + b"Idempotency-Key: same\r\n\r\n")
    known = [wire.answer()[2]["status"] for _ in range(2)]
    wire.send(head + chunked + key + b"\r\n")
    stranger = wire.socket.recv(4096).split()[1]

    assert (stranger, known) == (b"401", ["accepted", "accepted"])


@pytest.mark.parametrize("path", ["/ws/v1/gateway/", "/in/somewhere/"])
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("body", ["Content-Length: 2\r\n\r\n{}", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"])
def test_a_handshake_with_a_body_is_refused_and_closed(wire: Wire, path: str, method: str, body: str) -> None:
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    wire.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{upgrade}{key}{body}".encode())

    assert b" 400 " in wire.socket.recv(4096)
    assert wire.is_over()


def test_who_asks_to_close_is_answered_and_closed(wire: Wire) -> None:
    wire.send(wire.request(Connection="close"))
    status, headers, _ = wire.answer()

    assert (status, headers["connection"]) == (202, "close")
    assert wire.is_over()


UPGRADES = {
    "h2c": "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
    "tls": "Connection: upgrade\r\nUpgrade: TLS/1.0\r\n",
    "several": "Connection: keep-alive\r\nconnection:  Upgrade \r\nUpgrade: websocket, foo/2\r\n",
}


@pytest.mark.parametrize("lines", UPGRADES.values(), ids=UPGRADES)
def test_a_wish_for_another_protocol_changes_nothing(
    lines: str, wire: Wire, link: Link, http_receiver: HttpReceiver
) -> None:
    """Some clients ask for HTTP/2 by themselves, and speak as ever when nobody answers that: the body is the body.

    What came behind such a head was taken for the next request.
    """
    inner = wire.request(json.dumps(link.message(payload="smuggled")).encode())
    head = f"POST /to/{link.target} HTTP/1.1\r\nHost: a\r\nX-API-Key: {link.stack.key()}\r\n{lines}"
    head += f"X-Source-System: {link.source}\r\nContent-Type: text/plain\r\nContent-Length: {len(inner)}\r\n\r\n"
    whole = head.encode() + inner
    cut = len(head)
    pieces = ([whole], [whole[:cut], inner], [whole[:30], whole[30:]], [whole[:-3], whole[-3:]], [whole + whole[:9]])
    for parts in pieces:
        for part in parts:
            wire.send(part)
            time.sleep(0.05)
        assert wire.answer()[0] == 202
    wire.send(whole[9:])
    assert wire.answer()[0] == 202
    chunked = wire.request(b"", Transfer_Encoding="chunked").replace(b"Content-Length: 0\r\n", lines.encode())
    body = json.dumps(link.message(payload="in chunks")).encode()
    wire.send(chunked, b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
    assert wire.answer()[0] == 202
    wire.send(wire.request())
    assert wire.answer()[0] == 202

    wanted = [inner] * 6 + [b'"in chunks"', b'{"n":1}', b'{"n":1}']
    link.stack.wait_for(lambda: len(http_receiver.received) >= len(wanted), what="all delivered")
    assert sorted(received.body for received in http_receiver.received) == sorted(wanted)


@pytest.mark.parametrize(
    ("start", "lines", "told"),
    [
        ("POST /api/v1/messages/", "Transfer-Encoding: gzip, chunked\r\n", "transfer-encoding"),
        ("POST /api/v1/messages/", "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", "transfer-encoding"),
        ("CONNECT 127.0.0.1:80", "Content-Length: 5\r\n", "CONNECT"),
    ],
)
def test_a_body_that_would_be_taken_for_something_else_is_refused(
    start: str, lines: str, told: str, wire: Wire
) -> None:
    wire.send(f"{start} HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode(), b"2\r\n{}\r\n0\r\n\r\n")
    answer = b""
    while part := wire.socket.recv(4096):
        answer += part
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert told in answer.partition(b"\r\n\r\n")[2].decode()
    assert answer.count(b"HTTP/1.1") == 1
