"""The edge process is killed under load: what was acknowledged over TCP is stored, the port comes back by itself."""

import json
import random
import threading
from collections.abc import Callable
from functools import partial

import pytest

from tests.listening.clients import Line, when_open
from tests.servers.ports import free_port
from tests.stack import Stack

KILLS = 10
pytestmark = pytest.mark.timeout(600)


class Sender(threading.Thread):
    """Keeps 50 messages in flight, sends again what was not acknowledged, and keeps a ledger of what was."""

    def __init__(self, port: int, token: str) -> None:
        super().__init__()
        self._port, self._token = port, token
        self._stopping = threading.Event()
        self.sent = 0
        self.acknowledged: dict[str, str] = {}
        self.cuts = 0

    def finish(self) -> None:
        self._stopping.set()
        self.join()

    def run(self) -> None:
        owed: list[int] = []
        while not (self._stopping.is_set() and not owed):
            try:
                self._talk(owed)
            except (OSError, EOFError):
                self.cuts += 1
                self._stopping.wait(0.05)

    def _talk(self, owed: list[int]) -> None:
        client = Line(self._port, self._token)
        client.send(*({"message_id": f"k-{n}", "payload": n} for n in owed))
        while True:
            if not self._stopping.is_set():
                fresh = list(range(self.sent, self.sent + 50 - len(owed)))
                self.sent += len(fresh)
                owed.extend(fresh)
                client.send(*({"message_id": f"k-{n}", "payload": n} for n in fresh))
            elif not owed:
                return client.close()
            told = client.read()
            assert told["type"] == "ack", told
            self.acknowledged[told["message_id"]] = told["status"]
            owed.remove(int(told["message_id"].removeprefix("k-")))


def test_kills_of_the_edge_lose_nothing_that_was_acknowledged(make_stack: Callable[..., Stack]) -> None:
    """SIGKILL at random moments: acknowledged = stored; duplicates are only what was in flight at a kill."""
    stack = make_stack()
    stack.start("web")
    stack.register("ledger")
    port = free_port()
    made = stack.api("POST", "listeners/", json={"slug": "killed", "kind": "tcp", "port": port})
    assert made.status_code == 201
    stack.start("edge")
    when_open(port)
    sender = Sender(port, stack.key("operator", system="ledger"))
    sender.start()
    chance = random.Random()

    def has_acknowledged(enough: int) -> bool:
        return len(sender.acknowledged) >= enough

    for _ in range(KILLS):
        enough = len(sender.acknowledged) + chance.randint(50, 500)
        stack.wait_for(partial(has_acknowledged, enough), 60, "acknowledgements")
        stack.kill("edge")
        stack.start("edge")
    stack.wait_for(partial(has_acknowledged, len(sender.acknowledged) + 100), 60, "it going on")
    sender.finish()

    stored = {row[0] for row in stack.sql("SELECT message_id FROM messaging_message")}
    duplicates = sum(status == "duplicate" for status in sender.acknowledged.values())
    figures = {
        "acknowledged": len(sender.acknowledged),
        "lost": len(sender.acknowledged.keys() - stored),
        "unexpected": len(stored - {f"k-{n}" for n in range(sender.sent)}),
        "duplicates": duplicates,
        "kills": KILLS,
    }
    print(f"\n{stack.database_url.partition(':')[0]}: {json.dumps(figures)}")
    assert figures["lost"] == figures["unexpected"] == 0
    assert duplicates <= 50 * KILLS
    assert figures["acknowledged"] == sender.sent
