"""When an incident opens, resolves and comes back, and which speaks for which: pure, every case a row."""

from datetime import UTC, datetime, timedelta

import pytest

from messaging.liveness import deaths
from messaging.models import Process
from messaging.monitor import judgement
from messaging.monitor.families import Bond, Member, ancestors, bond
from messaging.monitor.judgement import Limits, Trouble

NOW = datetime(2026, 1, 2, 3, 0, tzinfo=UTC)
LIMITS = Limits(settle_s=30, reopen_s=3600)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def trouble(cause: str = "breaker", detail: str = "it fails") -> dict[str, Trouble]:
    return {cause: Trouble(cause, NOW, detail)}


# --- one incident --------------------------------------------------------------


def test_a_cause_that_comes_and_goes_is_listed_once() -> None:
    """Seven hundred flaps are one line that says so, not seven hundred lines."""
    causes: list[judgement.Cause] = []
    for second in range(0, 1400, 2):
        causes = judgement.follow(causes, trouble(), (), at(second))
        causes = judgement.follow(causes, {}, (), at(second + 1))

    [entry] = causes
    assert (entry["times"], entry["since"], entry["until"]) == (700, NOW.isoformat(), at(1399).isoformat())


def test_a_cause_that_cannot_be_seen_is_not_over() -> None:
    """While nothing is sent to a paused endpoint, that nothing is late there is no news."""
    causes = judgement.follow([], trouble("late"), (), NOW)

    assert judgement.follow(causes, {}, ("late",), at(5))[0]["until"] is None
    assert judgement.follow(causes, {}, (), at(5))[0]["until"] == at(5).isoformat()


def test_it_resolves_once_every_cause_was_over_for_the_settle_time() -> None:
    """The one that ended last counts; a new cause starts the waiting again."""
    causes = judgement.follow([], trouble("breaker") | trouble("late"), (), NOW)
    causes = judgement.follow(causes, trouble("late"), (), at(10))
    causes = judgement.follow(causes, {}, (), at(20))

    assert not judgement.is_over(causes, 0, LIMITS, at(49))
    assert judgement.is_over(causes, 0, LIMITS, at(50))
    assert not judgement.is_over(judgement.follow(causes, trouble("dead"), (), at(49)), 0, LIMITS, at(60))


@pytest.mark.parametrize(("returns", "settles_s"), [(0, 30), (1, 300), (2, 600), (3, 1200), (5, 3600), (400, 3600)])
def test_what_came_back_has_to_be_well_for_longer(returns: int, settles_s: float) -> None:
    """A flapping endpoint is told of a few times: each time it settles longer, up to an hour."""
    assert judgement.settle_s(returns, LIMITS) == settles_s


@pytest.mark.parametrize(("after_s", "same"), [(3599, True), (3600, False)])
def test_what_breaks_again_soon_is_the_same_incident(after_s: float, same: bool) -> None:
    assert judgement.comes_back(NOW, LIMITS, at(after_s)) is same


@pytest.mark.parametrize("period_s", [2, 20, 61, 130, 480, 900, 2400])
def test_an_endpoint_that_flaps_for_a_day_is_told_of_a_few_times(period_s: int) -> None:
    """Whatever the rhythm: broken for a tenth of it, well for the rest."""
    told, opened, resolved_at, returns = 0, False, None, 0
    causes: list[judgement.Cause] = []
    for second in range(0, 86_400, 2):
        now = at(second)
        is_broken = second % period_s < max(2, period_s / 10)
        if is_broken and not opened:
            is_same = resolved_at is not None and judgement.comes_back(resolved_at, LIMITS, now)
            returns = returns + 1 if is_same else 0
            causes, opened, told = causes if is_same else [], True, told + 1
        causes = judgement.follow(causes, trouble() if is_broken else {}, (), now)
        if opened and judgement.is_over(causes, returns, LIMITS, now):
            opened, resolved_at, told = False, now, told + 1

    assert told <= 12


def test_the_summary_names_what_is_broken_now() -> None:
    causes = judgement.follow([], trouble("breaker", "answered 500") | trouble("late", "6 min"), (), NOW)
    causes = judgement.follow(causes, trouble("late", "6 min"), (), at(5))

    assert judgement.summary("erp/orders", causes) == "erp/orders is behind: 6 min"


# --- families ------------------------------------------------------------------


def member(id: str, second: float = 0, **fields: object) -> Member:
    return Member(**{"id": id, "opened_at": at(second), "is_open": True, "system_id": 1, "owner_id": 7} | fields)  # type: ignore[arg-type]


def test_one_broken_host_is_one_family() -> None:
    """The first that opened speaks; of two that opened at once, one."""
    first, second = member("a", host="h"), member("b", host="h", system_id=2)

    assert bond(second, [first], {}) == Bond("a", "host")
    assert bond(first, [second], {}) is None


def test_a_host_speaks_only_within_one_team() -> None:
    """Another team's people would not be told, so they hear of their own."""
    assert bond(member("b", 1, host="h", owner_id=8), [member("a", host="h")], {}) is None


def test_what_others_depend_on_speaks_for_them_whichever_opened_first() -> None:
    """By however many steps, and for another team too; not once it healed, nor the other way round."""
    above = ancestors([(1, 2), (2, 3)])
    shop, database = member("shop"), member("database", 5, system_id=3, owner_id=9)

    assert bond(shop, [database], above) == Bond("database", "dependency")
    assert bond(database, [shop], above) is None
    assert bond(shop, [member("database", 5, system_id=3, is_open=False)], above) is None


def test_systems_that_depend_on_each_other_are_no_trouble() -> None:
    assert ancestors([(1, 2), (2, 1), (2, 3)]) == {1: {2, 3}, 2: {1, 3}}


def test_what_is_late_because_nobody_sends_stands_behind_the_process() -> None:
    """A dead `deliver` makes everything late: that is one thing to tell, not fifty."""
    process = member("p", 5, system_id=None, owner_id=None, sends=True)

    assert bond(member("a", causes=frozenset({"late"})), [process], {}) == Bond("p", "process")
    assert bond(member("a", causes=frozenset({"late", "breaker"})), [process], {}) is None


# --- processes -----------------------------------------------------------------


def process(restarts: int, started_s: float) -> Process:
    return Process(role="deliver", host="h", restarts=restarts, started_at=at(started_s), seen_at=at(started_s))


@pytest.mark.parametrize(
    ("rows", "died"),
    [
        ([process(0, -5000)], 0),
        ([process(0, -5000), process(1, -30)], 1),
        ([process(0, -500), process(1, -60), process(2, -30), process(3, -5)], 3),
        ([process(0, -5000), process(4, -5)], 4),  # those in between died before their first beat
        ([process(7, -5000), process(8, -30)], 1),  # seven times over a month is no news
    ],
)
def test_deaths_of_the_last_minutes_are_counted(rows: list[Process], died: int) -> None:
    assert deaths(rows, NOW) == died
