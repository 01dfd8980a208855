"""The HTTP client on the wire, over both event loops: connections kept, cut and replaced, answers framed in any way."""

import asyncio
import gc
import gzip
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop

from endpoints.egress import Egress, parse_zones
from endpoints.transports import idle
from endpoints.transports.base import Advice, ErrorClass, Reply, TransportError
from endpoints.transports.http import HttpTransport
from endpoints.transports.http1 import Connection
from endpoints.transports.http_exchange import Exchange
from endpoints.transports.http_request import RequestMaker
from endpoints.transports.pool import Peer, Pool
from tests.contract.peers import address, outgoing
from tests.servers.answers import HANG, HANG_UP, Answer
from tests.servers.certificates import CertificateAuthority
from tests.servers.fixtures import authority  # noqa: F401
from tests.servers.http import HttpReceiver

Run = Callable[[Coroutine[Any, Any, None]], None]
Converse = Callable[["Line"], Awaitable[None]]
LOCAL = Egress(parse_zones(["127.0.0.0/8"]))
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LARGE = bytes(range(256)) * 4096 * 20
PATIENCE_S = 20.0


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a scenario on one of the loops, within a time that only a fault exceeds."""

    def within(scenario: Coroutine[Any, Any, None]) -> None:
        async def timed() -> None:
            async with asyncio.timeout(3 * PATIENCE_S):
                await scenario

        request.param(timed())

    return within


class Line:
    """One connection as the server sees it; `number` counts them from 1."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.reader, self.writer, self.number = reader, writer, number

    async def request(self) -> bytes:
        """Read one request with its body and return it."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")), 0)
        return head + await self.reader.readexactly(length)

    async def say(self, answer: bytes) -> None:
        self.writer.write(answer)
        await self.writer.drain()

    async def answer(self, *answers: bytes) -> None:
        """Answer as many requests, in this order."""
        for answer in answers:
            await self.request()
            await self.say(answer)

    async def is_cut(self) -> None:
        """Wait until the client closes; what it still sends is thrown away."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                while await self.reader.read(65536):
                    pass
            except ConnectionError:
                pass


class Served:
    """A server in the test's own loop: its port, and the connections it got so far."""

    def __init__(self, converse: Converse) -> None:
        self.port, self.lines = 0, 0
        self._converse = converse
        self._tasks: set[asyncio.Task[None]] = set()
        self.faults: list[BaseException] = []

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.lines += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._converse(Line(reader, writer, self.lines))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client is done with it
        except (TimeoutError, AssertionError) as exc:
            self.faults.append(exc)
        finally:
            writer.transport.abort()

    async def end(self, *, cut: bool) -> None:
        """Let the conversations come to their end, or cut them; what went wrong in one is raised."""
        for task in self._tasks:
            if cut:
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)
        if self.faults:
            raise self.faults[0]


@asynccontextmanager
async def served(converse: Converse, **fields: Any) -> AsyncIterator[tuple[HttpTransport, Served]]:
    """Serve, and yield an opened transport to it; it is closed at the end, and then the server."""
    server = Served(converse)
    async with await asyncio.start_server(server.accept, "127.0.0.1", 0) as listening:
        server.port = listening.sockets[0].getsockname()[1]
        transport = HttpTransport(address(**{"port": server.port, "timeout_s": PATIENCE_S} | fields), LOCAL)
        await transport.open()
        try:
            yield transport, server
        except BaseException:
            await server.end(cut=True)
            raise
        finally:
            await transport.aclose()
        await server.end(cut=False)


async def refused(sending: Awaitable[Reply]) -> TransportError:
    with pytest.raises(TransportError) as caught:
        await sending
    return caught.value


# -- connections ------------------------------------------------------------------------


def test_a_connection_that_was_kept_and_then_closed_is_replaced_once(run: Run) -> None:
    """The race every client with keep-alive has: the server closes while the next request is on its way."""

    async def converse(line: Line) -> None:
        await line.answer(OK)
        if line.number == 1:
            await line.request()  # and closes without a byte
        else:
            await line.answer(OK)

    async def scenario() -> None:
        async with served(converse) as (transport, server):
            for _ in range(3):
                assert (await transport.send(outgoing())).body == b"ok"
            assert server.lines == 2

    run(scenario())


@pytest.mark.parametrize(
    "said", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nCont"], ids=["H", "100", "200"]
)
def test_a_request_that_may_have_been_heard_is_not_made_again(run: Run, said: bytes) -> None:
    async def converse(line: Line) -> None:
        await line.answer(OK, said)

    async def scenario() -> None:
        async with served(converse) as (transport, server):
            await transport.send(outgoing())
            error = await refused(transport.send(outgoing()))
            assert (error.error_class, error.advice, server.lines) == (ErrorClass.CONNECT, Advice.RETRY, 1)

    run(scenario())


def test_a_new_connection_that_ends_without_an_answer_is_not_replaced(run: Run) -> None:
    async def converse(line: Line) -> None:
        if line.number == 1:
            await line.answer(OK)
        await line.request()

    async def scenario() -> None:
        async with served(converse) as (transport, server):
            await transport.send(outgoing())
            error = await refused(transport.send(outgoing()))
            assert (error.error_class, server.lines) == (ErrorClass.CONNECT, 2)
            assert "before an answer" in error.detail

    run(scenario())


@pytest.mark.parametrize("more", [b"x", OK, b"HTTP/1.1 500 No\r\n\r\n"], ids=["junk", "200", "500"])
@pytest.mark.parametrize("is_later", [False, True], ids=["at once", "later"])
def test_bytes_that_nobody_asked_for_end_the_connection_not_the_answer(run: Run, more: bytes, is_later: bool) -> None:
    """Or they would be taken for the answer to the next request."""

    async def converse(line: Line) -> None:
        if line.number == 1:
            await line.answer(OK if is_later else OK + more)
            if is_later:
                await asyncio.sleep(0.05)
                await line.say(more)
            await line.is_cut()
            may_go_on.set()
        else:
            await line.answer(OK)

    may_go_on = asyncio.Event()

    async def scenario() -> None:
        async with served(converse) as (transport, server):
            first = await transport.send(outgoing())
            await may_go_on.wait()
            second = await transport.send(outgoing())
            assert [(first.status_code, first.body), (second.status_code, second.body)] == [(200, b"ok")] * 2
            assert server.lines == 2

    run(scenario())


def test_idle_connections_are_closed_in_time(run: Run) -> None:
    async def converse(line: Line) -> None:
        await line.answer(OK)
        await line.is_cut()

    async def scenario() -> None:
        async with served(converse) as (_, server):
            pool = Pool(LOCAL, Peer("127.0.0.1", server.port), 4, Connection, idle_s=0.1)
            exchange = Exchange(10, time.perf_counter() + 3600)
            exchange.head = b"GET / HTTP/1.1\r\n\r\n"
            assert (await pool.ask(exchange)).body == b"ok"
            await server.end(cut=False)  # each conversation waits until it is cut
            pool.close()

    run(scenario())


def test_of_all_idle_connections_of_a_process_the_longest_idle_goes_first(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two may be kept, over all pools; the third ends the first, which is made anew when it is wanted."""
    ended: asyncio.Queue[int] = asyncio.Queue()

    async def converse(line: Line) -> None:
        await line.answer(OK)
        await line.is_cut()
        ended.put_nowait(line.number)

    async def scenario() -> None:
        async with served(converse) as (_, server):
            pools = [Pool(LOCAL, Peer("127.0.0.1", server.port), 4, Connection) for _ in range(3)]
            for pool in (*pools, pools[0]):
                exchange = Exchange(10, time.perf_counter() + 3600)
                exchange.head = b"GET / HTTP/1.1\r\n\r\n"
                assert (await pool.ask(exchange)).body == b"ok"
            assert [await ended.get(), await ended.get(), server.lines] == [1, 2, 4]
            assert len(idle.IDLE) == 2
            for pool in pools:
                pool.close()
            assert len(idle.IDLE) == 0

    monkeypatch.setattr(idle.IDLE, "most", 2)
    run(scenario())


def test_who_waits_for_a_connection_is_served_in_turn_and_one_who_gives_up_takes_none_along(run: Run) -> None:
    got: list[bytes] = []
    begun, hold = asyncio.Event(), asyncio.Event()

    async def converse(line: Line) -> None:
        while True:
            got.append((await line.request())[-1:])
            begun.set()
            await hold.wait()
            await line.say(OK)

    async def scenario() -> None:
        async with served(converse, max_in_flight=1) as (transport, server):
            sends = [asyncio.create_task(transport.send(outgoing(payload=b"%d" % number))) for number in range(5)]
            await begun.wait()
            sends[2].cancel()
            hold.set()
            done = await asyncio.gather(*sends, return_exceptions=True)
            assert isinstance(done[2], asyncio.CancelledError)
            assert (got, server.lines) == ([b"0", b"1", b"3", b"4"], 1)

    run(scenario())


def test_one_who_gives_up_when_its_turn_comes_passes_it_on(run: Run) -> None:
    begun, hold = asyncio.Event(), asyncio.Event()

    async def converse(line: Line) -> None:
        await line.request()
        begun.set()
        await hold.wait()
        await line.say(OK)
        await line.answer(OK)

    async def scenario() -> None:
        async with served(converse, max_in_flight=1) as (transport, server):

            async def first() -> None:
                await transport.send(outgoing())
                second.cancel()  # which was given the connection, and has not run since

            sending = asyncio.create_task(first())
            await begun.wait()
            second = asyncio.create_task(transport.send(outgoing()))
            await asyncio.sleep(0)
            hold.set()
            await sending
            with pytest.raises(asyncio.CancelledError):
                await second
            assert (await transport.send(outgoing())).body == b"ok"
            assert server.lines == 1

    run(scenario())


def test_waiting_for_a_connection_takes_no_longer_than_allowed_and_a_cut_send_frees_its_place(run: Run) -> None:
    async def converse(line: Line) -> None:
        if line.number == 1:
            await line.request()
            await line.is_cut()
        else:
            await line.answer(OK)

    async def scenario() -> None:
        async with served(converse, max_in_flight=1, timeout_s=0.3) as (transport, _):
            ends = await asyncio.gather(*(refused(transport.send(outgoing())) for _ in range(2)))
            assert [end.error_class for end in ends] == [ErrorClass.TIMEOUT] * 2
            assert [set(end.phases_ms) for end in ends] == [{"connect", "first_byte"}, {"connect"}]
            assert (await transport.send(outgoing())).status_code == 200

    run(scenario())


@pytest.mark.parametrize("protocol", ["http", "https"])
def test_closing_ends_every_send_at_once(run: Run, protocol: str) -> None:
    """One that waits for an answer or for a TLS handshake that never comes, and one that waits in the queue."""
    connected = asyncio.Event()

    async def converse(line: Line) -> None:
        connected.set()
        await line.is_cut()

    async def scenario() -> None:
        async with served(converse, protocol=protocol, max_in_flight=1, timeout_s=600) as (transport, _):
            sends = [asyncio.create_task(refused(transport.send(outgoing()))) for _ in range(2)]
            await connected.wait()
            await asyncio.sleep(0.05)
            await transport.aclose()
            assert [(await send).detail for send in sends] == ["the connection is closed"] * 2
            assert (await refused(transport.send(outgoing()))).error_class is ErrorClass.CONNECT

    run(scenario())


def test_the_next_address_is_tried_when_one_does_not_listen(run: Run) -> None:
    async def lookup(_: str) -> list[str]:
        return ["127.0.0.9", "127.0.0.1"]

    async def converse(line: Line) -> None:
        assert f"host: two.example:{server_port[0]}\r\n".encode() in await line.request()
        await line.say(OK)

    server_port: list[int] = []

    async def scenario() -> None:
        async with served(converse) as (_, server):
            server_port.append(server.port)
            egress = Egress(parse_zones(["127.0.0.0/8"]), lookup=lookup)
            transport = HttpTransport(address(host="two.example", port=server.port, timeout_s=PATIENCE_S), egress)
            await transport.open()
            assert (await transport.send(outgoing())).body == b"ok"
            await transport.aclose()

    run(scenario())


def test_thousands_of_sends_leave_nothing_behind(run: Run) -> None:
    async def converse(line: Line) -> None:
        while True:
            await line.answer(OK)

    async def scenario() -> None:
        async with served(converse, max_in_flight=4) as (transport, server):
            counts = []
            for _ in range(3):
                await asyncio.gather(*(transport.send(outgoing()) for _ in range(500)))
                gc.collect()
                counts.append(len(gc.get_objects()))
            assert counts[2] - counts[1] < 200
            assert server.lines <= 4

    run(scenario())


# -- TLS --------------------------------------------------------------------------------


def test_over_tls_connections_are_kept_replaced_and_cut_as_without(
    run: Run,
    authority: CertificateAuthority,  # noqa: F811
    tmp_path: Path,
) -> None:
    with HttpReceiver(tls=authority.server_context(tmp_path, "127.0.0.1")) as receiver:
        where = address(protocol="https", port=receiver.port, config={"tls": {"ca": authority.pem}}, timeout_s=10)

        async def scenario() -> None:
            transport = HttpTransport(where, LOCAL)
            await transport.open()
            receiver.answer(200, Answer(200, b"x" * 100_000), HANG_UP, 200, HANG)
            assert (await transport.send(outgoing(payload=LARGE))).truncated is False
            assert (await transport.send(outgoing(message_type="request"))).body == b"x" * 100_000
            assert (await transport.send(outgoing())).status_code == 200
            hanging = asyncio.create_task(refused(transport.send(outgoing())))
            await asyncio.to_thread(receiver.wait_for, 5)
            await transport.aclose()
            assert (await hanging).error_class is ErrorClass.CONNECT

        run(scenario())
        assert [got.connection for got in receiver.received] == [1, 1, 1, 2, 2]
        assert receiver.received[0].body == LARGE


@pytest.mark.parametrize("tls", [{}, {"ca": True, "server_name": "other.example"}], ids=["issuer", "name"])
def test_a_peer_that_is_not_who_it_should_be_gets_nothing(
    run: Run,
    authority: CertificateAuthority,  # noqa: F811
    tmp_path: Path,
    tls: dict[str, Any],
) -> None:
    config = {"tls": tls | ({"ca": authority.pem} if "ca" in tls else {})}
    with HttpReceiver(tls=authority.server_context(tmp_path, "127.0.0.1")) as receiver:

        async def scenario() -> None:
            transport = HttpTransport(address(protocol="https", port=receiver.port, config=config), LOCAL)
            await transport.open()
            error = await refused(transport.send(outgoing()))
            assert (error.error_class, set(error.phases_ms)) == (ErrorClass.TLS, {"connect"})
            assert "certificate refused" in error.detail
            await transport.aclose()

        run(scenario())
        assert receiver.received == []


# -- answers ----------------------------------------------------------------------------

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
PACKED = b"HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n%s"


def packed(how: bytes, data: bytes) -> bytes:
    return PACKED % (how, len(data), data)


def bare_deflate(data: bytes) -> bytes:
    squeeze = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return squeeze.compress(data) + squeeze.flush()


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (OK, b"ok"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK, b"ok"),
        (CHUNKED + b"3\r\nabc\r\n2;a=b\r\nde\r\n0\r\nX-Sum: 1\r\n\r\n", b"abcde"),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", b""),
        (b"HTTP/1.1 200 \r\nContent-Length: 0\r\nX-Empty:\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", b"ok"),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", b"ok"),
        (packed(b"gzip", gzip.compress(b"hello") + gzip.compress(b" world")), b"hello world"),
        (packed(b"GZip", gzip.compress(b"")), b""),
        (packed(b"deflate", zlib.compress(b"hello")), b"hello"),
        (packed(b"deflate", bare_deflate(b"hello")), b"hello"),
        (packed(b"br", b"\x0b\x02\x80"), b"\x0b\x02\x80"),
    ],
    ids=[
        *("length", "1xx first", "chunked", "204", "nothing", "bare LF", "1.0 kept alive", "gzip", "empty gzip"),
        *("zlib", "bare deflate", "unknown coding"),
    ],
)
@pytest.mark.parametrize("step", [None, 1], ids=["whole", "byte by byte"])
def test_an_answer_ends_where_it_says_and_the_connection_is_kept(
    run: Run, answer: bytes, body: bytes, step: int | None
) -> None:
    async def converse(line: Line) -> None:
        await line.request()
        for at in range(0, len(answer), step or len(answer)):
            await line.say(answer[at : at + (step or len(answer))])
            await asyncio.sleep(0)
        await line.answer(OK)

    async def scenario() -> None:
        async with served(converse) as (transport, server):
            reply = await transport.send(outgoing())
            assert (reply.body, reply.truncated) == (body, False)
            assert (await transport.send(outgoing())).body == b"ok"
            assert server.lines == 1

    run(scenario())


@pytest.mark.parametrize(
    ("answer", "body", "is_cut"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", b"until the end", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nuntil the end", b"until the end", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", b"ok", True),
        (CHUNKED + b"2\r\nok\r\n", b"ok", True),
        (CHUNKED + b"2\r\nok\r\nzz\r\n", b"ok", True),
        (packed(b"gzip", gzip.compress(b"hello" * 9)[:-6]), b"hello" * 9, True),
        (packed(b"gzip", gzip.compress(b"hello") + b"junk"), b"", True),
        (packed(b"gzip", gzip.compress(b"") * 1000), b"", True),
        (CHUNKED + b"1;" + b"x" * 10_000 + b"\r\na\r\n0\r\n\r\n", b"a", False),
        (CHUNKED + b"1\r\na\r\n1;" + b"x" * 2_000_000, b"a", True),
        (CHUNKED + b"1\r\na\r\n0\r\nX-Trailer: " + b"x" * 2_000_000, b"a", True),
    ],
    ids=[
        *("to the end", "odd coding", "1.0", "short", "no last chunk", "bad chunk", "cut gzip", "junk", "members"),
        *("long extension", "endless extension", "endless trailer"),
    ],
)
def test_of_an_answer_that_is_not_as_announced_the_head_counts(
    run: Run, answer: bytes, body: bytes, is_cut: bool
) -> None:
    async def converse(line: Line) -> None:
        await line.answer(answer)

    async def scenario() -> None:
        async with served(converse) as (transport, _):
            reply = await transport.send(outgoing())
            assert (reply.status_code, reply.body, reply.truncated) == (200, body, is_cut)

    run(scenario())


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nX-A: " + b"x" * 10_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: " + b"x" * 2_000_000,
        b"HTTP/1.1 200 " + b"x" * 2_000_000,
        b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: a\0b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nok",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nabc",
        CHUNKED + b"zz\r\n",
    ],
    ids=[
        *("long header", "endless header", "endless reason", "many headers", "NUL", "two lengths"),
        *("length and chunks", "negative length", "2000", "101", "bad chunk"),
    ],
)
def test_an_answer_that_is_no_http_is_a_protocol_error_and_ends_the_connection(run: Run, answer: bytes) -> None:
    async def converse(line: Line) -> None:
        await line.answer(answer)
        await line.is_cut()

    async def scenario() -> None:
        async with served(converse) as (transport, _):
            assert (await refused(transport.send(outgoing()))).error_class is ErrorClass.PROTOCOL

    run(scenario())


def test_the_same_answer_again_is_read_as_if_it_were_new(run: Run) -> None:
    """What was read before is remembered, yet how much of it is wanted, and by which method, is another matter."""
    large, no = packed(b"gzip", gzip.compress(b"y" * 100_000, mtime=0)), OK.replace(b"ok", b"no")

    async def converse(line: Line) -> None:
        if line.number == 1:
            assert len(large) < 1000
            await line.answer(large, large, large, OK, OK, OK, no)
            await line.answer(no)  # to HEAD
            await line.is_cut()
        await line.answer(OK, OK + OK)
        await line.is_cut()

    async def scenario() -> None:
        config = {"probe_method": "HEAD"}
        async with served(converse, config=config) as (transport, server):
            replies = [await transport.send(outgoing(message_type=kind)) for kind in ("request", "event", "request")]
            assert [(len(reply.body), reply.truncated) for reply in replies] == [
                *((100_000, False), (16_384, True), (100_000, False)),
            ]
            bodies = [(await transport.send(outgoing())).body for _ in range(4)]
            assert (await transport.probe()).body == b""
            bodies += [(await transport.send(outgoing())).body for _ in range(2)]
            assert (bodies, server.lines) == ([b"ok", b"ok", b"ok", b"no", b"ok", b"ok"], 2)

    run(scenario())


@pytest.mark.parametrize(
    ("answer", "lines"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 1),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 1),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 2),
        (b"HTTP/1.1 200 OK\r\n\r\n", 2),
    ],
    ids=["length", "chunked", "and yet a body", "to the end"],
)
def test_an_answer_to_head_has_no_body(run: Run, answer: bytes, lines: int) -> None:
    async def converse(line: Line) -> None:
        await line.answer(answer)
        await line.answer(answer)

    async def scenario() -> None:
        async with served(converse, config={"method": "HEAD"}) as (transport, server):
            for _ in range(2):
                reply = await transport.send(outgoing())
                assert (reply.status_code, reply.body, reply.truncated) == (200, b"", False)
            assert server.lines == lines

    run(scenario())


# -- large bodies -----------------------------------------------------------------------


def test_a_large_body_is_written_as_fast_as_it_is_taken(run: Run) -> None:
    """While one crawls, others pass; what is written ahead stays small."""

    async def converse(line: Line) -> None:
        if line.number > 1:
            await line.answer(OK)
            return
        head = await line.reader.readuntil(b"\r\n\r\n")
        assert f"content-length: {len(LARGE)}\r\n".encode() in head
        begun.set()
        await may_go_on.wait()
        took = checksum = 0
        while took < len(LARGE):
            part = await line.reader.read(65536)
            took, checksum = took + len(part), zlib.crc32(part, checksum)
        assert checksum == zlib.crc32(LARGE)
        await line.say(OK)

    begun, may_go_on = asyncio.Event(), asyncio.Event()

    async def scenario() -> None:
        async with served(converse) as (transport, _):
            before = psutil.Process().memory_info().rss
            large = asyncio.create_task(transport.send(outgoing(payload=LARGE)))
            await begun.wait()
            assert (await transport.send(outgoing())).body == b"ok"
            for _ in range(300):  # rounds of the loop, in each of which a piece could be written
                await asyncio.sleep(0)
            assert not large.done()
            assert psutil.Process().memory_info().rss - before < len(LARGE) / 2
            may_go_on.set()
            assert (await large).body == b"ok"

    run(scenario())


def test_an_answer_before_the_body_is_sent_counts_and_ends_the_connection(run: Run) -> None:
    async def converse(line: Line) -> None:
        if line.number > 1:
            await line.answer(OK)
            return
        await line.reader.readuntil(b"\r\n\r\n")
        await line.say(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        await next_sent.wait()
        await line.is_cut()

    next_sent = asyncio.Event()

    async def scenario() -> None:
        async with served(converse) as (transport, server):
            error = await refused(transport.send(outgoing(payload=LARGE)))
            assert error.reply is not None
            assert (error.reply.status_code, error.reply.body) == (413, b"big")
            assert (await transport.send(outgoing())).body == b"ok"
            next_sent.set()
            assert server.lines == 2

    run(scenario())


# -- requests ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("protocol", "host", "port", "shown"),
    [
        ("http", "erp.example", None, b"erp.example"),
        ("http", "erp.example", 80, b"erp.example"),
        ("https", "erp.example", 80, b"erp.example:80"),
        ("https", "erp.example", 443, b"erp.example"),
        ("https", "2606:4700::1", None, b"[2606:4700::1]"),
        ("http", "[2606:4700::1]", 8080, b"[2606:4700::1]:8080"),
        ("http", "Bücher.example.", 8080, b"xn--bcher-kva.example:8080"),
    ],
)
def test_host_is_named_as_it_should_be(protocol: str, host: str, port: int | None, shown: bytes) -> None:
    """RFC 9112, 3.2: without the default port, an IPv6 address in brackets."""
    maker = RequestMaker(address(protocol=protocol, host=host, port=port, path="/a b"))
    request = maker.make(outgoing(), "0")

    assert maker.head(request).startswith(b"POST /a%20b HTTP/1.1\r\nhost: " + shown + b"\r\n")
    assert maker.record(request)["url"] == f"{protocol}://{shown.decode()}/a%20b"


def test_a_header_that_is_set_stands_once() -> None:
    maker = RequestMaker(address(config={"headers": {"User-Agent": "us/1"}}))
    head = maker.head(maker.make(outgoing(headers={"Accept": "text/plain"}), "0")).decode()

    for name, value in (("user-agent", "us/1"), ("accept", "text/plain"), ("accept-encoding", "gzip, deflate")):
        assert [line for line in head.lower().split("\r\n") if line.startswith(f"{name}:")] == [f"{name}: {value}"]


def test_a_text_that_is_no_unicode_cannot_be_sent() -> None:
    maker = RequestMaker(address())
    with pytest.raises(TransportError) as caught:
        maker.head(maker.make(outgoing(correlation_id="\ud800"), "0"))

    assert (caught.value.error_class, caught.value.advice) == (ErrorClass.TRANSFORM, Advice.DEAD)
