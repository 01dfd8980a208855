"""The two ends' own books: a sender that notes what was acknowledged, and what the receiver's log adds up to."""

import asyncio
import os
import threading
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import count, cycle
from typing import Any

import aiohttp
import orjson

from tests.stack import Stack

OPEN = "state IN ('pending', 'sending')"


def post_all(
    stack: Stack, bodies: Sequence[Any], *, connections: int = 32, headers: dict[str, str] | None = None
) -> list[tuple[int, dict[str, Any]]]:
    """Post each body in a request of its own over `connections`; return (status, answer) in order."""
    answers: list[tuple[int, dict[str, Any]]] = [(0, {})] * len(bodies)
    left = iter(enumerate(bodies))
    url, sent = f"{stack.url}/api/v1/messages/", {"X-API-Key": stack.key(), **(headers or {})}

    async def work(session: aiohttp.ClientSession) -> None:
        for index, body in left:
            async with session.post(url, json=body, headers=sent) as answer:
                answers[index] = (answer.status, await answer.json(content_type=None))

    async def run() -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            await asyncio.gather(*(work(session) for _ in range(connections)))
        await let_go()

    asyncio.run(run())
    return answers


async def let_go() -> None:
    """Give closed connections the rounds of the loop they need to end, or they end as warnings."""
    for _ in range(3):
        await asyncio.sleep(0)


class Sender(threading.Thread):
    """Sends numbered messages until stopped; each again and again, under one message id, until acknowledged.

    Each connection numbers its own, `CONNECTION-NUMBER`, one after the other; `ordered`
    gives them the connection as their ordering key, `padding` so many bytes that do not
    compress. Each try goes to the next of `urls`.
    """

    def __init__(
        self,
        stack: Stack,
        source: str,
        target: str,
        *,
        connections: int = 4,
        pause_s: float = 0.01,
        ordered: bool = False,
        padding: int = 0,
        urls: Sequence[str] = (),
    ) -> None:
        super().__init__(daemon=True)
        self._urls, self._headers = list(urls) or [stack.url], {"X-API-Key": stack.key()}
        self._envelope = {"source_system": source, "target_system": target}
        self._connections, self._pause_s, self._ordered = connections, pause_s, ordered
        self._padding = os.urandom(padding // 2).hex()
        self._stopping = threading.Event()
        self.acknowledged: list[str] = []
        self.unanswered = 0
        self.refused: Counter[tuple[int, bool]] = Counter()  # by status, and whether it said when to come again

    def finish(self, timeout: float = 60) -> None:
        """Begin no new message; return when each one begun is acknowledged."""
        self._stopping.set()
        self.join(timeout)
        assert not self.is_alive(), "a message was never acknowledged"

    def run(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=20)
        async with aiohttp.ClientSession(timeout=timeout, headers=self._headers) as session:
            await asyncio.gather(*(self._work(session, number) for number in range(self._connections)))
        await let_go()

    async def _work(self, session: aiohttp.ClientSession, connection: int) -> None:
        envelope = self._envelope | ({"ordering_key": f"key-{connection}"} if self._ordered else {})
        urls = cycle(self._urls)
        for number in count(1):
            if self._stopping.is_set():
                return
            message_id = f"{connection}-{number}"
            body = {**envelope, "message_id": message_id, "payload": {"id": message_id, "padding": self._padding}}
            for url in urls:
                if await self._is_acknowledged(session, url, body):
                    break
                await asyncio.sleep(0.05)
            self.acknowledged.append(message_id)
            await asyncio.sleep(self._pause_s)

    async def _is_acknowledged(self, session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> bool:
        try:
            async with session.post(f"{url}/api/v1/messages/", json=body) as answer:
                text = await answer.read()
        except (aiohttp.ClientError, OSError, TimeoutError):
            self.unanswered += 1
            return False
        assert answer.status in (202, 429, 503), (answer.status, text)
        if answer.status != 202:
            self.refused[answer.status, "retry-after" in answer.headers] += 1
            return False
        return bool(orjson.loads(text)["message_id"] == body["message_id"])


def drain(stack: Stack, timeout: float = 60) -> None:
    """Return when nothing waits and nothing is on its way."""
    query = f"SELECT count(*) FROM messaging_delivery WHERE {OPEN}"
    stack.wait_for(lambda: stack.sql(query) == [(0,)], timeout, "everything delivered")


def overdue_s(stack: Stack) -> float:
    """Return for how long the most overdue lease could have been taken over and was not; 0 with none.

    Time in which no deliver process of ours ran does not count: nobody could. One runs
    from its first heartbeat on; the row of one that was killed stays, so its pid tells.
    The clock is read first: what the queries wait for is no delay of the engine's.
    """
    now = datetime.now(UTC)
    alive = {process.pid for process in stack.processes.values() if process.poll() is None}
    rows = stack.sql("SELECT pid, started_at FROM messaging_process WHERE role = 'deliver'")
    started = [_moment(at) for pid, at in rows if pid in alive]
    [(oldest,)] = stack.sql("SELECT min(lease_until) FROM messaging_delivery WHERE state = 'sending'")
    if oldest is None or not started:
        return 0.0
    return max(0.0, (now - max(_moment(oldest), min(started))).total_seconds())


def _moment(value: Any) -> datetime:
    found = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return found.replace(tzinfo=found.tzinfo or UTC)


def compare(
    stack: Stack, acknowledged: Sequence[str], received: Sequence[Sequence[str]], *, forgotten: int = 0
) -> dict[str, float]:
    """Hold both ends' books against ours and return the figures; `received` are (delivery id, message id, ...).

    Raises AssertionError when something was lost, came from nowhere, or came more
    often than claims on it were lost; a database that crashed may have `forgotten` so many claims.
    """
    rows = stack.sql("SELECT d.id, m.message_id, d.state FROM messaging_delivery d"
                     " JOIN messaging_message m ON m.position = d.message_id")  # fmt: skip
    ours = {str(row[0]).replace("-", ""): row[1] for row in rows}
    sends = Counter(line[0].replace("-", "") for line in received)
    lost_claims = dict(_lost_attempts(stack))
    lost = set(acknowledged) - {line[1] for line in received}
    said = set(acknowledged)
    unexpected = [line for line in received if line[1] not in said or ours.get(line[0].replace("-", "")) != line[1]]
    unexplained = {id: n for id, n in sends.items() if n > 1 + lost_claims.get(id, 0)}
    again = sum(n - 1 - lost_claims.get(id, 0) for id, n in unexplained.items())
    assert not lost, f"{len(lost)} acknowledged and not received: {sorted(lost)[:5]}"
    assert not unexpected, f"{len(unexpected)} received that were not sent: {unexpected[:5]}"
    assert again <= forgotten, f"{len(unexplained)} received more often than lost: {list(unexplained.items())[:5]}"
    assert len(said) == len(acknowledged) == len(ours), "a message is in one of the books and not in the other"
    assert {state for _, _, state in rows} <= {"delivered"}, "some did not end as delivered"
    return {
        "acknowledged": len(acknowledged),
        "received": len(received),
        "duplicates": sum(sends.values()) - len(sends),
        "claims lost": sum(lost_claims.values()),
        "lost": 0,
        "unexpected": 0,
    }


def inversions(message_ids: Sequence[str]) -> int:
    """Return how many of `KEY-NUMBER`, in order of arrival, came after a higher number of their key."""
    highest: dict[str, int] = {}
    found = 0
    for message_id in message_ids:
        key, _, number = message_id.rpartition("-")
        found += int(number) < highest.get(key, 0)
        highest[key] = max(highest.get(key, 0), int(number))
    return found


FINAL = "state NOT IN ('pending', 'sending')"
KEPT = "id, state, reason, error_class, attempts, unspent, losses, endpoint_id, finished_at"


def ended(stack: Stack) -> dict[Any, tuple[Any, ...]]:
    """Return how each delivery that has ended did so, with the number of its attempts, by id."""
    tries = "(SELECT count(*) FROM messaging_attempt a WHERE a.delivery_id = d.id)"
    return {row[0]: row for row in stack.sql(f"SELECT {KEPT}, {tries} FROM messaging_delivery d WHERE {FINAL}")}


def demand_unchanged(stack: Stack, before: dict[Any, tuple[Any, ...]]) -> None:
    """Raise AssertionError when what had ended `before` was touched since: nobody may write there any more."""
    now = ended(stack)
    touched = [(row, now.get(id)) for id, row in before.items() if now.get(id) != row]
    assert not touched, f"{len(touched)} changed after their end: {touched[:2]}"


def _lost_attempts(stack: Stack) -> list[tuple[str, int]]:
    rows = stack.sql(
        "SELECT delivery_id, count(*) FROM messaging_attempt WHERE outcome IN ('lost', 'cut') GROUP BY delivery_id"
    )
    return [(str(row[0]).replace("-", ""), row[1]) for row in rows]


def demand_balance(stack: Stack) -> dict[str, Any]:
    """Return the balance of the last day; raises AssertionError when the books do not add up."""
    books = dict(stack.api("GET", "ledger/").json())
    assert books["balanced"], books
    return books
