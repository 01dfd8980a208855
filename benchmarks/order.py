"""What order costs: a queue drained with and without ordering keys, and beside one key with a hundred thousand."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from benchmarks.payload import BODY
from tests.stack import Stack

KEYS = 1000
HOT = 100_000
PART = 20_000

Drain = tuple[float, float]  # our rate, and that of the same messages without what is measured


class Order:
    """Drains queues of `messages` on a stack that has a source, and a web process, but no deliver process running."""

    def __init__(self, stack: Stack, receiver: str, messages: int, rate: Callable[[], float]) -> None:
        """`rate` awaits the end of a drain and returns its speed."""
        self._stack, self._messages, self._rate = stack, messages, rate
        for target in ("plain", "hot"):
            stack.register(target, receiver + "/in", max_in_flight=64)
        later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        self._post([_message("hot", "hot", deliver_at=later)])
        for _ in range(HOT // PART):
            self._post([_message("hot", "hot")] * PART)

    def measure(self) -> tuple[Drain, Drain]:
        """Return (over 1,000 keys, unordered) and (the same keys beside the hot one, without it), in turns."""
        unordered = self._drain([_message("plain")] * self._messages)
        over_keys = [f"k{number % KEYS}" for number in range(self._messages)]
        ordered = self._drain([_message("plain", key) for key in over_keys])
        beside = self._drain([_message("hot", key) for key in over_keys])
        return (ordered, unordered), (beside, ordered)

    def _drain(self, lines: list[bytes]) -> float:
        self._post(lines)
        self._stack.start("deliver")
        try:
            return self._rate()
        finally:
            self._stack.terminate("deliver")

    def _post(self, lines: list[bytes]) -> None:
        headers = {"Content-Type": "application/x-ndjson"}
        answer = self._stack.api("POST", "messages/", data=b"\n".join(lines), headers=headers, timeout=300)
        assert answer.json()["accepted"] == len(lines), answer.text


def _message(target: str, key: str | None = None, **fields: Any) -> bytes:
    envelope = {"source_system": "source", "target_system": target, "ordering_key": key, **fields}
    return orjson.dumps({**envelope, "payload": orjson.Fragment(BODY)})
