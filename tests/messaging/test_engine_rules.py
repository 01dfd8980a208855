"""What the engine decides without asking anybody: when to try again, what an answer means, which endpoint is next."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.models import RETRY_SCHEDULE_S
from endpoints.transports.base import AckLevel, Advice, ErrorClass, Reply, TransportError
from endpoints.transports.outcomes import compile_rules, first_match
from messaging.engine.balance import pick
from messaging.engine.retry import delay_s, throttled_delay_s
from messaging.engine.verdict import Budget, Verdict, judge

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


# --- when to try again ---------------------------------------------------------


def test_the_schedule_is_followed_and_its_last_entry_repeats() -> None:
    """Nine waits for ten attempts by default; whoever allows more waits as long as the last time."""
    waits = [delay_s(attempt, RETRY_SCHEDULE_S, 0.0) for attempt in range(1, 12)]

    assert waits == [*RETRY_SCHEDULE_S, 86400, 86400]


@given(attempt=st.integers(1, 100), jitter=st.floats(-1, 1), asked=st.none() | st.floats(0, 1e9))
def test_a_wait_is_within_a_fifth_of_its_schedule_or_what_was_asked(
    attempt: int, jitter: float, asked: float | None
) -> None:
    """Never shorter than the receiver asked for, up to an hour, and never without end."""
    wait = delay_s(attempt, RETRY_SCHEDULE_S, jitter, asked)
    planned = RETRY_SCHEDULE_S[min(attempt, 9) - 1]

    assert wait >= max(planned * 0.8 - 1e-6, min(asked or 0.0, 3600.0))
    assert wait <= max(planned * 1.2 + 1e-6, 3600.0)


@given(jitter=st.floats(-1, 1), asked=st.none() | st.floats(-10, 1e9))
def test_a_throttled_wait_is_never_shorter_than_asked(jitter: float, asked: float | None) -> None:
    """Half a minute where nothing was asked, an hour at most, and a second's spread on top."""
    wait = throttled_delay_s(asked, jitter)
    low = 30.0 if asked is None else min(max(asked, 0.0), 3600.0)

    assert low <= wait <= low + 1


# --- what an answer means --------------------------------------------------------


def reply(status: int = 200, body: bytes = b"") -> Reply:
    return Reply(AckLevel.APPLICATION, 1.0, status, body=body)


def failed(error_class: ErrorClass, advice: Advice = Advice.RETRY, **more: Any) -> TransportError:
    return TransportError("it failed", error_class=error_class, advice=advice, **more)


def verdict(
    result: Reply | TransportError,
    *,
    attempts: int = 0,
    max_attempts: int = 10,
    since: datetime | None = None,
    outcomes: list[Any] | None = None,
) -> Verdict:
    budget = Budget(attempts, max_attempts, since)
    ruled = first_match(compile_rules(outcomes or []), result)
    return judge(result, ruled, budget, [5, 30], NOW, 0.0)


def brief(found: Verdict) -> tuple[str, str, str, str, bool]:
    return (found.outcome, found.state, found.reason, found.error_class, found.is_spent)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (reply(), ("delivered", "delivered", "sent", "", True)),
        (failed(ErrorClass.CONNECT), ("retry", "pending", "retrying", "connect", True)),
        (failed(ErrorClass.AUTH), ("retry", "pending", "retrying", "auth", True)),
        (failed(ErrorClass.PROTOCOL, Advice.DEAD), ("dead", "dead", "refused", "protocol", True)),
        (failed(ErrorClass.CLIENT_ERROR, Advice.GONE), ("dead", "dead", "refused", "client_error", True)),
        (failed(ErrorClass.BLOCKED_ADDRESS, Advice.DEAD), ("dead", "dead", "address", "blocked_address", True)),
        (failed(ErrorClass.TRANSFORM, Advice.DEAD), ("dead", "dead", "transform", "transform", True)),
        (failed(ErrorClass.THROTTLED, Advice.THROTTLED), ("throttled", "pending", "throttled", "throttled", False)),
    ],
)
def test_each_advice_has_one_meaning(result: Reply | TransportError, expected: tuple[Any, ...]) -> None:
    assert brief(verdict(result)) == expected


def test_the_last_attempt_that_fails_is_the_end() -> None:
    """`max_attempts` counts spent attempts, this one included."""
    error = failed(ErrorClass.SERVER_ERROR)

    assert verdict(error, attempts=8).state == "pending"
    assert brief(verdict(error, attempts=9)) == ("retry", "dead", "exhausted", "server_error", True)
    assert verdict(error, max_attempts=1).reason == "exhausted"


def test_a_wait_after_a_failure_follows_the_schedule_and_what_was_asked() -> None:
    assert verdict(failed(ErrorClass.SERVER_ERROR)).delay_s == 5
    assert verdict(failed(ErrorClass.SERVER_ERROR), attempts=1).delay_s == 30
    assert verdict(failed(ErrorClass.SERVER_ERROR, retry_after_s=120)).delay_s == 120


def test_only_gone_pauses_the_endpoint() -> None:
    assert verdict(failed(ErrorClass.CLIENT_ERROR, Advice.GONE)).is_gone
    assert not verdict(failed(ErrorClass.CLIENT_ERROR, Advice.DEAD)).is_gone


def test_throttling_ends_after_three_days() -> None:
    """It spends nothing, so it needs an end of its own; the clock starts with the first 429 in a row."""
    error = failed(ErrorClass.THROTTLED, Advice.THROTTLED, retry_after_s=60)

    assert verdict(error).throttled_since == NOW
    assert verdict(error, since=NOW - timedelta(hours=71)).state == "pending"
    assert verdict(error, since=NOW - timedelta(hours=73)).reason == "exhausted"
    assert verdict(failed(ErrorClass.CONNECT), since=NOW - timedelta(hours=71)).throttled_since is None


def test_the_first_rule_that_matches_overrides_the_table() -> None:
    """A rule may turn a failure into a delivery and an answer into a failure."""
    outcomes = [
        {"when": {"status": {"eq": 409}}, "is": "delivered"},
        {"when": {"body.$.ok": {"eq": False}}, "is": "retry"},
        {"when": {"status": {"eq": 200}}, "is": "dead"},
        {"when": {"error.class": {"eq": "timeout"}}, "is": "dead"},
    ]
    conflict = failed(ErrorClass.CLIENT_ERROR, Advice.DEAD, reply=reply(409))

    assert brief(verdict(conflict, outcomes=outcomes)) == ("delivered", "delivered", "sent", "", True)
    assert brief(verdict(reply(200, b'{"ok":false}'), outcomes=outcomes))[:4] == (
        *("retry", "pending", "retrying"),
        "nack",
    )
    assert brief(verdict(reply(200, b'{"ok":true}'), outcomes=outcomes))[:3] == ("dead", "dead", "refused")
    assert brief(verdict(failed(ErrorClass.TIMEOUT), outcomes=outcomes))[:3] == ("dead", "dead", "refused")
    assert brief(verdict(reply(201), outcomes=outcomes))[:2] == ("delivered", "delivered")


def test_many_rules_over_a_long_answer_take_little() -> None:
    """A body is read once, and looked through as far as it pays; what was not found by then counts as not there."""
    body = b"[" + b",".join(b'{"a":%d}' % n for n in range(60_000)) + b"]"
    rules = [{"when": {f"body.$..id{n}": {"exists": True}}, "is": "dead"} for n in range(48)]
    rules += [{"when": {"body.$[59999].a": {"eq": 59999}}, "is": "retry"}]
    begun = time.process_time()

    assert first_match(compile_rules(rules[-1:]), reply(200, body)) == "retry"
    assert first_match(compile_rules(rules), reply(200, body)) in ("retry", None)
    assert time.process_time() - begun < 4


# --- which endpoint is next --------------------------------------------------------


@dataclass
class Replica:
    """An endpoint as a balancing policy sees it."""

    name: str
    tier: int = 0
    weight: int = 1
    in_flight: int = 0
    sent: int = 0

    def room(self) -> int:
        return 2 - self.in_flight


def picked(replicas: list[Replica], policy: str, count: int) -> str:
    """Return the names picked for `count` sends that end at once."""
    names = ""
    for _ in range(count):
        found = pick(replicas, policy)
        assert found is not None
        found.sent += 1
        names += found.name
    return names


def test_round_robin_takes_turns() -> None:
    assert sorted(picked([Replica("a"), Replica("b"), Replica("c")], "round_robin", 9)) == list("aaabbbccc")


def test_weights_share_in_proportion() -> None:
    names = picked([Replica("a", weight=3), Replica("b")], "weighted", 40)

    assert (names.count("a"), names.count("b")) == (30, 10)


def test_the_least_busy_is_next() -> None:
    found = pick([Replica("a", in_flight=1), Replica("b")], "least_in_flight")

    assert found is not None
    assert found.name == "b"


def test_failover_stays_with_the_first_that_is_free() -> None:
    assert picked([Replica("a"), Replica("b")], "failover", 5) == "aaaaa"
    found = pick([Replica("a", in_flight=2), Replica("b")], "failover")
    assert found is not None
    assert found.name == "b"


@pytest.mark.parametrize("policy", ["round_robin", "weighted", "least_in_flight", "failover"])
def test_no_policy_exceeds_a_cap_or_leaves_its_tier(policy: str) -> None:
    """A full tier waits; the next one is for when no endpoint of this one can be used."""
    full = [Replica("a", in_flight=2), Replica("b", in_flight=2), Replica("c", tier=1)]

    assert pick(full, policy) is None
    assert pick(full[2:], policy) is full[2]
    assert pick(full[:1], policy) is None
