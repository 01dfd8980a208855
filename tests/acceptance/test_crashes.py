"""Processes are killed, stopped and frozen under load; both ends keep books of their own, and they agree with ours."""

import json
import random
import signal
import time
from collections.abc import Callable
from functools import partial

import pytest

from tests.acceptance.ledgers import Sender, compare, demand_balance, demand_unchanged, drain, ended, overdue_s
from tests.acceptance.link import Link
from tests.acceptance.plain_server import PlainServer
from tests.servers.answers import HANG, Answer
from tests.servers.http import HttpReceiver, Received
from tests.servers.nginx import Nginx
from tests.stack import Stack, Timeout

KILLS = 20  # half of them of deliver, half of web
LEASE_S = 2
GRACE_S = 6  # what a recovery may take beyond the lease
pytestmark = pytest.mark.timeout(900)


def running(make_stack: Callable[..., Stack], *roles: str, lease_s: float = LEASE_S) -> Stack:
    stack = make_stack(CONTROLPLANE_LEASE_S=str(lease_s))
    for role in roles:
        stack.start(role)
    return stack


def test_kills_at_random_moments_lose_nothing(
    make_stack: Callable[..., Stack], plain_receiver: Nginx | PlainServer
) -> None:
    """SIGKILL of deliver and of web under load: nothing acknowledged is lost, and duplicates are what was in flight."""
    stack = running(make_stack, "web", "deliver")
    link = Link(stack, f"{plain_receiver.url}/in")
    log = plain_receiver.directory / "access.log"
    sender = Sender(stack, link.source, link.target)
    sender.start()
    chance, overdue = random.Random(), [0.0]

    def has_flowed(arrived: int, acknowledged: int) -> bool:
        overdue.append(overdue_s(stack))
        return log.exists() and log.stat().st_size > arrived and len(sender.acknowledged) >= acknowledged

    for kill in range(KILLS):
        role = ("deliver", "web")[kill % 2]
        arrived = log.stat().st_size if log.exists() else 0
        enough = len(sender.acknowledged) + chance.randint(1, 60)
        stack.wait_for(partial(has_flowed, arrived, enough), 60, "load")
        stack.kill(role)
        stack.start(role)
    sender.finish()
    finished = time.monotonic()
    drain(stack)

    figures = compare(stack, sender.acknowledged, plain_receiver.lines())
    books = demand_balance(stack)
    figures |= {"kills": KILLS, "drained after s": round(time.monotonic() - finished, 1)}
    figures["most overdue lease, s"] = round(max(overdue), 1)
    print(f"\n{stack.database_url.partition(':')[0]}: {json.dumps(figures)}")
    assert books["expected"] == books["states"]["delivered"] == len(sender.acknowledged)
    assert max(overdue) <= GRACE_S
    assert figures["acknowledged"] > KILLS


def test_what_a_killed_worker_held_is_finished_within_a_lease_and_six_seconds(
    make_stack: Callable[..., Stack], http_receiver: HttpReceiver
) -> None:
    """Another worker takes over; each claim that was lost is an attempt on record, and spends nothing."""
    stack = running(make_stack, "web", "deliver")
    http_receiver.answer(HANG)
    link = Link(stack, http_receiver.url, timeout_s=60, max_attempts=1, max_in_flight=8)
    sent = [link.send() for _ in range(30)]
    http_receiver.wait_for(8)
    http_receiver.answer(200)  # whom the second worker sends to answers; what hangs already goes on hanging
    stack.start("deliver", name="second")
    alive = "SELECT count(*) FROM messaging_process WHERE role = 'deliver' AND stopped_at IS NULL"
    stack.wait_for(lambda: stack.sql(alive) == [(2,)], what="the second worker's first beat")
    stack.kill("deliver")
    killed = time.monotonic()
    drain(stack, LEASE_S + GRACE_S)

    assert time.monotonic() - killed <= LEASE_S + GRACE_S
    found = [link.delivery(message_id) for message_id in sent]
    assert {(row["state"], row["attempts"]) for row in found} == {("delivered", 1)}
    lost = [row for row in found if [attempt["outcome"] for attempt in row["attempt_list"]] == ["lost", "delivered"]]
    assert len(lost) >= 8
    demand_balance(stack)


def test_a_frozen_worker_changes_nothing_when_it_comes_back(
    make_stack: Callable[..., Stack], http_receiver: HttpReceiver
) -> None:
    """SIGSTOP for three leases: the rows belong to another worker by then, and every late finish is refused."""
    stack = running(make_stack, "web", "deliver")
    http_receiver.answer(Answer(200, delay_s=2))
    link = Link(stack, http_receiver.url, timeout_s=60, max_in_flight=8)
    sent = [link.send() for _ in range(24)]
    http_receiver.wait_for(8)
    stack.freeze("deliver")
    frozen = time.monotonic()
    http_receiver.answer(200)
    stack.start("deliver", name="second")
    drain(stack)
    stack.wait_for(lambda: time.monotonic() - frozen >= 3 * LEASE_S, what="three leases gone by")
    before, attempts = ended(stack), stack.sql("SELECT count(*) FROM messaging_attempt")
    received = len(http_receiver.received)

    stack.signal("deliver", signal.SIGCONT)
    stack.wait_for(lambda: "stale_finishes_refused" in stack.log("deliver"), what="a late finish being refused")
    # The frozen one is well again: it claims, sends and finishes what is new.
    stack.kill("second")
    assert link.ended(link.send())["state"] == "delivered"

    newest = stack.sql("SELECT count(*) FROM messaging_attempt")[0][0]
    demand_unchanged(stack, before)
    assert newest == attempts[0][0] + 1
    assert {link.delivery(message_id)["attempts"] for message_id in sent} == {1}
    assert len(http_receiver.received) == received + 1, "what was only claimed must not be sent after its lease"
    demand_balance(stack)


def test_a_frozen_worker_sends_nothing_that_it_had_only_claimed(
    make_stack: Callable[..., Stack], http_receiver: HttpReceiver
) -> None:
    """A quick receiver has the worker claim ahead; after a freeze those claims are another's, so they stay unsent."""
    stack = running(make_stack, "web", "deliver")
    quick, slow_after = Answer(200), 300
    http_receiver.answer(lambda _: quick if len(http_receiver.received) <= slow_after else Answer(200, delay_s=5))
    link = Link(stack, http_receiver.url, timeout_s=60, max_in_flight=4)
    batch = [link.message() for _ in range(slow_after + 40)]
    assert stack.api("POST", "messages/", json=batch).json()["accepted"] == len(batch)
    counts = "SELECT count(*) FROM messaging_delivery WHERE state = ?"
    stack.wait_for(lambda: stack.sql(counts, "delivered")[0][0] >= slow_after, what="the quick ones written down")
    stack.wait_for(lambda: stack.sql(counts, "sending")[0][0] > 4, what="more claimed than it sends at once")
    stack.freeze("deliver")
    http_receiver.answer(200)
    stack.start("deliver", name="second")
    drain(stack)
    received = len(http_receiver.received)

    stack.signal("deliver", signal.SIGCONT)
    stack.wait_for(lambda: "stale_finishes_refused" in stack.log("deliver"), what="a late finish being refused")
    stack.kill("second")
    assert link.ended(link.send())["state"] == "delivered"

    assert len(http_receiver.received) == received + 1
    assert received <= len(batch) + 4


def test_sigterm_under_load_ends_in_time_and_loses_nothing(
    make_stack: Callable[..., Stack], plain_receiver: Nginx | PlainServer
) -> None:
    """Both processes in turn, twice: out within 30 s, nothing left `sending`, and nothing sent twice."""
    stack = running(make_stack, "web", "deliver", lease_s=30)
    link = Link(stack, f"{plain_receiver.url}/in")
    sender = Sender(stack, link.source, link.target)
    sender.start()
    for _ in range(2):
        enough = len(plain_receiver.lines()) + 50
        stack.wait_for(lambda wanted=enough: len(plain_receiver.lines()) > wanted, 60, "load")
        assert stack.terminate("deliver", 30) == 0, stack.log("deliver")
        assert stack.sql("SELECT count(*) FROM messaging_delivery WHERE state = 'sending'") == [(0,)]
        assert stack.terminate("web", 30) in (0, -signal.SIGTERM), stack.log("web")
        stack.start("web")
        stack.start("deliver")
    sender.finish()
    drain(stack)

    figures = compare(stack, sender.acknowledged, plain_receiver.lines())
    assert (figures["duplicates"], figures["claims lost"]) == (0, 0)
    demand_balance(stack)


def test_sigterm_breaks_a_send_off_that_takes_too_long(
    make_stack: Callable[..., Stack], http_receiver: HttpReceiver
) -> None:
    """A receiver that never answers holds a stop up for twenty seconds at most; its message is due again, unspent."""
    stack = running(make_stack, "web", "deliver", lease_s=30)
    http_receiver.answer(HANG)
    link = Link(stack, http_receiver.url, timeout_s=60)
    message_id = link.send()
    http_receiver.wait_for(1)

    started = time.monotonic()
    assert stack.terminate("deliver", 30) == 0
    found = link.delivery(message_id)

    assert 15 < time.monotonic() - started < 30
    assert (found["state"], found["reason"], found["attempts"]) == ("pending", "retrying", 0)
    assert [attempt["outcome"] for attempt in found["attempt_list"]] == ["cut"]


def test_a_message_that_kills_its_worker_takes_nobody_with_it(
    make_stack: Callable[..., Stack], http_receiver: HttpReceiver
) -> None:
    """Lost once among others, then three times alone: dead as `poison`, while everything else is delivered."""
    stack = running(make_stack, "web")
    poison = "poison-1"

    def kill(request: Received) -> Answer:
        if request.headers["x-message-id"] != poison:
            return Answer(200)
        stack.signal("deliver", signal.SIGKILL)
        return HANG

    http_receiver.answer(kill)
    link = Link(stack, http_receiver.url, timeout_s=60)
    others = [link.send() for _ in range(10)]
    link.send(message_id=poison)
    others += [link.send() for _ in range(10)]
    stack.start("deliver")

    for _ in range(4):
        stack.wait_for(lambda: stack.processes["deliver"].poll() is not None, what="the worker dying of it")
        stack.processes.pop("deliver")
        stack.start("deliver")
    found = link.ended(poison)

    assert (found["state"], found["reason"], found["error_class"]) == ("dead", "poison", "lost")
    assert [attempt["outcome"] for attempt in found["attempt_list"]] == ["lost"] * 4
    assert found["attempts"] == 0
    assert {link.ended(message_id)["state"] for message_id in others} == {"delivered"}
    sends = [request for request in http_receiver.received if request.headers["x-message-id"] == poison]
    assert len(sends) == 4
    with pytest.raises(Timeout):
        stack.wait_for(lambda: stack.processes["deliver"].poll() is not None, 2, "it must not die again")
    demand_balance(stack)
