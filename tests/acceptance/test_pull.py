"""Systems that fetch what they are sent: over the API and with real processes, on both databases."""

import base64
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

import psutil
import pytest
import requests

from tests.acceptance.crashing import PULL_POINTS
from tests.acceptance.inbox import Inbox, PullLink, numbers
from tests.acceptance.ledgers import demand_balance
from tests.stack import Stack, wait_for


@pytest.fixture
def link(shared_stack: Stack) -> PullLink:
    return PullLink(shared_stack)


def audited(link: PullLink) -> list[dict[str, Any]]:
    """Return what the audit says of fetches from the receiver."""
    path = f"audit/?action=fetch&object_type=system&page_size=100&q={link.target}"
    rows = link.stack.api("GET", path).json()["results"]
    return [row for row in rows if row["object_label"] == link.target]


def refusal(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


# --- fetched and acknowledged ------------------------------------------------------


def test_what_is_fetched_and_acknowledged_is_delivered(link: PullLink) -> None:
    """The envelope comes with its payload, the ack ends the delivery at the level of the application."""
    fields = {"payload": {"order": 4711}, "event_type": "order.paid", "headers": {"a": "b"}, "priority": "high"}
    message_id = link.stack.api("POST", "messages/", json=link.message(**fields)).json()["message_id"]
    [fetched] = link.inbox.fetch()
    held = link.delivery(message_id)
    told = link.inbox.ack(fetched)
    ended = link.delivery(message_id)

    message = fetched["message"]
    assert (message["message_id"], message["source_system"]) == (message_id, link.source)
    assert (message["payload"], message["event_type"]) == ({"order": 4711}, "order.paid")
    assert (message["headers"], message["priority"], fetched["attempt"]) == ({"a": "b"}, "high", 1)
    assert held["state"] == "sending"
    assert (told["state"], ended["state"], ended["ack_level"]) == ("delivered", "delivered", "application")
    assert [(row["number"], row["outcome"]) for row in ended["attempt_list"]] == [(1, "delivered")]
    assert ended["endpoint"] == link.endpoint
    assert link.inbox.fetch() == []


def test_any_payload_comes_as_it_was_sent(link: PullLink) -> None:
    """JSON byte for byte, bytes as base64."""
    text = '{"payload": [1e2, 0.10, "\\u00e9"]}'
    link.stack.api("POST", "messages/", data=_raw(link, text), headers={"Content-Type": "application/json"})
    link.stack.api("POST", f"/to/{link.target}", data=b"\x00\xff", headers={"X-Source-System": link.source})
    answer = link.inbox.ask()
    binary = answer.json()["results"][1]["message"]

    assert '"payload":[1e2,0.10,"é"]' in answer.text or '"payload":[1e2,0.10,"\\u00e9"]' in answer.text
    assert (binary["payload"], base64.b64decode(binary["payload_base64"])) == (None, b"\x00\xff")


def _raw(link: PullLink, text: str) -> bytes:
    return f'{{"source_system": "{link.source}", "target_system": "{link.target}", {text[1:]}'.encode()


def test_two_consumers_at_once_get_different_deliveries(link: PullLink) -> None:
    """However many ask at the same moment, each delivery is leased to one of them."""
    link.send_many(400)
    others = [Inbox(link.stack, link.target, link.new_key()) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = [each for fetched in pool.map(lambda inbox: _take_all(inbox), others) for each in fetched]

    assert sorted(numbers(found)) == list(range(400))


def _take_all(inbox: Inbox) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while fetched := inbox.fetch(max=30):
        found += fetched
    return found


def test_higher_priorities_come_first_and_then_who_waited_longest(link: PullLink) -> None:
    low, high = link.send_many(2, priority="low"), link.send_many(2, priority="high")

    assert [each["message"]["message_id"] for each in link.inbox.fetch(max=4)] == [*high, *low]


# --- leases ------------------------------------------------------------------------


def test_an_ack_after_the_lease_went_to_another_is_refused(shared_stack: Stack) -> None:
    """The fence: who lost a lease changes nothing any more, whether it says which one it means or not."""
    link = PullLink(shared_stack, lease_s=1)
    message_id = link.send()
    first, second = link.inbox, Inbox(link.stack, link.target, link.new_key())
    [lost] = first.fetch()
    [found] = second.fetch(wait=20)
    bare = f"{link.stack.url}/api/v1/deliveries/{lost['delivery_id']}/ack/"
    late = [first.say("ack", lost), first.say("nack", lost), first.session.post(bare, timeout=30)]
    second.ack(found)

    assert (lost["attempt"], found["attempt"], found["delivery_id"]) == (1, 2, lost["delivery_id"])
    assert [refusal(answer) for answer in late] == [(409, "lease_lost")] * 3
    assert refusal(first.say("ack", lost)) == (409, "lease_lost")
    tries = link.delivery(message_id)["attempt_list"]
    assert [(row["number"], row["outcome"]) for row in tries] == [(1, "lost"), (2, "delivered")]


def test_a_repeated_word_gets_the_same_answer(link: PullLink) -> None:
    """A consumer whose connection broke may say it again; it counts once."""
    link.send_many(2)
    taken, refused = link.inbox.fetch()
    acks = [link.inbox.ack(taken) for _ in range(3)]
    first = link.inbox.nack(refused, reason="not today", retry_after_s=3000)
    again = link.inbox.nack(refused, reason="not today", retry_after_s=3000)

    assert acks == [acks[0]] * 3
    assert (first["state"], first["reason"], again["state"]) == ("pending", "retrying", "pending")
    assert refusal(link.inbox.say("ack", refused)) == (409, "lease_lost")
    assert len(link.delivery(refused["message"]["message_id"])["attempt_list"]) == 1


def test_fifty_acks_of_one_delivery_at_once_end_it_once(link: PullLink) -> None:
    message_id = link.send()
    [fetched] = link.inbox.fetch()
    with ThreadPoolExecutor(50) as pool:
        statuses = {answer.status_code for answer in pool.map(lambda _: link.inbox.say("ack", fetched), range(50))}

    assert statuses == {200}
    assert len(link.delivery(message_id)["attempt_list"]) == 1


def test_what_is_refused_is_tried_again_and_dies_when_its_tries_are_spent(shared_stack: Stack) -> None:
    """A nack is an attempt like any other: by the schedule of the endpoint, with its reason."""
    link = PullLink(shared_stack, max_attempts=2)
    message_id = link.send()
    for number in (1, 2):
        [fetched] = link.inbox.fetch(wait=20)
        assert fetched["attempt"] == number
        link.inbox.nack(fetched, reason="no such order")
    ended = link.ended(message_id)

    assert (ended["state"], ended["reason"], ended["error_class"]) == ("dead", "exhausted", "nack")
    assert ended["error"] == "no such order"


def test_a_receiver_that_crashes_on_one_message_takes_no_other_with_it(shared_stack: Stack) -> None:
    """Whatever was fetched with it comes again, each alone; the one that kills is buried as poison."""
    link = PullLink(shared_stack, lease_s=1)
    ids = link.send_many(4)
    crashed = link.inbox.fetch(max=4)
    taken: list[int] = []
    deadline = time.monotonic() + 60
    while len(taken) < 3 or link.delivery(ids[2])["state"] in ("pending", "sending"):
        assert time.monotonic() < deadline
        fetched = link.inbox.fetch(max=4, wait=2)
        assert len(fetched) <= 1, "a suspect comes alone"
        for each in fetched:
            if numbers([each]) != [2]:
                link.inbox.ack(each)
                taken += numbers([each])
    poison = link.delivery(ids[2])

    assert sorted(numbers(crashed)) == [0, 1, 2, 3]
    assert sorted(taken) == [0, 1, 3]
    assert (poison["state"], poison["reason"], poison["error_class"]) == ("dead", "poison", "lost")


def test_an_answer_that_nobody_took_is_given_to_others_at_once(shared_stack: Stack) -> None:
    """Who hung up while waiting gets nothing leased; others need not wait out a lease."""
    link = PullLink(shared_stack, lease_s=600)
    with ThreadPoolExecutor(5) as pool:
        for _ in pool.map(lambda _: _hang_up(link), range(5)):
            pass
    link.send_many(3)

    found = link.inbox.fetch(wait=20)
    found += link.inbox.fetch(wait=1) if len(found) < 3 else []
    assert (len(found), {each["attempt"] for each in found}) == (3, {1})


def _hang_up(link: PullLink) -> None:
    path = f"{link.stack.url}/api/v1/systems/{link.target}/inbox/?wait=30"
    with pytest.raises(requests.Timeout):
        requests.get(path, headers={"X-API-Key": link.inbox.key}, timeout=0.3)


# --- waiting -----------------------------------------------------------------------


def test_a_long_poll_wakes_when_a_message_is_committed(link: PullLink) -> None:
    """On one host, within a tenth of a second of its acceptance."""
    late = []
    for _ in range(9):
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(lambda: (link.inbox.fetch(wait=30), time.monotonic()))
            link.stack.wait_for(lambda: asked(link), what="the inbox being asked")
            time.sleep(0.15)  # it is certainly waiting by then, and so is the poll behind the hint
            link.send()
            accepted = time.monotonic()
            [fetched], at = waiting.result()
        late.append(at - accepted)
        link.inbox.ack(fetched)
    print(f"woken after {median(late) * 1000:.0f} ms in the middle, {max(late) * 1000:.0f} ms at most")

    assert median(late) <= 0.1


def asked(link: PullLink) -> bool:
    return bool(link.stack.sql("SELECT 1 FROM endpoints_inbox WHERE endpoint_id = ?", _id(link)))


def _id(link: PullLink) -> str:
    return link.endpoint.replace("-", "") if link.stack.database_url.startswith("sqlite") else link.endpoint


def test_a_wait_that_brings_nothing_ends_empty_and_on_time(link: PullLink) -> None:
    started = time.monotonic()
    found = link.inbox.fetch(wait=1)

    assert found == []
    assert 0.9 <= time.monotonic() - started < 5


def test_many_who_wait_hold_no_threads(make_stack: Callable[..., Stack]) -> None:
    """Two hundred wait at ten inboxes; each message goes to one of them, and the process has no thread more."""
    stack = make_stack()
    pid = stack.start("web")
    stack.start("deliver")
    links = [PullLink(stack) for _ in range(10)]
    links[0].inbox.fetch()
    before = psutil.Process(pid).num_threads()
    with ThreadPoolExecutor(200) as pool:
        waiting = [pool.submit(Inbox(stack, link.target, link.inbox.key).fetch, wait=30) for link in links * 20]
        stack.wait_for(lambda: sum(asked(link) for link in links) == 10, what="all inboxes being asked")
        during = psutil.Process(pid).num_threads()
        for link in links:
            link.send_many(20)
        found = [each for future in waiting for each in future.result()]
        deadline = time.monotonic() + 30
        while len(found) < 200 and time.monotonic() < deadline:
            found += [each for link in links for each in link.inbox.fetch(max=100)]

    assert len({each["delivery_id"] for each in found}) == len(found) == 200
    assert during <= before + 1


def test_a_stop_lets_those_go_who_wait(make_stack: Callable[..., Stack]) -> None:
    """They are answered that there is nothing; the process does not wait for them."""
    stack = make_stack()
    stack.start("web")
    link = PullLink(stack)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(link.inbox.fetch, wait=60)
        stack.wait_for(lambda: asked(link), what="the inbox being asked")
        started = time.monotonic()
        assert stack.terminate("web") == 0

        assert waiting.result() == []
    assert time.monotonic() - started < 6


# --- order, caps and holds ---------------------------------------------------------


def test_deliveries_of_one_key_are_fetched_one_after_the_other(shared_stack: Stack) -> None:
    """Four consumers, refusals and leases that run out: the next of a key is leased once the one before has ended."""
    link = PullLink(shared_stack, lease_s=1)
    for key in "abc":
        link.send_many(12, ordering_key=key)
    taken: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    guard = threading.Lock()

    def consume(number: int) -> None:
        inbox = Inbox(link.stack, link.target, link.new_key())
        deadline = time.monotonic() + 60
        while sum(map(len, taken.values())) < 36 and time.monotonic() < deadline:
            for each in inbox.fetch(max=5, wait=1):
                n, key = each["message"]["payload"]["n"], each["message"]["ordering_key"]
                if each["attempt"] == 1 and n % 4 == 1:
                    inbox.nack(each)
                elif each["attempt"] == 1 and n == 6:
                    pass  # forgotten: its lease runs out
                else:
                    with guard:
                        taken[key].append(n)
                    inbox.ack(each)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(consume, range(4)))

    assert taken == {key: list(range(12)) for key in "abc"}


def test_no_more_is_leased_than_may_be_in_flight(shared_stack: Stack) -> None:
    """The cap of the endpoint counts over all consumers; an ack makes room."""
    link = PullLink(shared_stack, max_in_flight=3)
    link.send_many(5)
    first = link.inbox.fetch(max=10)
    full = link.inbox.fetch(max=10)
    link.inbox.ack(first[0])

    assert (len(first), full, len(link.inbox.fetch(max=10))) == (3, [], 1)


def test_a_rate_holds_over_all_who_fetch(shared_stack: Stack) -> None:
    """Ten a second stay ten a second, however often and by however many it is asked."""
    link = PullLink(shared_stack, rate_per_s=10)
    link.send_many(60)
    started, count = time.monotonic(), 0
    while count < 30:
        count += len(link.inbox.fetch(max=100, wait=5))
    took_s = time.monotonic() - started

    assert 2.2 <= took_s < 12


def test_a_raised_rate_counts_at_once(shared_stack: Stack) -> None:
    link = PullLink(shared_stack, rate_per_s=0.01)
    link.send_many(20)
    assert len(link.inbox.fetch(max=100)) == 1
    shared_stack.api("PATCH", f"endpoints/{link.endpoint}/", json={"rate_per_s": 1000}).raise_for_status()

    fetched: list[Any] = []
    wait_for(lambda: fetched.extend(link.inbox.fetch(max=100, wait=5)) or len(fetched) == 19, 50, "all the others")


HOLDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "the system is paused": ("systems/{target}/pause/", "systems/{target}/resume/", {}),
    "the endpoint is paused": ("endpoints/{endpoint}/pause/", "endpoints/{endpoint}/resume/", {}),
}


@pytest.mark.parametrize("hold", HOLDS)
def test_nothing_is_leased_while_it_is_held(link: PullLink, hold: str) -> None:
    """A pause holds at once, whoever asks; afterwards all of it is there, and no attempt is spent."""
    begin, end, body = HOLDS[hold]
    names = {"target": link.target, "endpoint": link.endpoint}
    message_id = link.send()
    link.act(begin.format(**names), body)
    held = link.inbox.fetch()
    link.until(message_id, "pending", reason="paused")
    link.act(end.format(**names))
    [fetched] = link.inbox.fetch(wait=10)

    assert (held, fetched["attempt"]) == ([], 1)


def test_nothing_is_leased_in_maintenance(link: PullLink) -> None:
    window = {"until": (datetime.now(UTC) + timedelta(hours=1)).isoformat(), "reason": "x"}
    link.stack.api("POST", f"systems/{link.target}/maintenance/", json=window)
    message_id = link.send()
    held = link.inbox.fetch()
    link.until(message_id, "pending", reason="maintenance")
    link.act(f"systems/{link.target}/maintenance/end/")

    assert (held, len(link.inbox.fetch(wait=10))) == ([], 1)


def test_what_is_too_old_is_not_fetched(link: PullLink) -> None:
    message_id = link.send(ttl=0.2)
    ended = link.ended(message_id)

    assert (ended["state"], ended["reason"], link.inbox.fetch()) == ("expired", "ttl", [])


# --- who may -----------------------------------------------------------------------


def test_an_inbox_is_its_systems_and_its_operators(link: PullLink) -> None:
    """A bound key of any role and an operator may; others are told there is none, or which role is missing."""
    link.send_many(3)
    stack, other = link.stack, PullLink(link.stack)
    mine = [
        Inbox(stack, link.target, key) for key in (link.new_key("viewer"), stack.key("operator"), stack.key("admin"))
    ]
    [held] = mine[0].fetch(max=1)
    assert [len(inbox.fetch(max=1)) for inbox in mine[1:]] == [1, 1]

    bound, viewer = Inbox(stack, link.target, other.new_key("admin")), Inbox(stack, link.target, stack.key("viewer"))
    nobody = Inbox(stack, link.target, "cp_x_y")
    assert [refusal(inbox.ask()) for inbox in (bound, viewer, nobody)] == [
        (404, "not_found"),
        (403, "forbidden"),
        (401, "unauthenticated"),
    ]
    assert [refusal(inbox.say("ack", held)) for inbox in (bound, viewer, nobody)] == [
        (404, "not_found"),
        (403, "forbidden"),
        (401, "unauthenticated"),
    ]
    unknown = held | {"delivery_id": "01a1fe9a-585b-7026-bf86-c7f4c694d79b"}  # nobody is told which ones there are
    assert bound.say("ack", held).json()["detail"] == bound.say("ack", unknown).json()["detail"]
    assert refusal(mine[1].say("ack", held)) == (409, "lease_lost")  # it is another's
    assert refusal(Inbox(stack, "nobody", stack.key()).ask()) == (404, "not_found")
    assert refusal(Inbox(stack, link.source, stack.key()).ask()) == (404, "not_found")  # it has no inbox


def test_each_call_that_hands_out_payloads_is_audited_once(link: PullLink) -> None:
    link.inbox.fetch()
    link.send_many(3)
    link.inbox.fetch(max=2)
    link.inbox.fetch()

    changes = [row["changes"]["deliveries"] for row in audited(link)]
    assert sorted(changes) == [[None, 1], [None, 2]]


def test_a_key_that_is_revoked_while_it_waits_gets_nothing(link: PullLink) -> None:
    body = {"name": "short", "role": "viewer", "system": link.target}
    made = link.stack.api("POST", "keys/", json=body).json()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(Inbox(link.stack, link.target, made["key"]).ask, wait=20)
        link.stack.wait_for(lambda: asked(link), what="the inbox being asked")
        link.act(f"keys/{made['id']}/revoke/")
        time.sleep(1)  # the promise of a revocation
        link.send()

        assert refusal(waiting.result()) == (401, "unauthenticated")
    assert len(link.inbox.fetch(wait=5)) == 1


# --- what is said of it ------------------------------------------------------------


def why(link: PullLink, message_id: str) -> str:
    return str(link.stack.api("GET", f"messages/{message_id}/why/").json()["text"])


def test_why_says_that_it_waits_to_be_fetched(shared_stack: Stack) -> None:
    """And when its receiver last asked, who holds it, and what became of a lease."""
    link = PullLink(shared_stack, lease_s=1)
    message_id = link.send()
    never = why(link, message_id)
    [fetched] = link.inbox.fetch()
    held = why(link, message_id)
    link.until(message_id, "pending", reason="retrying")
    lapsed = why(link, message_id)

    assert f"it waits for {link.target} to fetch it, which has never asked for anything yet" in never
    assert "fetched and not yet acknowledged, try 1" in held
    assert f"{link.target} holds it until" in held
    assert f"it waits for {link.target} to fetch it, which last asked" in lapsed
    assert "it fetched it and did not acknowledge it in time once" in lapsed
    assert fetched["attempt"] == 1


def test_a_probe_says_when_it_was_last_asked(link: PullLink) -> None:
    """Nobody ever, or long ago, is down; the one that asks is there."""
    path = f"endpoints/{link.endpoint}/probe/"
    never = link.stack.api("POST", path).json()
    link.inbox.fetch()
    there = link.stack.api("POST", path).json()

    assert (never["ok"], never["error_class"]) == (False, "connect")
    assert (there["ok"], "last asked" in there["detail"]) == (True, True)


# --- bad input ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "query", ["max=0", "max=1001", "max=x", "wait=-1", "wait=61", "wait=nan", "interface=A/B", "limit=3", "max=%00"]
)
def test_a_bad_query_is_named(link: PullLink, query: str) -> None:
    answer = link.inbox.session.get(f"{link.stack.url}/api/v1/systems/{link.target}/inbox/?{query}", timeout=30)

    assert (answer.status_code, answer.json()["status"]) == (400, 400)


@pytest.mark.parametrize(
    ("word", "body"),
    [
        ("ack", b"["),
        ("ack", b"[]"),
        ("ack", b'{"attempt": 0}'),
        ("ack", b'{"attempt": true}'),
        ("ack", b'{"attempt": 99999999999999999999}'),
        ("ack", b'{"unknown": 1}'),
        ("ack", b'{"payload": 1, "payload_base64": "AA=="}'),
        ("ack", b'{"payload_base64": "%"}'),
        ("ack", b'{"payload": "\\u0000"}'),
        ("nack", b'{"reason": 1}'),
        ("nack", b'{"reason": "' + b"x" * 501 + b'"}'),
        ("nack", b'{"retry_after_s": -1}'),
        ("nack", b'{"retry_after_s": "soon"}'),
        ("nack", b'{"payload": 1}'),
    ],
)
def test_a_bad_word_is_refused_and_the_lease_holds(link: PullLink, word: str, body: bytes) -> None:
    link.send()
    [fetched] = link.inbox.fetch()
    path = f"{link.stack.url}/api/v1/deliveries/{fetched['delivery_id']}/{word}/"
    answer = link.inbox.session.post(path, data=body, timeout=30)

    assert (answer.status_code, answer.json()["status"]) == (400, 400)
    assert link.inbox.ack(fetched)["state"] == "delivered"


def test_words_about_what_was_never_fetched_are_refused(link: PullLink) -> None:
    message_id = link.send()
    waiting = {"delivery_id": link.delivery(message_id)["id"], "attempt": 1}
    unknown = {"delivery_id": "01a1fe9a-585b-7026-bf86-c7f4c694d79b", "attempt": 1}

    assert refusal(link.inbox.say("ack", waiting)) == (409, "lease_lost")
    assert refusal(link.inbox.say("ack", unknown)) == (404, "not_found")
    assert refusal(link.inbox.say("ack", {**waiting, "delivery_id": "x"})) == (404, "not_found")


# --- crashes -----------------------------------------------------------------------


@pytest.mark.parametrize("point", PULL_POINTS)
def test_a_web_process_that_dies_between_lease_and_answer_loses_nothing(
    make_stack: Callable[..., Stack], point: str
) -> None:
    """Whatever was leased and not acknowledged comes again when its lease is over; the books balance."""
    stack = make_stack()
    stack.start("web")
    stack.start("deliver")
    link = PullLink(stack, lease_s=2)
    ids = link.send_many(6)
    stack.kill("web")
    stack.start("web", planted=(point, 1))
    taken: list[int] = []
    deadline = time.monotonic() + 90
    while len(set(taken)) < 6 and time.monotonic() < deadline:
        try:
            for each in link.inbox.fetch(max=3, wait=2):
                taken += numbers([each])
                link.inbox.say("ack", each)
        except requests.RequestException:
            if stack.processes["web"].poll() is not None:
                stack.processes.pop("web")
                stack.start("web")
            time.sleep(0.05)
    for message_id in ids:
        assert link.ended(message_id)["state"] == "delivered"

    assert f"crashed {point}" in stack.log("web", 1000)
    demand_balance(stack)
