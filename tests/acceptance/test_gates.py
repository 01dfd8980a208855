"""Caps, rates and breakers of an endpoint over several real processes, and the switches people have."""

import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from uuid import uuid4

import orjson
import psycopg
import pytest

from tests.acceptance.ledgers import drain
from tests.acceptance.link import Link
from tests.acceptance.test_engine_defects import fill
from tests.servers.answers import HANG, Answer
from tests.servers.http import HttpReceiver, Received
from tests.stack import Stack

MakeStack = Callable[..., Stack]


class Meter:
    """Answers after a while, and notes how many requests were open at a time."""

    def __init__(self, receiver: HttpReceiver, delay_s: float) -> None:
        self._lock = threading.Lock()
        self._ends: list[float] = []
        self.delay_s, self.most = delay_s, 0
        receiver.answer(self)

    def __call__(self, request: Received) -> Answer:
        now = time.monotonic()
        with self._lock:
            self._ends = [*(end for end in self._ends if end > now), now + self.delay_s]
            self.most = max(self.most, len(self._ends))
        return Answer(200, delay_s=self.delay_s)


def batch(link: Link, count: int, **fields: object) -> None:
    """Have `count` messages accepted."""
    messages = [link.message(**fields) for _ in range(count)]
    answer = link.stack.api("POST", "messages/", json=messages)
    assert answer.json()["accepted"] == count, answer.text


def several(make_stack: MakeStack, count: int, **settings: str) -> Stack:
    """Return a stack with `count` deliver processes that have settled who has which part."""
    stack = make_stack(**settings)
    stack.start("web")
    for number in range(count):
        stack.start("deliver", name=f"deliver-{number}")
    settled(stack, count)
    return stack


def settled(stack: Stack, count: int) -> None:
    """Return once `count` processes have announced the same members."""

    def agree() -> bool:
        views = [str(row[0]) for row in stack.sql("SELECT view FROM messaging_member")]
        return any(view.count(",") == count - 1 and len(view) > 9 and views.count(view) == count for view in views)

    stack.wait_for(agree, 30, f"{count} members with one view")


def shift(stack: Stack, link: Link, seconds: float) -> None:
    """Move the past of a link's endpoint and of what waits for it back, as if so much time had gone by."""
    is_sqlite = stack.database_url.startswith("sqlite")

    def earlier(column: str) -> str:
        return (
            f"{column} = strftime('%Y-%m-%d %H:%M:%f', {column}, '-{seconds} seconds')"
            if is_sqlite
            else f"{column} = {column} - interval '{seconds} seconds'"
        )

    columns = ", ".join(earlier(name) for name in ("opened_at", "changed_at", "tried_at", "try_at"))
    endpoint = link.endpoint.replace("-", "") if is_sqlite else link.endpoint
    stack.sql(f"UPDATE endpoints_breaker SET {columns} WHERE endpoint_id = ?", endpoint)
    times = ", ".join(earlier(name) for name in ("due_at", "created_at"))
    for _ in range(5):  # beside an engine that marks the same rows
        with suppress(psycopg.errors.DeadlockDetected):
            stack.sql(f"UPDATE messaging_delivery SET {times} WHERE state = 'pending'")
            return
    raise AssertionError("the engine was always in the way")


def breaker(link: Link) -> dict[str, object]:
    shown = link.stack.api("GET", f"endpoints/{link.endpoint}/").json()["breaker"]
    return dict(shown or {"state": "closed"})


def opened(link: Link) -> dict[str, object]:
    """Return the endpoint's breaker once it is open."""

    def is_open() -> dict[str, object] | None:
        found = breaker(link)
        return found if found["state"] != "closed" else None

    found = link.stack.wait_for(is_open, 20, "an open breaker")
    assert found is not None
    return found


def counts(stack: Stack, link: Link) -> dict[tuple[str, str], int]:
    """Return {(state, reason): number} of the link's deliveries."""
    rows = stack.sql(
        "SELECT d.state, d.reason, count(*) FROM messaging_delivery d JOIN endpoints_system s ON s.id = d.system_id"
        " WHERE s.slug = ? GROUP BY d.state, d.reason",
        link.target,
    )
    return {(row[0], row[1]): row[2] for row in rows}


# --- caps and rates ------------------------------------------------------------


def test_a_cap_holds_over_processes_while_one_joins_and_one_is_killed(
    make_stack: MakeStack, http_receiver: HttpReceiver
) -> None:
    """Never more than 4 at the receiver; those who are left use all 4 in the end."""
    stack = several(make_stack, 2)
    meter = Meter(http_receiver, 0.05)
    link = Link(stack, http_receiver.url, max_in_flight=4)
    batch(link, 400)
    http_receiver.wait_for(40, 30)
    stack.start("deliver", name="deliver-joining")
    settled(stack, 3)
    stack.kill("deliver-0")
    settled(stack, 2)
    so_far = len(http_receiver.received)
    batch(link, 100)
    http_receiver.wait_for(so_far + 60, 30)
    drain(stack)

    assert meter.most == 4
    assert counts(stack, link) == {("delivered", "sent"): 500}


def test_one_at_a_time_fills_a_slow_endpoint_to_its_cap(make_stack: MakeStack, http_receiver: HttpReceiver) -> None:
    """Messages that come one by one, with none ended, are sent until `max_in_flight` are open, and no more."""
    stack = several(make_stack, 1)
    http_receiver.answer(HANG)
    link = Link(stack, http_receiver.url, timeout_s=60, max_in_flight=8)
    for count in range(1, 9):
        link.send()
        assert len(http_receiver.wait_for(count)) == count
    ninth = link.send()

    link.until(ninth, "pending")
    assert len(http_receiver.received) == 8


def test_a_cap_of_one_holds_over_four_processes(make_stack: MakeStack, http_receiver: HttpReceiver) -> None:
    """Whose turn it is is settled before anybody sends."""
    stack = several(make_stack, 4)
    meter = Meter(http_receiver, 0.01)
    link = Link(stack, http_receiver.url, max_in_flight=1)
    batch(link, 100)
    drain(stack)

    assert (meter.most, len(http_receiver.received)) == (1, 100)


def test_a_rate_holds_over_processes_and_says_so(make_stack: MakeStack, http_receiver: HttpReceiver) -> None:
    """20 a second, three processes: what waits says `rate_limited`, and nothing is spent."""
    stack = several(make_stack, 3)
    link = Link(stack, http_receiver.url, rate_per_s=20, max_in_flight=6)
    batch(link, 140)
    stack.wait_for(lambda: ("pending", "rate_limited") in counts(stack, link), 20, "rate_limited being said")
    http_receiver.wait_for(140, 30)
    drain(stack)
    times = sorted(request.at for request in http_receiver.received)
    rate = 100 / (times[130] - times[30])

    assert 17 <= rate <= 23, f"{rate:.1f}/s"
    most = max(sum(1 for at in times if begin <= at < begin + 1) for begin in times)
    assert most <= 30, f"{most} within a second"


def test_a_raised_rate_counts_at_once(shared_stack: Stack, http_receiver: HttpReceiver) -> None:
    """A place that the old rate gave, minutes away, holds nothing up any more."""
    link = Link(shared_stack, http_receiver.url, rate_per_s=0.01)
    batch(link, 5)
    http_receiver.wait_for(1)
    changed = shared_stack.api("PATCH", f"endpoints/{link.endpoint}/", json={"rate_per_s": 100})
    assert changed.ok, changed.text
    http_receiver.wait_for(5)


def test_a_frozen_process_that_comes_back_takes_nothing_until_it_has_a_part(
    make_stack: MakeStack, http_receiver: HttpReceiver
) -> None:
    """The others took its part over, a lease after they heard of it last; the cap holds when it goes on."""
    stack = several(make_stack, 2, CONTROLPLANE_LEASE_S="6")
    meter = Meter(http_receiver, 0.05)
    link = Link(stack, http_receiver.url, max_in_flight=4)
    batch(link, 60)
    drain(stack)  # both know the endpoint now
    stack.freeze("deliver-0")
    try:
        settled(stack, 1)
        batch(link, 400)
        so_far = len(http_receiver.received)
        http_receiver.wait_for(so_far + 20, 30)
        assert meter.most == 4  # one alone uses all of it
    finally:
        stack.signal("deliver-0", signal.SIGCONT)
    settled(stack, 2)
    drain(stack)

    assert meter.most == 4
    assert counts(stack, link) == {("delivered", "sent"): 460}


# --- breaker -------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 404, 500])
def test_a_broken_endpoint_holds_its_queue_and_heals(
    shared_stack: Stack, http_receiver: HttpReceiver, status: int
) -> None:
    """At most 10 are spent, the rest waits saying `breaker`; once it is back all that was not dead is delivered."""
    http_receiver.answer(status)
    link = Link(shared_stack, http_receiver.url, retry_schedule_s=[3600])
    batch(link, 100)
    found = opened(link)
    assert (found["state"], found["failures"]) in [("open", 10), ("half_open", 10)]

    def held() -> bool:
        return counts(shared_stack, link).get(("pending", "breaker"), 0) >= 90

    shared_stack.wait_for(held, 20, "the rest saying breaker")
    tried = len(http_receiver.received)
    http_receiver.wait_for(tried + 3, 20)  # half-open, one at a time
    rows = shared_stack.api("GET", f"deliveries/?system={link.target}&page_size=200").json()["results"]
    assert sum(row["attempts"] for row in rows) == 10
    http_receiver.answer(200)
    drain_link(shared_stack, link)

    dead = 10 if status == 404 else 0
    assert counts(shared_stack, link).get(("delivered", "sent")) == 100 - dead
    assert breaker(link)["state"] == "closed"
    assert _half_open_tries(shared_stack, link) >= 3


def drain_link(stack: Stack, link: Link, timeout: float = 30) -> None:
    """Return when nothing waits for the link's target."""
    stack.wait_for(
        lambda: not {state for state, _ in counts(stack, link)} & {"pending", "sending"}, timeout, "an empty queue"
    )


def _half_open_tries(stack: Stack, link: Link) -> int:
    [(found,)] = stack.sql(
        "SELECT count(*) FROM messaging_attempt a JOIN messaging_delivery d ON d.id = a.delivery_id"
        " JOIN endpoints_system s ON s.id = d.system_id WHERE a.trigger = 'half_open' AND s.slug = ?",
        link.target,
    )
    return int(found)


def test_a_sibling_takes_over_while_a_breaker_is_open(shared_stack: Stack, http_receiver: HttpReceiver) -> None:
    """Nothing waits as long as one endpoint of the interface can be used, also when it is of a higher tier."""
    with HttpReceiver() as spare:
        http_receiver.answer(500)
        link = Link(shared_stack, http_receiver.url, retry_schedule_s=[0.2])
        sibling = {"system": link.target, "name": "spare", "protocol": "http", "host": "127.0.0.1", "path": "/"}
        made = shared_stack.api("POST", "endpoints/", json={**sibling, "port": spare.port, "tier": 1})
        assert made.status_code == 201
        batch(link, 60)
        opened(link)
        drain_link(shared_stack, link)

        assert counts(shared_stack, link) == {("delivered", "sent"): 60}
        assert len(spare.received) == 60


def test_one_hour_of_401_buries_nothing(shared_stack: Stack, http_receiver: HttpReceiver) -> None:
    """However often it is tried meanwhile: an expired password is the endpoint's fault, not the messages'."""
    http_receiver.answer(401)
    link = Link(shared_stack, http_receiver.url, max_attempts=2, retry_schedule_s=[60])
    batch(link, 11)  # 10 of which have one try left
    opened(link)
    for _ in range(4):
        shift(shared_stack, link, 900)
        seen = _half_open_tries(shared_stack, link)
        shared_stack.wait_for(lambda seen=seen: _half_open_tries(shared_stack, link) > seen + 1, 20, "half-open tries")
    assert {state for state, _ in counts(shared_stack, link)} == {"pending"}
    http_receiver.answer(200)
    drain_link(shared_stack, link)

    assert counts(shared_stack, link) == {("delivered", "sent"): 11}


@pytest.mark.parametrize("waiting", [3_000, pytest.param(12_000, marks=pytest.mark.long)])
def test_after_a_long_outage_all_is_delivered_once_beginning_slowly(
    make_stack: MakeStack, http_receiver: HttpReceiver, waiting: int
) -> None:
    """45 minutes down: the first within 2 s of healing, twice as many at a time each second, up to the cap."""
    stack = several(make_stack, 2, CONTROLPLANE_LEASE_S="20")
    http_receiver.answer(503)
    link = Link(stack, http_receiver.url, max_in_flight=32, retry_schedule_s=[600])
    link.until(link.send(), "pending", reason="retrying")
    fill(stack, link, waiting - 1, reason="'new'", due_at="d.created_at", attempts="0", unspent="0")
    opened(link)
    shift(stack, link, 2700)
    held = ("pending", "breaker")
    stack.wait_for(lambda: counts(stack, link).get(held, 0) >= waiting - 1, 60, "all saying breaker")
    seen = len(http_receiver.received)
    http_receiver.wait_for(seen + 2, 20)
    http_receiver.clear()
    meter, healed = Meter(http_receiver, 0.02), time.time()
    first = http_receiver.wait_for(1)[0].at
    drain(stack, 90)
    times = [request.at - first for request in http_receiver.received]
    per_second = [sum(1 for at in times if second <= at < second + 1) for second in range(8)]
    print(f"first after {first - healed:.2f} s; per second {per_second}; most at a time {meter.most}")

    assert first - healed <= 2.0
    assert counts(stack, link) == {("delivered", "sent"): waiting}
    ids = [request.headers["webhook-id"] for request in http_receiver.received]
    assert (len(ids), len(set(ids))) == (waiting, waiting)
    assert 16 < meter.most <= 32
    # One at a time sends at most 50 a second, two 100 ...: never faster, over both processes.
    for second, count in enumerate(per_second[:4]):
        assert count <= 50 * 2 ** (second + 1) + 5, per_second


def test_a_resumed_endpoint_begins_slowly(shared_stack: Stack, http_receiver: HttpReceiver) -> None:
    """What it was paused for may not be over: one in flight, then two, four, eight."""
    link = Link(shared_stack, http_receiver.url, max_in_flight=16)
    scheduled = link.send(deliver_at="2099-01-01T00:00:00Z")
    link.act(f"endpoints/{link.endpoint}/pause/")
    link.until(scheduled, "pending", reason="paused")  # now the engine knows, too
    batch(link, 250)
    http_receiver.clear()
    Meter(http_receiver, 0.05)
    link.act(f"endpoints/{link.endpoint}/resume/")
    http_receiver.wait_for(250, 30)
    times = [request.at for request in http_receiver.received]
    per_second = [sum(1 for at in times if second <= at - times[0] < second + 1) for second in range(4)]

    assert link.delivery(scheduled)["reason"] == "scheduled"
    for second, count in enumerate(per_second[:3]):
        assert count <= 20 * 2 ** (second + 1) + 5, per_second


def test_another_tries_when_the_one_that_tried_was_killed(make_stack: MakeStack, http_receiver: HttpReceiver) -> None:
    """A breaker does not stay half-open for ever."""
    stack = several(make_stack, 1)
    http_receiver.answer(500)
    link = Link(stack, http_receiver.url, retry_schedule_s=[3600], timeout_s=2)
    batch(link, 20)
    opened(link)
    http_receiver.answer(HANG)
    stack.wait_for(lambda: breaker(link)["state"] == "half_open", 20, "a try")
    stack.kill("deliver-0")
    http_receiver.answer(200)
    stack.start("deliver", name="deliver-1")
    drain(stack)

    assert counts(stack, link) == {("delivered", "sent"): 20}


# --- switches ------------------------------------------------------------------


def test_what_waits_is_skipped_when_its_endpoint_is_disabled(shared_stack: Stack) -> None:
    """As what comes afterwards is; enabled again, only new messages are sent. The books balance."""
    link = Link(shared_stack, "http://127.0.0.1:9", retry_schedule_s=[3600])
    batch(link, 3)
    shared_stack.wait_for(lambda: counts(shared_stack, link) == {("pending", "retrying"): 3}, 20, "tries")
    shown = link.act(f"endpoints/{link.endpoint}/disable/")
    assert shown["state"] == "disabled"
    shared_stack.wait_for(lambda: counts(shared_stack, link) == {("skipped", "disabled"): 3}, 20, "being skipped")
    books = shared_stack.api("GET", f"ledger/?system={link.target}").json()
    assert books["balanced"], books

    assert link.act(f"endpoints/{link.endpoint}/enable/")["state"] == "enabled"
    assert link.stack.api("POST", f"endpoints/{link.endpoint}/disable/", json={"why": 1}).status_code == 400


def test_disabling_one_replica_skips_nothing(shared_stack: Stack, http_receiver: HttpReceiver) -> None:
    """Its sibling delivers what waited for both."""
    with HttpReceiver() as other:
        http_receiver.answer(503)
        other.answer(503)
        link = Link(shared_stack, http_receiver.url, retry_schedule_s=[0.5])
        sibling = {"system": link.target, "name": "spare", "protocol": "http", "host": "127.0.0.1", "path": "/"}
        assert shared_stack.api("POST", "endpoints/", json={**sibling, "port": other.port}).status_code == 201
        batch(link, 4)
        link.act(f"endpoints/{link.endpoint}/disable/")
        other.answer(200)
        drain_link(shared_stack, link)

        assert counts(shared_stack, link) == {("delivered", "sent"): 4}


def test_the_emergency_stop_holds_everything_and_says_who_and_why(
    make_stack: MakeStack, http_receiver: HttpReceiver
) -> None:
    """`pause --all`: what is on its way ends, nothing new is sent, messages are taken; `resume --all` ends it."""
    stack = several(make_stack, 2)
    http_receiver.answer(Answer(200, delay_s=0.02))
    link = Link(stack, http_receiver.url, max_in_flight=2)
    batch(link, 500)
    http_receiver.wait_for(5)
    done = stack.command("pause", "--all", "--reason", "wrong prices")
    assert done.returncode == 0, done.stderr
    time.sleep(1.5)  # what was on its way ends, and processes see it within half a second
    seen = len(http_receiver.received)
    late = link.send()
    link.until(late, "pending", reason="paused")
    status = orjson.loads(stack.command("status", "--json").stdout)
    assert seen < 500
    assert len(http_receiver.received) == seen, "sent after the stop"
    assert status["state"] == "degraded"
    assert any("everything is paused" in reason and "wrong prices" in reason for reason in status["reasons"])
    audited = [row["action"] for row in stack.api("GET", "audit/?object_type=emergencystop").json()["results"]]
    assert audited == ["pause"]

    assert stack.command("resume", "--all").returncode == 0
    drain(stack)
    assert counts(stack, link) == {("delivered", "sent"): 501}
    assert len(http_receiver.received) == 501


def test_pause_takes_one_target_and_refuses_none(shared_stack: Stack) -> None:
    assert shared_stack.command("pause").returncode == 2
    assert shared_stack.command("pause", "--all", "some").returncode == 2
    assert shared_stack.command("pause", f"nobody-{uuid4().hex[:6]}").returncode == 2


def test_what_an_open_breaker_held_is_drained_at_a_pace_and_may_be_paused_meanwhile(
    shared_stack: Stack, http_receiver: HttpReceiver
) -> None:
    """Resumed with a rate: tried at once, then no faster, nothing while paused; the pace ends with the queue."""
    link = Link(shared_stack, http_receiver.url, max_in_flight=32)
    http_receiver.answer(500)
    batch(link, 300)
    opened(link)
    http_receiver.answer(200)
    http_receiver.clear()
    link.act(f"endpoints/{link.endpoint}/resume/", {"rate_per_s": 50})
    http_receiver.wait_for(100, 20)
    link.act(f"endpoints/{link.endpoint}/pause/")
    at_rest = {("delivered", "sent"), ("pending", "paused")}
    link.stack.wait_for(lambda: set(counts(link.stack, link)) == at_rest, 10, "the rest to be paused")
    held = len(http_receiver.received)
    paced = breaker(link)["pace_per_s"]
    link.act(f"endpoints/{link.endpoint}/resume/")
    drain_link(link.stack, link)
    link.stack.wait_for(lambda: breaker(link)["pace_per_s"] is None, 10, "the pace to end")
    times = sorted(request.at for request in http_receiver.received)

    assert (paced, held < 200) == (50, True)
    assert len({request.headers["webhook-id"] for request in http_receiver.received}) == len(times) == 300
    most = max(sum(1 for at in times if begin <= at < begin + 1) for begin in times)
    assert most <= 70, f"{most} within a second"
