"""More comes than can be stored: what is too much is refused at once, and our memory stays within its bounds."""

import json
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import requests

from tests.acceptance.holding import nothing_is_stored
from tests.acceptance.ledgers import demand_balance, drain
from tests.acceptance.link import Link
from tests.acceptance.plain_server import PlainServer
from tests.servers.nginx import Nginx
from tests.stack import Stack

pytestmark = pytest.mark.timeout(600)
MIB = 2**20
BODY = b"x" * (MIB - 1024)
AT_ONCE = 160  # of nearly 1 MiB each: more than twice of what may wait
MAX_GROWTH = 448 * MIB


class Memory(threading.Thread):
    """Watches how large a process gets."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._process, self._stopping = psutil.Process(pid), threading.Event()
        self.least = self.most = self._process.memory_info().rss

    def run(self) -> None:
        while not self._stopping.wait(0.02):
            self.most = max(self.most, self._process.memory_info().rss)

    def stop(self) -> int:
        """Return by how many bytes it grew at most."""
        self._stopping.set()
        self.join()
        return self.most - self.least


def test_what_cannot_be_kept_is_refused_and_what_is_acknowledged_is_kept(
    make_stack: Callable[..., Stack], plain_receiver: Nginx | PlainServer
) -> None:
    """160 MiB at once, into an intake that stands still, for a receiver that is down: 202 or 503, nothing else.

    A refusal says when to come again and leaves no row; each 202 arrives once the receiver is back.
    """
    stack = make_stack(CONTROLPLANE_LEASE_S="30")
    process = stack.start("web")
    stack.start("deliver")
    link = Link(stack, "http://127.0.0.1:9", retry_schedule_s=[0.2], max_attempts=50)
    headers = {"X-API-Key": stack.key(), "X-Source-System": link.source, "Content-Type": "application/octet-stream"}
    refused: Counter[tuple[int, bool]] = Counter()

    def post(number: int) -> str:
        answer = requests.post(
            f"{stack.url}/to/{link.target}", data=BODY, headers={**headers, "X-Message-Id": f"m-{number}"}, timeout=120
        )
        if answer.status_code == 202:
            return str(answer.json()["message_id"])
        refused[answer.status_code, "Retry-After" in answer.headers] += 1
        return ""

    link.send()  # every path was gone once
    memory = Memory(process)
    memory.start()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        with nothing_is_stored(stack):
            asked = [pool.submit(post, number) for number in range(AT_ONCE)]
            stack.wait_for(lambda: refused, 60, "a refusal while nothing can be stored")
        acknowledged = [found for one in asked if (found := one.result())]
    growth = memory.stop()

    [(stored,)] = stack.sql("SELECT count(*) FROM messaging_message")
    changed = {"port": plain_receiver.port, "path": "/in"}
    assert stack.api("PATCH", f"endpoints/{link.endpoint}/", json=changed).status_code == 200
    drain(stack, 120)
    arrived = {line[1] for line in plain_receiver.lines()}
    figures = {"asked": AT_ONCE, "acknowledged": len(acknowledged), "refused": sum(refused.values())}
    figures |= {"lost": len(set(acknowledged) - arrived), "memory grew by, MiB": growth // MIB}
    print(f"\n{stack.database_url.partition(':')[0]}: {json.dumps(figures)}")

    assert set(refused) <= {(503, True), (429, True)}
    assert stored == len(acknowledged) + 1
    assert len(acknowledged) + sum(refused.values()) == AT_ONCE
    assert set(acknowledged) <= arrived
    assert growth <= MAX_GROWTH
    demand_balance(stack)
