"""Order per key, over the API and with real processes: who waits behind whom, what lets it go, what a person can do."""

import asyncio
import random
import threading
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import aiohttp
import orjson
import pytest

from tests.acceptance.ledgers import demand_balance, drain, let_go
from tests.acceptance.link import Link
from tests.servers.answers import Answer
from tests.servers.http import HttpReceiver, Received
from tests.stack import Stack

ENGINES = 4
KEYS = 12
KILLS = 6
EACH = 40
NEVER_S = 3600
FLOOD, OTHERS = 450, 16


def soon(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def number(request: Received) -> int:
    return int(orjson.loads(request.body)["n"])


def numbers(receiver: HttpReceiver) -> list[int]:
    """Return the `n` of every payload received, in order of arrival."""
    return [number(request) for request in receiver.received]


def send_line(link: Link, count: int, **fields: Any) -> list[str]:
    """Send so many messages of one key in one batch; return their ids."""
    batch = [link.message(ordering_key="k", payload={"n": n}, **fields) for n in range(count)]
    return [row["message_id"] for row in link.stack.api("POST", "messages/", json=batch).json()["results"]]


def blocked_by(link: Link, message_id: str) -> tuple[str, str | None]:
    """Return (reason, the delivery it waits behind) of a message's delivery."""
    found = link.delivery(message_id)
    return found["reason"], found["blocked_by"]


@pytest.fixture
def link(shared_stack: Stack, http_receiver: HttpReceiver) -> Link:
    return Link(shared_stack, http_receiver.url, retry_schedule_s=[0.1])


@pytest.fixture
def halting(shared_stack: Stack, http_receiver: HttpReceiver) -> Link:
    return Link(shared_stack, http_receiver.url, retry_schedule_s=[0.1], ordering_policy="halt")


# --- over crashes and several engines ----------------------------------------------


class Senders(threading.Thread):
    """Sends numbered messages, each key one after the other, all keys at once."""

    def __init__(self, link: Link) -> None:
        super().__init__(daemon=True)
        self._link, self._key = link, link.stack.key()

    def run(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        async with aiohttp.ClientSession(headers={"X-API-Key": self._key}) as session:
            await asyncio.gather(*(self._send(session, f"k{key}") for key in range(KEYS)))
        await let_go()

    async def _send(self, session: aiohttp.ClientSession, key: str) -> None:
        for n in range(EACH):
            body = self._link.message(ordering_key=key, event_type=key, payload={"n": n})
            async with session.post(f"{self._link.stack.url}/api/v1/messages/", json=body) as answer:
                assert answer.status == 202, await answer.text()


@pytest.mark.timeout(300)
def test_order_holds_with_retries_kills_and_four_engines(
    make_stack: Callable[..., Stack], http_receiver: HttpReceiver
) -> None:
    """By the receiver's own books no message of a key ever comes after a later one: inversions 0, and none missing."""
    chance = random.Random(11)
    http_receiver.answer(lambda _: Answer(500 if chance.random() < 0.1 else 200, delay_s=0.005))
    stack = make_stack()
    stack.start("web")
    for engine in range(ENGINES):
        stack.start("deliver", name=f"deliver-{engine}")
    link = Link(stack, http_receiver.url, retry_schedule_s=[0.05], max_attempts=50)
    senders = Senders(link)
    senders.start()
    for kill in range(KILLS):
        enough = (kill + 1) * KEYS * EACH // (KILLS + 2)
        stack.wait_for(lambda enough=enough: len(http_receiver.received) >= enough, 60, "load")
        name = f"deliver-{kill % ENGINES}"
        stack.kill(name)
        stack.start("deliver", name=name)
    senders.join(120)
    assert not senders.is_alive(), "a message was never acknowledged"
    drain(stack, 90)

    seen: dict[str, list[int]] = defaultdict(list)
    for request in http_receiver.received:
        seen[request.headers["x-event-type"]].append(number(request))
    inversions = sum(later < earlier for line in seen.values() for earlier, later in pairwise(line))
    lost = stack.sql("SELECT count(*) FROM messaging_attempt WHERE outcome = 'lost'")[0][0]
    repeats = sum(map(len, seen.values())) - KEYS * EACH
    figures = {"messages": KEYS * EACH, "kills": KILLS, "claims lost": lost, "repeats": repeats}
    print(f"\n{stack.database_url.partition(':')[0]}: {figures | {'inversions': inversions}}")
    assert inversions == 0
    assert {key: sorted(set(line)) for key, line in seen.items()} == {f"k{n}": list(range(EACH)) for n in range(KEYS)}
    assert demand_balance(stack)["states"]["delivered"] == KEYS * EACH
    logs = "".join(stack.log(f"deliver-{engine}", 100_000) for engine in range(ENGINES))
    assert "order_mended" not in logs, "something was left behind nobody"


def test_what_waits_behind_nobody_is_found(make_stack: Callable[..., Stack], http_receiver: HttpReceiver) -> None:
    """The net under the order: were one ever left blocked, it would go within seconds, and the log would say so."""
    stack = make_stack()
    stack.start("web")
    link = Link(stack, http_receiver.url)
    left = link.send(ordering_key="k")
    stack.sql("UPDATE messaging_delivery SET reason = 'blocked'")
    stack.start("deliver")

    assert link.ended(left, timeout=60)["state"] == "delivered"
    assert "order_mended" in stack.log("deliver")


def test_a_head_that_is_lost_stays_the_head(make_stack: Callable[..., Stack], http_receiver: HttpReceiver) -> None:
    """The worker dies over it: the next waits until the head was sent again."""
    stack = make_stack()
    stack.start("web")
    stack.start("deliver")
    link = Link(stack, http_receiver.url, timeout_s=60)
    http_receiver.answer(Answer(200, delay_s=NEVER_S))
    first, second = send_line(link, 2)
    http_receiver.wait_for(1, 60)
    stack.kill("deliver")
    http_receiver.answer(200)
    stack.start("deliver")

    assert link.ended(second, timeout=60)["state"] == "delivered"
    assert numbers(http_receiver) == [0, 0, 1]
    assert [attempt["outcome"] for attempt in link.ended(first)["attempt_list"]] == ["lost", "delivered"]


def test_a_poisonous_head_frees_those_behind_it(make_stack: Callable[..., Stack], http_receiver: HttpReceiver) -> None:
    """Dead of too many losses is dead like any other."""
    stack = make_stack()
    stack.start("web")
    link = Link(stack, http_receiver.url)
    first, second = send_line(link, 2)
    stack.sql(
        "UPDATE messaging_delivery SET state = 'sending', losses = 3, lease_token = id, lease_until = created_at"
        " WHERE reason <> 'blocked'"
    )
    stack.start("deliver")

    assert link.ended(second, timeout=60)["state"] == "delivered"
    assert link.ended(first)["reason"] == "poison"
    assert numbers(http_receiver) == [1]


# --- who waits behind whom -----------------------------------------------------------


def test_a_blocked_delivery_says_behind_which_and_since_when(link: Link, http_receiver: HttpReceiver) -> None:
    """In the list its id, on the detail its state and what it does; once the head ended, nothing of it."""
    http_receiver.answer(500)
    slow = Link(link.stack, http_receiver.url, retry_schedule_s=[NEVER_S])
    first, second, third = send_line(slow, 3)
    head = slow.until(first, "pending", reason="retrying")
    waiting = slow.delivery(third)

    assert (waiting["state"], waiting["reason"], waiting["blocked_by"]) == ("pending", "blocked", head["id"])
    shown = waiting["blocked"]
    assert (shown["delivery"], shown["message_id"], shown["state"]) == (head["id"], first, "pending")
    assert shown["since"] == head["attempt_list"][0]["started_at"]
    assert f"blocked behind delivery {head['id']} ({slow.target}/main, key k, retrying since 20" in shown["text"]
    listed = slow.stack.api("GET", f"deliveries/?system={slow.target}&reason=blocked").json()["results"]
    assert {row["blocked_by"] for row in listed} == {head["id"]}
    assert {row["message_id"] for row in listed} == {second, third}

    http_receiver.answer(200)
    slow.act(f"deliveries/{head['id']}/cancel/")
    ended = slow.ended(third)
    assert (ended["state"], ended["blocked_by"], ended["blocked"]) == ("delivered", None, None)
    assert numbers(http_receiver)[1:] == [1, 2]


def test_a_scheduled_one_waits_its_time_and_blocks_those_behind_it(link: Link, http_receiver: HttpReceiver) -> None:
    """Released before its time, it says `scheduled`; who comes after it says `blocked` until then."""
    first = link.send(ordering_key="k", payload={"n": 0}, deliver_at=soon(NEVER_S))
    second = link.send(ordering_key="k", payload={"n": 1}, deliver_at=soon(3))
    third = link.send(ordering_key="k", payload={"n": 2})
    assert [link.delivery(row)["reason"] for row in (first, second, third)] == ["scheduled", "blocked", "blocked"]
    link.act(f"deliveries/{link.delivery(first)['id']}/cancel/")

    assert blocked_by(link, second) == ("scheduled", None)
    assert blocked_by(link, third) == ("blocked", link.delivery(second)["id"])
    assert link.ended(third)["state"] == "delivered"
    assert numbers(http_receiver) == [1, 2]


def test_what_expires_in_the_line_lets_the_others_go(link: Link, http_receiver: HttpReceiver) -> None:
    """A head that expires frees the next; one that expires while it is blocked is passed over."""
    link.send(ordering_key="k", payload={"n": 0}, deliver_at=soon(NEVER_S), ttl=1.5)
    passed = link.send(ordering_key="k", payload={"n": 1}, ttl=0.2)
    last = link.send(ordering_key="k", payload={"n": 2})

    assert link.ended(last)["state"] == "delivered"
    assert link.ended(passed)["state"] == "expired"
    assert numbers(http_receiver) == [2]


def test_a_pause_holds_what_a_head_lets_go(link: Link, http_receiver: HttpReceiver) -> None:
    """The next of a key is `paused` at once, and goes when the pause ends."""
    link.act(f"endpoints/{link.endpoint}/pause/")
    first, second = send_line(link, 2)
    link.act(f"deliveries/{link.delivery(first)['id']}/cancel/")

    assert link.delivery(second)["reason"] == "paused"
    assert http_receiver.received == []
    link.act(f"endpoints/{link.endpoint}/resume/")
    assert link.ended(second)["state"] == "delivered"


def test_what_is_sent_again_stands_outside_the_order(link: Link, http_receiver: HttpReceiver) -> None:
    """A delivered one sent again neither waits behind the head nor holds anybody back."""
    done = link.ended(link.send(ordering_key="k", payload={"n": 0}))
    head = link.send(ordering_key="k", payload={"n": 1}, deliver_at=soon(NEVER_S))
    link.act(f"deliveries/{done['id']}/resend/")
    http_receiver.wait_for(2)
    again = link.until(done["message_id"], "delivered")

    assert again["attempt_list"][-1]["trigger"] == "manual"
    assert link.delivery(head)["reason"] == "scheduled"
    assert numbers(http_receiver) == [0, 0]


# --- the policy `halt` ---------------------------------------------------------------


def dead_head(link: Link, receiver: HttpReceiver) -> tuple[dict[str, Any], str]:
    """Return the dead head of a line, and the message blocked behind it."""
    receiver.answer(404)
    first, second = send_line(link, 2)
    return link.until(first, "dead"), second


def test_a_dead_head_halts_its_key_and_no_other(halting: Link, http_receiver: HttpReceiver) -> None:
    head, waiting = dead_head(halting, http_receiver)
    late = halting.send(ordering_key="k", payload={"n": 2})
    http_receiver.answer(200)
    other = halting.send(ordering_key="other", payload={"n": 9})

    assert halting.ended(other)["state"] == "delivered"
    assert (head["halting"], halting.delivery(waiting)["blocked"]["state"]) == (True, "dead")
    assert {blocked_by(halting, row) for row in (waiting, late)} == {("blocked", head["id"])}
    assert "must be sent again or cancelled" in halting.delivery(waiting)["blocked"]["text"]
    assert numbers(http_receiver) == [0, 9]


def test_a_person_skips_the_dead_head(halting: Link, http_receiver: HttpReceiver) -> None:
    """`cancel` of the dead letter that holds: on the record, and the next goes. Other dead letters have no such end."""
    head, waiting = dead_head(halting, http_receiver)
    http_receiver.answer(200)
    skipped = halting.act(f"deliveries/{head['id']}/cancel/")
    assert halting.ended(waiting)["state"] == "delivered"

    assert (skipped["state"], skipped["reason"], skipped["halting"]) == ("cancelled", "operator", False)
    [entry] = halting.stack.api("GET", f"audit/?object_id={head['id']}").json()["results"]
    assert (entry["action"], entry["changes"]) == ("cancel", {"state": ["dead", "cancelled"]})
    http_receiver.answer(404)
    plain = halting.ended(halting.send())
    answer = halting.stack.api("POST", f"deliveries/{plain['id']}/cancel/")
    assert (answer.status_code, answer.json()["code"]) == (409, "wrong_state")


def test_a_dead_head_sent_again_holds_until_it_is_delivered(halting: Link, http_receiver: HttpReceiver) -> None:
    """Refused once more it goes on holding; delivered it lets the next go."""
    head, waiting = dead_head(halting, http_receiver)
    halting.act(f"deliveries/{head['id']}/resend/")
    http_receiver.wait_for(2)
    assert halting.until(head["message_id"], "dead")["halting"] is True
    assert blocked_by(halting, waiting) == ("blocked", head["id"])

    http_receiver.answer(200)
    halting.act(f"deliveries/{head['id']}/resend/")
    assert halting.ended(waiting)["state"] == "delivered"
    assert numbers(http_receiver) == [0, 0, 0, 1]


def test_a_policy_that_changes_to_block_lets_all_go(halting: Link, http_receiver: HttpReceiver) -> None:
    """The dead letter stays dead, and holds nobody any more."""
    head, waiting = dead_head(halting, http_receiver)
    http_receiver.answer(200)
    changed = halting.stack.api("PATCH", f"endpoints/{halting.endpoint}/", json={"ordering_policy": "block"})
    assert changed.status_code == 200, changed.text

    assert halting.ended(waiting)["state"] == "delivered"
    assert (halting.delivery(head["message_id"])["state"], halting.delivery(head["message_id"])["halting"]) == (
        "dead",
        False,
    )


# --- priorities ------------------------------------------------------------------------


def test_a_high_one_does_not_wait_behind_ten_thousand_low_ones(
    make_stack: Callable[..., Stack], http_receiver: HttpReceiver
) -> None:
    """It is claimed before all that is not claimed yet."""
    stack = make_stack()
    stack.start("web")
    http_receiver.answer(Answer(200, delay_s=0.02))
    link = Link(stack, http_receiver.url, max_in_flight=4)
    lines = [orjson.dumps(link.message(priority="low", payload={"n": n})) for n in range(10_000)]
    headers = {"Content-Type": "application/x-ndjson"}
    assert stack.api("POST", "messages/", data=b"\n".join(lines), headers=headers).json()["accepted"] == 10_000
    stack.start("deliver")
    http_receiver.wait_for(50, 60)
    before = len(http_receiver.received)
    high = link.send(priority="high", payload={"n": -1})
    assert link.ended(high)["state"] == "delivered"

    # At 200 a second the backlog would take it 50 s; what had been claimed before it may go first.
    assert numbers(http_receiver).index(-1) - before < 1_000


def test_a_flood_of_high_ones_does_not_stop_the_low_ones(
    make_stack: Callable[..., Stack], http_receiver: HttpReceiver
) -> None:
    """While high ones wait, at least one place in sixteen goes to whoever of the others is due the longest."""
    stack = make_stack()
    stack.start("web")
    http_receiver.answer(Answer(200, delay_s=0.01))
    link = Link(stack, http_receiver.url, max_in_flight=1)
    flood = [link.message(priority="high", payload={"n": n}) for n in range(FLOOD)]
    assert stack.api("POST", "messages/", json=flood).json()["accepted"] == len(flood)
    for n in range(OTHERS):
        link.send(priority=("low", "normal")[n % 2], payload={"n": -1 - n})
    stack.start("deliver")
    http_receiver.wait_for(FLOOD + OTHERS, 120)

    order = numbers(http_receiver)
    places = [place for place, n in enumerate(order) if n < 0]
    assert places[-1] < max(order.index(n) for n in range(FLOOD)), "the others waited for the flood to end"
    # Claimed some at a time, so a place may come some later than after sixteen; it never comes much sooner.
    assert max(later - earlier for earlier, later in pairwise([0, *places])) <= 64
    assert places[-1] >= OTHERS * 12
    # Among the others the longest due goes first, whatever its priority.
    assert order.index(-1) < order.index(-8) < order.index(-15)
