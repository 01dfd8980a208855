"""WebSocket endpoints against real servers: how answers are matched, what refusals mean, and how lines end."""

import asyncio
import gc
import json
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from endpoints.errors import Malformed
from endpoints.transports import make_transport
from endpoints.transports.base import AckLevel, Address, Advice, ErrorClass, Secret, TransportError
from endpoints.transports.config import validate_config
from endpoints.transports.ws import WsTransport
from tests.contract.peers import address, outgoing
from tests.peers.corpus import EVERYTHING
from tests.peers.foreign import node
from tests.servers.ports import free_port
from tests.servers.ws import CUT, Close, Got, Many, WsReceiver

# Its peers live in threads with loops of their own and are cut in the middle: what they leave open is not ours.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def receiver() -> Iterator[WsReceiver]:
    with WsReceiver() as receiver:
        yield receiver


def at(receiver: WsReceiver, **config: Any) -> Address:
    return address(protocol="ws", port=receiver.port, path="/in?a=1", config=config, timeout_s=5)


@asynccontextmanager
async def opened(address: Address) -> AsyncIterator[WsTransport]:
    transport = make_transport(address)
    assert isinstance(transport, WsTransport)
    await transport.open()
    try:
        yield transport
    finally:
        await transport.aclose()


async def failure(transport: WsTransport, **fields: Any) -> TransportError:
    with pytest.raises(TransportError) as caught:
        await transport.send(outgoing(**fields))
    return caught.value


def acked(got: Got) -> str:
    return json.dumps({"type": "ack", "delivery_id": json.loads(got.data)["delivery_id"]})


# -- what is sent ---------------------------------------------------------------------


async def test_the_handshake_holds_what_was_configured(receiver: WsReceiver) -> None:
    async with opened(at(receiver, headers={"X-Tenant": "north"}, subprotocols=["orders.v1"])) as transport:
        receiver.stop()
        with WsReceiver(port=receiver.port, subprotocols=["orders.v1"]) as choosing:
            await transport.send(outgoing())
            [got] = choosing.wait_for(1)

    assert (got.path, got.subprotocol) == ("/in?a=1", "orders.v1")
    assert (got.headers["x-tenant"], got.headers["host"]) == ("north", f"127.0.0.1:{receiver.port}")


@pytest.mark.parametrize(
    ("content_type", "payload", "is_text"),
    [
        ("application/json", '{"ä": "🙂"}'.encode(), True),
        ("text/plain; charset=utf-8", b"plain", True),
        ("application/vnd.x+json", b"{}", True),
        ("application/json", b'"\xff"', False),
        ("application/octet-stream", b"plain", False),
        ("application/json", b"", True),
    ],
)
async def test_text_that_is_text_goes_as_text_and_all_else_as_bytes(
    receiver: WsReceiver, content_type: str, payload: bytes, is_text: bool
) -> None:
    async with opened(at(receiver)) as transport:
        await transport.send(outgoing(content_type=content_type, payload=payload))

    [got] = receiver.wait_for(1)
    assert (isinstance(got.data, str), got.body) == (is_text, payload)


async def test_an_envelope_holds_the_message(receiver: WsReceiver) -> None:
    async with opened(at(receiver, body="envelope")) as transport:
        reply = await transport.send(outgoing())

    [got] = receiver.wait_for(1)
    told = json.loads(got.data)
    assert (told["delivery_id"], told["payload"]) == ("0193d-delivery", {"order": 4711})
    assert reply.request["body"] == got.data


async def test_without_a_reply_a_pong_delivers_and_one_connection_is_enough(receiver: WsReceiver) -> None:
    """A pong comes after what was sent before its ping has been read: the peer's end has the message."""
    receiver.answer(None)
    async with opened(at(receiver)) as transport:
        replies = await asyncio.gather(*(transport.send(outgoing(delivery_id=str(n))) for n in range(200)))

    assert {reply.ack_level for reply in replies} == {AckLevel.TRANSPORT}
    assert (len(receiver.received), receiver.connections) == (200, 1)


# -- answers --------------------------------------------------------------------------


async def test_answers_by_id_may_come_in_any_order_over_one_connection(receiver: WsReceiver) -> None:
    held: list[str] = []

    def last_first(got: Got) -> Many | None:
        held.append(acked(got))
        return Many(tuple(reversed(held))) if len(held) == 50 else None

    receiver.answer(last_first)
    async with opened(replace(at(receiver, reply="ack", match="id", body="envelope"), max_in_flight=50)) as transport:
        sends = [transport.send(outgoing(delivery_id=f"d{n}", message_id=f"m{n}")) for n in range(50)]
        replies = await asyncio.gather(*sends)

    assert [json.loads(reply.body)["delivery_id"] for reply in replies] == [f"d{n}" for n in range(50)]
    assert receiver.connections == 1


@pytest.mark.parametrize("name", ["message_id", "correlation_id", "ref"])
async def test_an_answer_to_one_is_not_taken_for_another_whose_payload_mentions_it(
    receiver: WsReceiver, name: str
) -> None:
    """An id of ours names its own message, whatever the payloads and correlations of others hold."""
    config = at(receiver, reply="ack", match="id")
    receiver.answer(None, json.dumps({"type": "ack", name: "m-own"}))
    async with opened(replace(config, max_in_flight=2, timeout_s=2)) as transport:
        mention = outgoing(delivery_id="d1", message_id="m1", correlation_id="m-own", payload=b'{"ref": "m-own"}')
        mentioning = asyncio.create_task(transport.send(mention))
        await asyncio.to_thread(receiver.wait_for, 1)
        reply = await transport.send(outgoing(delivery_id="d2", message_id="m-own", correlation_id="c2"))
        assert json.loads(reply.body)[name] == "m-own"
        assert not mentioning.done()
        mentioning.cancel()
        await asyncio.gather(mentioning, return_exceptions=True)


@pytest.mark.parametrize(
    "answer",
    [
        {"delivery_id": "0193d-delivery"},
        {"message_id": "0193m-message"},
        {"correlation_id": "c-1"},
        {"correlation_id": "0193m-message", "message_id": "its own"},
        {"ref": "from the payload"},
        {"ref": "0193d-delivery"},
        {"says": "no id"},
        "not an object",
        7,
    ],
)
async def test_an_answer_that_names_the_message_or_none_is_taken(receiver: WsReceiver, answer: Any) -> None:
    receiver.answer(Many((json.dumps({"ref": "another"}), json.dumps({"type": "ack", "message_id": "x"}))), None)
    async with opened(at(receiver, reply="message")) as transport:
        receiver.answer(Many((json.dumps({"ref": "another"}), json.dumps(answer))))
        reply = await transport.send(outgoing(payload=b'{"ref": "from the payload"}', message_type="request"))

    assert json.loads(reply.body) == answer
    assert reply.ack_level is AckLevel.APPLICATION


async def test_with_match_id_an_answer_without_one_answers_nothing(receiver: WsReceiver) -> None:
    receiver.answer('{"ok": true}')
    async with opened(replace(at(receiver, reply="ack", match="id", body="envelope"), timeout_s=0.3)) as transport:
        error = await failure(transport)
    assert error.error_class is ErrorClass.TIMEOUT


async def test_a_nack_says_why_and_when_to_come_again(receiver: WsReceiver) -> None:
    receiver.answer('{"type": "nack", "reason": "no such order", "retry_after_s": 7}')
    async with opened(at(receiver, reply="ack")) as transport:
        error = await failure(transport)

    assert (error.error_class, error.advice, error.retry_after_s) == (ErrorClass.NACK, Advice.RETRY, 7)
    assert "no such order" in error.detail
    assert error.reply is not None
    assert b"no such order" in error.reply.body


async def test_a_nack_that_holds_half_a_character_is_no_ack(receiver: WsReceiver) -> None:
    """JavaScript that shortens a text may leave the half of an emoji; a strict reader takes none of it."""
    receiver.answer('{"type": "nack", "reason": "no such \\ud83d"}')
    async with opened(at(receiver, reply="ack")) as transport:
        error = await failure(transport)

    assert error.error_class is ErrorClass.NACK
    assert "no such ?" in error.detail


async def test_an_ack_is_no_response_to_a_request(receiver: WsReceiver) -> None:
    receiver.answer('{"type": "ack"}')
    async with opened(at(receiver, reply="ack")) as transport:
        assert (await transport.send(outgoing(message_type="request"))).body == b""
        assert (await transport.send(outgoing())).body == b'{"type": "ack"}'


async def test_a_late_answer_is_not_taken_for_the_next_message(receiver: WsReceiver) -> None:
    """What timed out may be answered yet: its connection is given up where answers bear no names."""
    receiver.answer(None, "second")
    async with opened(replace(at(receiver, reply="message", connections=1), timeout_s=0.3)) as transport:
        await failure(transport)
        assert (await transport.send(outgoing())).body == b"second"
    assert receiver.connections == 2


# -- refusals -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error_class", "advice"),
    [
        (401, ErrorClass.AUTH, Advice.RETRY),
        (403, ErrorClass.AUTH, Advice.RETRY),
        (429, ErrorClass.THROTTLED, Advice.THROTTLED),
        (503, ErrorClass.SERVER_ERROR, Advice.RETRY),
        (404, ErrorClass.CLIENT_ERROR, Advice.DEAD),
        (302, ErrorClass.PROTOCOL, Advice.DEAD),
        (200, ErrorClass.PROTOCOL, Advice.DEAD),
    ],
)
async def test_a_refused_handshake_means_what_the_status_does_over_http(
    receiver: WsReceiver, status: int, error_class: ErrorClass, advice: Advice
) -> None:
    receiver.refuse(status, Retry_After="9")
    async with opened(at(receiver)) as transport:
        error = await failure(transport)

    assert (error.error_class, error.advice) == (error_class, advice)
    assert error.reply is not None
    assert (error.reply.status_code, error.reply.body) == (status, b"no\n")
    assert error.retry_after_s == (9 if status in (429, 503) else None)


async def test_a_peer_that_refuses_is_not_hammered(receiver: WsReceiver) -> None:
    """Fifty messages ask once; the others wait and spend nothing, and all go when the peer is willing again."""
    receiver.refuse(401)
    async with opened(replace(at(receiver, reply="ack"), max_in_flight=50)) as transport:
        results = await asyncio.gather(*(transport.send(outgoing()) for _ in range(50)), return_exceptions=True)
        errors = [result for result in results if isinstance(result, TransportError)]
        assert len(errors) == 50
        assert {error.error_class for error in errors} == {ErrorClass.AUTH}
        waits = [error.retry_after_s for error in errors if error.advice is Advice.THROTTLED]
        assert receiver.handshakes == 50 - len(waits) < 5
        assert all(wait is not None and 0 < wait <= 5 for wait in waits)
        receiver.refuse(None)

        async with asyncio.timeout(10):
            for wait_s in sorted(wait for wait in waits if wait is not None)[-1:]:
                await asyncio.sleep(wait_s)  # as the engine does
            assert (await transport.send(outgoing())).ack_level is AckLevel.APPLICATION


@pytest.mark.parametrize(
    ("code", "error_class", "advice"),
    [
        (1002, ErrorClass.PROTOCOL, Advice.RETRY),
        (1003, ErrorClass.PROTOCOL, Advice.DEAD),
        (1008, ErrorClass.AUTH, Advice.RETRY),
        (1009, ErrorClass.PROTOCOL, Advice.DEAD),
        (1011, ErrorClass.SERVER_ERROR, Advice.RETRY),
        (1013, ErrorClass.THROTTLED, Advice.THROTTLED),
        (4401, ErrorClass.AUTH, Advice.RETRY),
        (4403, ErrorClass.AUTH, Advice.RETRY),
        (4408, ErrorClass.TIMEOUT, Advice.RETRY),
        (4429, ErrorClass.THROTTLED, Advice.THROTTLED),
        (1000, ErrorClass.CONNECT, Advice.RETRY),
        (4999, ErrorClass.CONNECT, Advice.RETRY),
    ],
)
async def test_a_close_code_says_whose_fault_it_was(
    receiver: WsReceiver, code: int, error_class: ErrorClass, advice: Advice
) -> None:
    receiver.answer(Close(code, "so it is"))
    async with opened(at(receiver, reply="ack")) as transport:
        error = await failure(transport)

    assert (error.error_class, error.advice) == (error_class, advice)
    assert str(code) in error.detail
    assert "so it is" in error.detail


async def test_of_many_on_one_line_the_guilty_is_found_by_sending_each_alone(receiver: WsReceiver) -> None:
    """1009 ends the line for all: nobody is buried for a neighbour's size."""
    receiver.answer(lambda got: Close(1009) if len(got.body) > 5000 else acked(got))
    async with opened(at(receiver, reply="ack", match="id", body="envelope")) as transport:
        bodies = [b'"%s"' % (b"x" * (9000 if number == 3 else 9)) for number in range(8)]
        waiting = dict(enumerate(bodies))
        buried = []
        for attempt in range(1, 4):

            def go(number: int, attempt: int = attempt) -> Any:
                return transport.send(outgoing(delivery_id=f"d{number}", payload=waiting[number], attempt=attempt))

            results = await asyncio.gather(*map(go, waiting), return_exceptions=True)
            for number, result in zip(list(waiting), results, strict=True):
                if not isinstance(result, TransportError):
                    del waiting[number]
                elif result.advice is Advice.DEAD:
                    buried.append(number)
                    del waiting[number]

    assert (buried, waiting) == ([3], {})


async def test_an_answer_over_the_cap_ends_the_line_and_is_final(receiver: WsReceiver) -> None:
    receiver.answer(b"x" * (2 * 1024 * 1024))
    async with opened(at(receiver, reply="message")) as transport:
        error = await failure(transport)
    assert (error.error_class, error.advice) == (ErrorClass.PROTOCOL, Advice.DEAD)


async def test_a_deflate_bomb_is_not_unpacked() -> None:
    """64 MiB of zeros are 64 KiB on the line: unpacked no further than the cap."""
    with WsReceiver(compression="deflate") as receiver:
        receiver.answer(bytes(64 * 1024 * 1024))
        async with opened(at(receiver, reply="message", compression=True)) as transport:
            await transport.probe()
            tracemalloc.start()
            error = await failure(transport)
            # The server's own 64 MiB were made before; what is unpacked here would be as much again.
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    assert error.error_class is ErrorClass.PROTOCOL
    assert peak < 24 * 1024 * 1024


async def test_a_text_frame_that_is_not_utf8_is_no_answer() -> None:
    async def raw(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        import base64
        import hashlib

        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = next(line.split(": ")[1] for line in head.split("\r\n") if line.lower().startswith("sec-websocket-key"))
        accept = base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest())
        writer.write(b"HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
        writer.write(b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        await reader.read(100)
        writer.write(b"\x81\x02\xff\xfe")
        await reader.read()
        writer.close()

    port = free_port()
    server = await asyncio.start_server(raw, "127.0.0.1", port)
    async with server, opened(address(protocol="ws", port=port, config={"reply": "ack"})) as transport:
        error = await failure(transport)
    assert error.error_class is ErrorClass.PROTOCOL


async def test_what_is_no_websocket_server_is_told_so(receiver: WsReceiver) -> None:
    async def ssh(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
        await reader.read()
        writer.close()

    port = free_port()
    server = await asyncio.start_server(ssh, "127.0.0.1", port)
    async with server, opened(address(protocol="ws", port=port)) as transport:
        error = await failure(transport)
    assert error.error_class is ErrorClass.PROTOCOL


# -- lines that end -------------------------------------------------------------------


async def test_a_connection_the_peer_gave_up_is_replaced_within_the_attempt(receiver: WsReceiver) -> None:
    receiver.answer("first", CUT, "again")
    async with opened(at(receiver, reply="message", connections=1)) as transport:
        assert (await transport.send(outgoing())).body == b"first"
        assert (await transport.send(outgoing())).body == b"again"
    assert (receiver.connections, len(receiver.received)) == (2, 3)


async def test_a_line_that_breaks_under_its_first_message_is_an_error_to_try_again(receiver: WsReceiver) -> None:
    receiver.answer(CUT)
    async with opened(at(receiver, reply="ack")) as transport:
        error = await failure(transport)
    assert (error.error_class, error.advice) == (ErrorClass.CONNECT, Advice.RETRY)


async def test_connections_are_closed_with_a_farewell(receiver: WsReceiver) -> None:
    async with opened(replace(at(receiver, reply="ack"), max_in_flight=8)) as transport:
        await asyncio.gather(*(transport.send(outgoing()) for _ in range(8)))
        assert await asyncio.to_thread(receiver.wait_until_open, 8)
        started = time.monotonic()
    assert time.monotonic() - started < 1
    assert await asyncio.to_thread(receiver.wait_until_open, 0)


async def test_a_peer_that_answers_no_ping_is_dead(receiver: WsReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cable that was pulled says nothing: silence after a ping ends what waits, long before a long timeout."""
    from endpoints.transports import ws_connection, ws_pool

    for module, name, value in ((ws_connection, "PING_AFTER_S", 0.1), (ws_connection, "PONG_WITHIN_S", 0.3)):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(ws_pool, "TICK_S", 0.05)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", receiver.port)
        back.write(await reader.readuntil(b"\r\n\r\n"))
        writer.write(await there.readuntil(b"\r\n\r\n"))
        await reader.read()  # forwards nothing any more
        back.close()
        writer.close()

    port = free_port()
    async with await asyncio.start_server(silent, "127.0.0.1", port):
        target = address(protocol="ws", port=port, config={"reply": "ack"}, timeout_s=60)
        async with opened(target) as transport:
            error = await failure(transport)
    assert error.error_class is ErrorClass.TIMEOUT
    assert "ping" in error.detail


@asynccontextmanager
async def talking(receiver: WsReceiver) -> AsyncIterator[int]:
    """Yield the port of a peer that reads all, says something all the time, and answers no ping."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", receiver.port)
        back.write(await reader.readuntil(b"\r\n\r\n"))
        writer.write(await there.readuntil(b"\r\n\r\n"))
        while not reader.at_eof():
            writer.write(b"\x81\x02hi")
            with suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    while await reader.read(1024 * 1024):
                        pass
        back.close()
        writer.close()

    port = free_port()
    async with await asyncio.start_server(talk, "127.0.0.1", port):
        yield port


async def test_what_no_pong_confirmed_in_time_takes_no_room(receiver: WsReceiver) -> None:
    """The peer is there and talks, so its line stays: what timed out on it must not stay with it."""
    async with talking(receiver) as port, opened(address(protocol="ws", port=port, timeout_s=0.05)) as transport:
        await failure(transport)
        tracemalloc.start()
        for _ in range(30):
            assert (await failure(transport, payload=bytes(1_000_000))).error_class is ErrorClass.TIMEOUT
        gc.collect()  # errors told, and the frames they hold
        for _ in range(400):
            kept = tracemalloc.get_traced_memory()[0]
            if kept < 8_000_000:
                break
            await asyncio.sleep(0.05)  # the peer of a busy machine reads the last of them later
        tracemalloc.stop()
    assert kept < 8_000_000


async def test_a_peer_that_talks_and_answers_no_ping_is_dead(
    receiver: WsReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    from endpoints.transports import ws_connection, ws_pool

    monkeypatch.setattr(ws_connection, "PONG_LATEST_S", 0.3)
    monkeypatch.setattr(ws_pool, "TICK_S", 0.05)
    async with talking(receiver) as port, opened(address(protocol="ws", port=port, timeout_s=10)) as transport:
        error = await failure(transport)
    assert error.error_class is ErrorClass.TIMEOUT
    assert "ping" in error.detail


async def test_pongs_of_some_pings_while_others_are_on_their_way_are_signs_of_life(
    receiver: WsReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under load some ping is unanswered at any time."""
    from endpoints.transports import ws_connection, ws_pool

    monkeypatch.setattr(ws_connection, "PONG_LATEST_S", 0.5)
    monkeypatch.setattr(ws_pool, "TICK_S", 0.02)

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", receiver.port)

        async def answers() -> None:
            while said := await there.read(65536):
                asyncio.get_running_loop().call_later(0.1, writer.write, said)

        answering = asyncio.create_task(answers())
        while said := await reader.read(65536):
            back.write(said)
        back.close()
        await answering
        writer.close()

    async def send_on(transport: WsTransport, number: int) -> None:
        await asyncio.sleep(number / 100)  # so that their pings are never all answered
        for _ in range(12):
            await transport.send(outgoing())

    receiver.answer(None)
    port = free_port()
    async with (
        await asyncio.start_server(slow, "127.0.0.1", port),
        opened(address(protocol="ws", port=port)) as transport,
    ):
        await transport.send(outgoing())  # else all would wait for the connection, and go on together
        await asyncio.gather(*(send_on(transport, number) for number in range(10)))
    assert receiver.connections == 1


# -- credentials ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "data", "header", "shown"),
    [
        ("bearer", {"token": "t0ken-of-erp"}, "authorization", "Bearer t0ken-of-erp"),
        ("basic", {"username": "anna", "password": "pässwort"}, "authorization", "Basic YW5uYTpww6Rzc3dvcnQ="),
        ("api_key", {"value": "key-of-erp"}, "x-api-key", "key-of-erp"),
    ],
)
async def test_a_credential_is_shown_at_the_handshake(
    receiver: WsReceiver, kind: str, data: dict[str, str], header: str, shown: str
) -> None:
    secret = Secret("c1", "shop", kind, data)
    async with opened(replace(at(receiver), credential=secret)) as transport:
        reply = await transport.send(outgoing())
    assert receiver.wait_for(1)[0].headers[header] == shown
    assert "$SHOP" in reply.request["headers"][header]


@pytest.mark.parametrize(
    "config",
    [
        {"match": "id"},
        {"subprotocols": ["two words"]},
        {"headers": {"Sec-WebSocket-Key": "x"}},
        {"headers": {"x-a": "${{ message.message_id }}"}},
        {"headers": {"Upgrade": "x"}},
        {"connections": 0},
        {"reply": "maybe"},
    ],
)
def test_a_config_that_cannot_work_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        validate_config("ws", config)


# -- a peer on Node.js ----------------------------------------------------------------


@pytest.mark.parametrize("compression", [False, True])
async def test_every_payload_comes_back_from_node_as_it_went(compression: bool) -> None:
    config = {"reply": "message", "compression": compression, "subprotocols": ["orders.v2"]}
    with node("ws.js", "ws") as port:
        async with opened(address(protocol="ws", port=port, config=config)) as transport:
            for content_type in ("text/plain", "application/octet-stream"):
                for payload in EVERYTHING:
                    sent = outgoing(payload=payload, content_type=content_type, message_type="request")
                    assert (await transport.send(sent)).body == payload


async def test_node_acks_by_id_over_one_connection() -> None:
    with node("ws.js", "ws", "ack") as port:
        config = {"reply": "ack", "match": "id", "body": "envelope"}
        async with opened(address(protocol="ws", port=port, config=config, max_in_flight=64)) as transport:
            await asyncio.gather(*(transport.send(outgoing(delivery_id=f"d{n}")) for n in range(500)))


async def test_node_finds_a_message_too_big() -> None:
    with node("ws.js", "ws") as port:
        async with opened(address(protocol="ws", port=port, config={"reply": "message"})) as transport:
            error = await failure(transport, payload=b"x" * (3 * 1024 * 1024))
    assert (error.error_class, error.advice) == (ErrorClass.PROTOCOL, Advice.DEAD)
