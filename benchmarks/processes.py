"""What a second `deliver` process brings: many endpoints whose receivers take 50 ms, drained by one and by two.

`python -m benchmarks.processes PORT` - the receiver: answers 204, 50 ms after the request came.
"""

import asyncio
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import orjson
import uvloop

from benchmarks.payload import BODY
from tests.stack import Stack

# An endpoint with 16 in flight takes 320/s, all of them 20,480/s: what binds is the process, not the caps. One with 64
# sends at once makes 1,280/s, so that two cores have room for a second one; without that bound they have none.
ENDPOINTS = 64
IN_FLIGHT = 16
SENDS = 64
DELAY_S = 0.05
READY_S = 20.0  # by then all is stored, and the processes have started and shared the caps
ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"


class Processes:
    """Drains the same queue with one process and with two, on a stack that has a source and no deliver process."""

    def __init__(self, stack: Stack, receiver: str, messages: int, rate: Callable[[], float]) -> None:
        """`rate` awaits the end of a drain and returns its speed."""
        self._stack, self._messages, self._rate = stack, messages, rate
        for number in range(ENDPOINTS):
            stack.register(f"slow-{number}", receiver, max_in_flight=IN_FLIGHT)

    def measure(self) -> tuple[float, float]:
        """Return (deliveries a second of two processes, of one)."""
        one = self._drain(["deliver"])
        return self._drain(["deliver", "deliver-2"]), one

    def _drain(self, names: list[str]) -> float:
        due = datetime.now(UTC) + timedelta(seconds=READY_S)
        lines = b"\n".join(_message(f"slow-{number % ENDPOINTS}", due) for number in range(self._messages))
        headers = {"Content-Type": "application/x-ndjson"}
        answer = self._stack.api("POST", "messages/", data=lines, headers=headers, timeout=300)
        assert answer.json()["accepted"] == self._messages, answer.text
        for name in names:
            self._stack.start("deliver", "--sends", str(SENDS), name=name)
        assert datetime.now(UTC) < due - timedelta(seconds=READY_S / 4), "the machine is too slow to be measured"
        try:
            return self._rate()
        finally:
            for name in names:
                self._stack.terminate(name)


def _message(target: str, due: datetime) -> bytes:
    envelope = {"source_system": "source", "target_system": target, "deliver_at": due.isoformat()}
    return orjson.dumps({**envelope, "payload": orjson.Fragment(BODY)})


class Receiver(asyncio.Protocol):
    """Answers each request a while after it came; a request is whole when its body is."""

    def __init__(self) -> None:
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(body) >= length:
            self._buffer = body[length:]
            asyncio.get_running_loop().call_later(DELAY_S, self._answer)

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(ANSWER)  # type: ignore[attr-defined]


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Receiver, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
