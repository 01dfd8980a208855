"""Position order is commit order: who reads by position never finds something put in behind it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
import requests

from tests.acceptance.link import Link
from tests.stack import Stack

PROCESSES = 3
SENDERS = 4  # for each process
BATCHES = 40  # of each sender


@contextmanager
def web_processes(make_stack: Callable[..., Stack]) -> Iterator[list[Stack]]:
    """Yield web processes of one installation, each at a port of its own."""
    first = make_stack()
    others = [Stack(first.var, first.database_url) for _ in range(PROCESSES - 1)]
    with ExitStack() as closing:
        for number, stack in enumerate([first, *others]):
            closing.callback(stack.close)
            stack.start("web", name=f"web{number}")
        yield [first, *others]


class Reader(threading.Thread):
    """Follows the positions as a stream does: each look begins after the last position seen."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(daemon=True)
        self._stack = stack
        self._stopping = threading.Event()
        self.seen: list[int] = []
        self.looks = 0

    def run(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._stopping.is_set()
            after = self.seen[-1] if self.seen else 0
            rows = self._stack.sql("SELECT position FROM messaging_message WHERE position > ? ORDER BY position", after)
            self.seen += [row[0] for row in rows]
            self.looks += bool(rows)

    def finish(self) -> None:
        """Look once more and end."""
        self._stopping.set()
        self.join(60)


@pytest.mark.timeout(240)
def test_a_reader_that_follows_positions_misses_nothing(make_stack: Callable[..., Stack]) -> None:
    """Three web processes, twelve senders, batches of several sizes; and each batch keeps its order."""
    with web_processes(make_stack) as stacks:
        link = Link(stacks[0], None)
        key = stacks[0].key()
        reader = Reader(stacks[0])
        reader.start()

        def send(stack: Stack, sender: int) -> None:
            with requests.Session() as session:
                session.headers["X-API-Key"] = key
                for number in range(BATCHES):
                    name = f"{stack.port}-{sender}-{number}"
                    batch = [
                        {"source_system": link.source, "correlation_id": name, "payload": index}
                        for index in range(1 + (sender + number) % 7)
                    ]
                    assert session.post(f"{stack.url}/api/v1/messages/", json=batch, timeout=60).status_code == 202

        threads = [threading.Thread(target=send, args=(stack, n)) for stack in stacks for n in range(SENDERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        reader.finish()
        rows = stacks[0].sql("SELECT position, correlation_id, payload FROM messaging_message ORDER BY position")

    stored = [row[0] for row in rows]
    assert reader.seen == stored, f"filled in later: {sorted(set(stored) - set(reader.seen))[:10]}"
    assert len(stored) >= PROCESSES * SENDERS * BATCHES
    assert reader.looks > 20
    batches: dict[str, list[int]] = {}
    for _, name, payload in rows:
        batches.setdefault(name, []).append(int(bytes(payload)))
    assert all(indexes == sorted(indexes) for indexes in batches.values())
