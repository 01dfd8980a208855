"""Peers of the gateway that misbehave on the wire: each is closed with a clear code, and the others go on."""

import base64
import os
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress

import orjson
import psutil
import pytest
import requests
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from tests.acceptance.gateway_client import Client, awaited, delivery_of, gateway_door, send
from tests.stack import Stack

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
MOST_GROWTH = 64 * 1024 * 1024
CLOSED_WITHIN_S = 15.0


class Raw:
    """A WebSocket spoken by hand (RFC 6455), so that it can be spoken wrongly."""

    def __init__(self, stack: Stack, key: str, *, deflate: bool = False, buffer: int = 0) -> None:
        self.socket = socket.socket()
        if buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.settimeout(30)
        self.socket.connect(("127.0.0.1", stack.port))
        extension = "Sec-WebSocket-Extensions: permessage-deflate\r\n" if deflate else ""
        self.socket.sendall(
            f"GET /ws/v1/gateway/ HTTP/1.1\r\nHost: 127.0.0.1:{stack.port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n{extension}Authorization: Bearer {key}\r\n"
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n\r\n".encode()
        )
        self._kept = b""
        while b"\r\n\r\n" not in self._kept:
            self._kept += self.socket.recv(4096)
        head, _, self._kept = self._kept.partition(b"\r\n\r\n")
        assert b" 101 " in head.partition(b"\r\n")[0] + b" "

    def frame(self, opcode: int, body: bytes, *, fin: bool = True, rsv1: bool = False) -> None:
        mask = os.urandom(4)
        size = len(body)
        marks = bytes([fin << 7 | rsv1 << 6 | opcode])
        length = (
            bytes([128 | size])
            if size < 126
            else bytes([128 | 126]) + struct.pack("!H", size)
            if size < 65536
            else bytes([128 | 127]) + struct.pack("!Q", size)
        )
        masked = (int.from_bytes(body) ^ int.from_bytes((mask * (size // 4 + 1))[:size])).to_bytes(size)
        self.socket.sendall(marks + length + mask + masked)

    def say(self, **frame: object) -> None:
        self.frame(TEXT, orjson.dumps(frame))

    def _take(self, size: int) -> bytes:
        while len(self._kept) < size:
            part = self.socket.recv(65536)
            if not part:
                raise ConnectionError("closed")
            self._kept += part
        taken, self._kept = self._kept[:size], self._kept[size:]
        return taken

    def hear(self) -> tuple[int, bytes]:
        first, second = self._take(2)
        size = second & 127
        if size > 125:
            size = int.from_bytes(self._take(2 if size == 126 else 8))
        return first & 15, self._take(size)

    def until_closed(self) -> int:
        """Return the close code; 1006 when the line broke without one."""
        try:
            while True:
                opcode, body = self.hear()
                if opcode == CLOSE:
                    return int.from_bytes(body[:2])
        except OSError:
            return 1006

    def close(self) -> None:
        self.socket.close()


@pytest.fixture(scope="session")
def key(shared_stack: Stack) -> str:
    gateway_door(shared_stack, "gw-bad", timeout_s=5, max_in_flight=200)
    return shared_stack.key("operator", system="gw-bad")


@pytest.fixture
def raw(shared_stack: Stack, key: str) -> Iterator[Callable[..., Raw]]:
    made: list[Raw] = []

    def make(**options: bool | int) -> Raw:
        made.append(Raw(shared_stack, key, **options))  # type: ignore[arg-type]
        assert made[-1].hear()[0] == TEXT
        return made[-1]

    yield make
    for one in made:
        one.close()


def memory(stack: Stack) -> int:
    return int(psutil.Process(stack.processes["web"].pid).memory_info().rss)


def demand_others_served(stack: Stack, key: str) -> None:
    """The process is alive and answers others."""
    with Client(stack, key=key) as client:
        client.hear()
        client.say(type="credit", n=0)
        client.say(type="send", ref="fine", message={"payload": 1})
        assert client.hear()["ref"] == "fine"


def test_bad_utf8_is_closed_with_1007(shared_stack: Stack, key: str, raw: Callable[..., Raw]) -> None:
    one = raw()
    one.frame(TEXT, b'{"type":"ping","ref":"\xff\xfe"}')
    assert one.until_closed() == 1007
    demand_others_served(shared_stack, key)


def test_what_anybody_can_bring_about_fills_no_log(shared_stack: Stack, raw: Callable[..., Raw]) -> None:
    """Without a key: bytes that are no text, and the names of other hosts. A line a minute, without our stack."""
    before = len(shared_stack.log("web"))
    for number in range(3):
        one = raw()
        one.frame(TEXT, b"\xff")
        assert one.until_closed() == 1007
        foreign = requests.get(f"{shared_stack.url}/admin/", headers={"Host": f"evil-{number}.example"}, timeout=20)
        assert foreign.status_code == 400
    log = shared_stack.log("web")
    assert "Traceback" not in log[before:]
    for words in ("Invalid UTF-8 sequence", "Invalid HTTP_HOST header"):
        assert words in log
        assert log[before:].count(words) <= 1


def test_fragments_without_end_are_closed_with_1009(shared_stack: Stack, key: str, raw: Callable[..., Raw]) -> None:
    before, one = memory(shared_stack), raw()
    one.frame(TEXT, b'{"type":"ping","ref":"', fin=False)
    codes: list[int] = []
    reader = threading.Thread(target=lambda: codes.append(one.until_closed()))
    reader.start()
    try:
        while reader.is_alive():
            one.frame(0, b"x" * 50_000, fin=False)
    except OSError:
        pass
    reader.join(20)
    assert codes in ([1009], [1006])  # 1006: our own sends broke the line before the code was read
    assert memory(shared_stack) - before < MOST_GROWTH
    demand_others_served(shared_stack, key)


def test_empty_fragments_without_end_are_closed_with_1009(
    shared_stack: Stack, key: str, raw: Callable[..., Raw]
) -> None:
    """They hold no byte that a cap of bytes would count."""
    one = raw()
    one.frame(TEXT, b'{"type":"ping","ref":"', fin=False)
    for _ in range(5000):
        one.frame(0, b"", fin=False)
    assert one.until_closed() == 1009
    demand_others_served(shared_stack, key)


def test_text_beyond_ascii_takes_no_room_for_ever(shared_stack: Stack, key: str) -> None:
    """What is counted when a frame is queued is given back when it is sent, however many bytes a letter has."""
    with Client(shared_stack, key=key) as client:
        client.hear()
        for number in range(6):
            sent = send(shared_stack, "gw-bad", payload={"text": "\u20ac" * 50_000})
            delivery = client.hear()
            assert delivery["message"]["message_id"] == sent, number
            client.say(type="ack", delivery_id=delivery["delivery_id"])
            awaited(shared_stack, sent, state="delivered")


def test_a_deflate_bomb_is_closed_with_1009(shared_stack: Stack, key: str, raw: Callable[..., Raw]) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -12)
    bomb = b"".join(packer.compress(b" " * 1_000_000) for _ in range(500)) + packer.flush(zlib.Z_SYNC_FLUSH)
    before, one = memory(shared_stack), raw(deflate=True)  # not before: meanwhile it would answer no ping
    one.frame(TEXT, bomb[:-4], rsv1=True)
    assert one.until_closed() == 1009
    assert memory(shared_stack) - before < MOST_GROWTH
    demand_others_served(shared_stack, key)


def test_broken_framing_is_closed_with_1002(shared_stack: Stack, key: str, raw: Callable[..., Raw]) -> None:
    for opcode, options in ((3, {}), (TEXT, {"rsv1": True}), (0, {})):
        one = raw()
        one.frame(opcode, b"{}", **options)
        assert one.until_closed() == 1002
    one = raw()
    one.socket.sendall(b"\x81\x02{}")  # a client's frame must be masked
    assert one.until_closed() == 1002
    demand_others_served(shared_stack, key)


def test_a_silent_dead_peer_is_noticed_and_its_delivery_goes_to_another(
    shared_stack: Stack, key: str, raw: Callable[..., Raw]
) -> None:
    """A peer whose machine went away answers no ping: closed within 15 s."""
    one = raw()
    started = time.monotonic()
    code = one.until_closed()
    assert code in (1011, 1006)
    assert time.monotonic() - started < CLOSED_WITHIN_S


def test_who_does_not_read_is_closed_within_15_s_and_its_memory_is_bounded(
    shared_stack: Stack, key: str, raw: Callable[..., Raw]
) -> None:
    """Pings that are answered and never read: the window fills, the socket is not read on, then the line is cut."""
    before, one = memory(shared_stack), raw(buffer=4096)
    body = orjson.dumps({"type": "ping", "ref": "x" * 60})
    started = time.monotonic()
    sent, ended = 0, None
    one.socket.settimeout(0.5)
    most = 0
    while ended is None and time.monotonic() - started < 2 * CLOSED_WITHIN_S:
        try:
            one.frame(TEXT, body)
            sent += 1
        except TimeoutError:
            most = max(most, memory(shared_stack) - before)
        except OSError:
            ended = time.monotonic() - started
    assert ended is not None
    assert ended < CLOSED_WITHIN_S + 1
    assert most < MOST_GROWTH
    demand_others_served(shared_stack, key)


def told_slow(stack: Stack) -> int:
    """Return how many lines the web process says it cut because nobody read from them."""
    return stack.log("web", 10_000).count("code=4408")


def test_a_slow_client_that_wakes_up_finds_4408(shared_stack: Stack, key: str, raw: Callable[..., Raw]) -> None:
    """It has a moment after the cut to read what was sent before, and why it was closed."""
    one = raw(buffer=4096)
    payload, before = "x" * 900_000, told_slow(shared_stack)
    message_ids = [send(shared_stack, "gw-bad", payload=payload) for _ in range(8)]
    shared_stack.wait_for(lambda: told_slow(shared_stack) > before, CLOSED_WITHIN_S, "the cut")
    code = one.until_closed()
    assert code == 4408
    with Client(shared_stack, key=key) as client:
        client.hear()

        def all_delivered() -> bool:
            with suppress(TimeoutError):  # on a busy machine some come again: their time was over
                frame = client.hear(1)
                if frame["type"] == "delivery":
                    client.say(type="ack", delivery_id=frame["delivery_id"])
            return {delivery_of(shared_stack, message_id)["state"] for message_id in message_ids} == {"delivered"}

        shared_stack.wait_for(all_delivered, what="all of them delivered to the next client")


@pytest.mark.parametrize("path", ["", "ws/v1/nothing/", "ws/v1/gateway/x", "admin/"])
def test_a_socket_of_no_path_of_ours_is_404_and_no_news(shared_stack: Stack, path: str) -> None:
    """A program says no Origin, a page may say any; what is not there is no fault of ours to write a page about."""
    said = shared_stack.log("web", 10_000).count("Traceback")
    url = f"{shared_stack.url.replace('http', 'ws')}/{path}"
    for origin in (Origin(shared_stack.url), None):
        with pytest.raises(InvalidStatus) as refused, connect(url, origin=origin, proxy=None):
            pass

        assert refused.value.response.status_code == 404
    assert shared_stack.log("web", 10_000).count("Traceback") == said
