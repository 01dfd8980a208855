"""The gate in front of Django: bodies are capped, plain and of known length, whatever the client sends."""

import asyncio
from typing import Any

import pytest

from endpoints.edge.bodies import LARGE_AT_ONCE, BodyGate

CAP = 100


class Behind:
    """Stands where Django is: reads the body and remembers what it was told of it."""

    body: bytes | None = None
    length: bytes | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.length = dict(scope["headers"]).get(b"content-length")
        self.body, more = b"", True
        while more:
            event = await receive()
            self.body, more = self.body + event["body"], event.get("more_body")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def ask(headers: dict[bytes, bytes], *parts: bytes | None, path: str = "/") -> tuple[int, Behind]:
    """Send a request in parts (None: the client hangs up) and return the status and what came through."""
    behind, sent = Behind(), []
    events = [
        {"type": "http.disconnect"}
        if part is None
        else {"type": "http.request", "body": part, "more_body": index + 1 < len(parts)}
        for index, part in enumerate(parts)
    ]
    events.reverse()

    async def receive() -> Any:
        return events.pop()

    async def send(event: Any) -> None:
        sent.append(event)

    scope = {"type": "http", "path": path, "headers": list(headers.items())}
    await BodyGate(behind, max_bytes=CAP, larger={"/large/": 5 * CAP})(scope, receive, send)
    return sent[0]["status"], behind


CHUNKED = {b"transfer-encoding": b"chunked"}


async def test_a_chunked_body_arrives_whole_with_its_length() -> None:
    status, behind = await ask(CHUNKED, b'{"a"', b":1}")
    assert (status, behind.body, behind.length) == (200, b'{"a":1}', b"7")


async def test_a_body_of_the_cap_passes() -> None:
    assert (await ask(CHUNKED, b"x" * CAP))[0] == 200
    assert (await ask({b"content-length": b"100"}, b"x" * CAP))[0] == 200


@pytest.mark.parametrize(
    ("headers", "parts", "status"),
    [
        ({b"content-length": b"101"}, [b""], 413),
        ({b"content-length": b"9" * 50}, [b""], 413),
        ({b"content-length": b"-1"}, [b""], 400),
        (CHUNKED, [b"x" * 60, b"x" * 60], 413),
        (CHUNKED, [b"x", None], 400),
        ({b"content-encoding": b"gzip", b"content-length": b"5"}, [b"12345"], 415),
    ],
)
async def test_what_the_gate_refuses_never_gets_through(
    headers: dict[bytes, bytes], parts: list[Any], status: int
) -> None:
    found, behind = await ask(headers, *parts)
    assert (found, behind.body) == (status, None)


@pytest.mark.parametrize("headers", [CHUNKED, {b"content-length": b"500"}], ids=["chunked", "of known length"])
async def test_few_paths_take_more(headers: dict[bytes, bytes]) -> None:
    """Up to a cap of their own, which the refusal says; another path takes no more for that."""
    parts = [b"x" * 200, b"y" * 200, b"z" * 100]
    assert [(await ask(headers, *parts, path=path))[0] for path in ("/large/", "/")] == [200, 413]
    status, behind = await ask(headers, *parts, path="/large/")
    assert (status, behind.body, behind.length) == (200, b"".join(parts), b"500")
    over = {b"content-length": b"501"} if headers != CHUNKED else headers
    assert (await ask(over, *parts, b"!", path="/large/"))[0] == 413


async def test_few_large_bodies_come_at_once() -> None:
    """One more is refused and may come again; those that have come make room."""
    gate, hung = BodyGate(Behind(), max_bytes=CAP, larger={"/large/": 5 * CAP}), asyncio.Event()

    async def send_one() -> int:
        sent: list[Any] = []

        async def receive() -> Any:
            await hung.wait()
            return {"type": "http.request", "body": b"x" * 500}

        async def send(event: Any) -> None:
            sent.append(event)

        await gate({"type": "http", "path": "/large/", "headers": [(b"content-length", b"500")]}, receive, send)
        return int(sent[0]["status"])

    coming = [asyncio.ensure_future(send_one()) for _ in range(LARGE_AT_ONCE)]
    await asyncio.sleep(0)
    assert await send_one() == 503
    hung.set()
    assert await asyncio.gather(*coming) == [200] * LARGE_AT_ONCE
    assert await send_one() == 200
