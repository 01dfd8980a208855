"""What a scripted receiver says back: a table of well-behaved and hostile answers, each one small coroutine."""

import asyncio
import socket
import struct
import zlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus

MIB = 1024 * 1024


@dataclass(frozen=True)
class Answer:
    """One scripted answer: `fault` replaces the plain writing of status, headers and body."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    fault: "Callable[[asyncio.StreamWriter], Awaitable[None]] | None" = None


def redirect(to: str, status: int = 302) -> Answer:
    """Answer with a redirect to `to`, which nobody should follow."""
    return Answer(status, headers={"Location": to})


def head(status: int, headers: dict[str, str]) -> bytes:
    """Return the status line and headers as they go over the wire."""
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else "Unknown"
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def write(writer: asyncio.StreamWriter, answer: Answer) -> None:
    """Write `answer`; a peer that hung up is no error of ours."""
    if answer.delay_s:
        await asyncio.sleep(answer.delay_s)
    if answer.fault is not None:
        await answer.fault(writer)
        writer.close()
        return
    headers = {"Content-Length": str(len(answer.body)), **answer.headers}
    if answer.status == 204:
        del headers["Content-Length"]
    writer.write(head(answer.status, headers) + answer.body)
    await writer.drain()


def _closing(headers: dict[str, str] | None = None) -> bytes:
    return head(200, {"Connection": "close", **(headers or {})})


async def _hang(writer: asyncio.StreamWriter) -> None:
    """Say nothing until the peer gives up."""
    await asyncio.wait_for(writer.wait_closed(), 60)


async def _drip(writer: asyncio.StreamWriter) -> None:
    """Send the head at once, then one byte of the body every 50 ms, without end."""
    writer.write(_closing({"Content-Length": str(10 * MIB)}))
    while not writer.is_closing():
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


async def _drip_head(writer: asyncio.StreamWriter) -> None:
    """Send the head itself byte by byte, without end."""
    writer.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not writer.is_closing():
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


async def _huge(writer: asyncio.StreamWriter) -> None:
    """Promise 10 GB and send until the peer hangs up."""
    writer.write(_closing({"Content-Length": str(10 * 1024 * MIB)}))
    while not writer.is_closing():
        writer.write(b"x" * 65536)
        await writer.drain()


async def _endless(writer: asyncio.StreamWriter) -> None:
    """Send chunks without end."""
    writer.write(_closing({"Transfer-Encoding": "chunked"}))
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    while not writer.is_closing():
        writer.write(chunk)
        await writer.drain()


def _bomb_blocks(mebibytes: int) -> Iterator[bytes]:
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = bytes(MIB)
    for _ in range(mebibytes):
        yield squeeze.compress(block)
    yield squeeze.flush()


BOMB = b"".join(_bomb_blocks(64))


async def _gzip_bomb(writer: asyncio.StreamWriter) -> None:
    """Send 64 KiB that unpack to 64 MiB."""
    writer.write(_closing({"Content-Encoding": "gzip", "Content-Length": str(len(BOMB))}) + BOMB)
    await writer.drain()


async def _bad_gzip(writer: asyncio.StreamWriter) -> None:
    """Call something gzip that is not."""
    writer.write(_closing({"Content-Encoding": "gzip", "Content-Length": "11"}) + b"not gzipped")
    await writer.drain()


async def _bad_chunking(writer: asyncio.StreamWriter) -> None:
    """Send a chunk size that is no number."""
    writer.write(_closing({"Transfer-Encoding": "chunked"}) + b"zz\r\nhello\r\n0\r\n\r\n")
    await writer.drain()


async def _many_headers(writer: asyncio.StreamWriter) -> None:
    """Send 100,000 headers."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n")
    for start in range(0, 100_000, 1000):
        writer.write(b"".join(b"x-%d: y\r\n" % number for number in range(start, start + 1000)))
        await writer.drain()
    writer.write(b"\r\n")
    await writer.drain()


async def _not_http(writer: asyncio.StreamWriter) -> None:
    """Answer in another protocol."""
    writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
    await writer.drain()


async def _cut_body(writer: asyncio.StreamWriter) -> None:
    """Promise 100 bytes, send 10 and hang up."""
    writer.write(_closing({"Content-Length": "100"}) + b"0123456789")
    await writer.drain()


async def _reset(writer: asyncio.StreamWriter) -> None:
    """Reset the connection instead of answering."""
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    """Take the request and close without a word."""


HANG = Answer(fault=_hang)
DRIP = Answer(fault=_drip)
DRIP_HEAD = Answer(fault=_drip_head)
HUGE = Answer(fault=_huge)
ENDLESS = Answer(fault=_endless)
GZIP_BOMB = Answer(fault=_gzip_bomb)
BAD_GZIP = Answer(fault=_bad_gzip)
BAD_CHUNKING = Answer(fault=_bad_chunking)
MANY_HEADERS = Answer(fault=_many_headers)
NOT_HTTP = Answer(fault=_not_http)
CUT_BODY = Answer(fault=_cut_body)
RESET = Answer(fault=_reset)
HANG_UP = Answer(fault=_hang_up)
