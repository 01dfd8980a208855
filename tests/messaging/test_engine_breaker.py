"""When the breaker opens, lets one be tried, and closes: pure."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from endpoints.models import Breaker
from messaging.engine import breaker

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def failed(row: Breaker, count: int, *, start: float = 0, delivery: UUID | None = None, apart_s: float = 0.1) -> None:
    """Let `count` tries fail, each of another delivery unless one is given."""
    for number in range(count):
        at = after(start + number * apart_s)
        breaker.fail(row, delivery or uuid4(), at, at)


def opened() -> Breaker:
    row = Breaker()
    failed(row, 10, apart_s=0)
    return row


# --- opening -------------------------------------------------------------------


def test_ten_in_a_row_on_different_deliveries_open_it() -> None:
    """Of any class: an expired password holds the queue instead of burying it."""
    row = Breaker()
    failed(row, 9)
    assert row.state == "closed"
    failed(row, 1, start=1)
    assert (row.state, row.opened_at) == ("open", after(1))


def test_one_delivery_that_fails_again_and_again_is_no_row() -> None:
    """Its failures count towards the share of 5 minutes, not towards ten in a row."""
    row = Breaker()
    for number in range(20):
        at = after(number * 40)  # 7 or 8 in any 5 minutes
        breaker.fail(row, UUID(int=1), at, at)

    assert row.state == "closed"


def test_a_success_ends_the_row() -> None:
    row = Breaker()
    for number in range(12):
        at = after(number)
        failed(row, 1, start=number)
        breaker.succeed(row, at, at)

    assert (row.state, row.streak) == ("closed", [])


def test_seven_of_ten_within_five_minutes_open_it() -> None:
    row = Breaker()
    breaker.count(row, breaker.bucket(NOW), 3, 0, NOW)
    failed(row, 6, apart_s=40)
    assert row.state == "closed"
    failed(row, 1, start=240)

    assert row.state == "open"


def test_seventy_percent_of_fewer_than_ten_tries_say_nothing() -> None:
    row = Breaker()
    failed(row, 9, delivery=UUID(int=1))

    assert row.state == "closed"


def test_what_is_older_than_five_minutes_does_not_count() -> None:
    row = Breaker()
    failed(row, 9, delivery=UUID(int=1), apart_s=0)
    failed(row, 1, start=301, delivery=UUID(int=1))

    assert (row.state, sum(entry[1] for entry in row.tries)) == ("closed", 1)


def test_what_was_on_its_way_when_it_opened_or_closed_is_not_spent() -> None:
    """A send that began before says nothing of now: neither of a broken endpoint nor of a healed one."""
    row = opened()
    assert breaker.fail(row, uuid4(), after(-1), after(1)) is False
    breaker.close(row, after(60))
    for _ in range(20):
        assert breaker.fail(row, uuid4(), after(59), after(61)) is False
    breaker.succeed(row, after(59), after(61))

    assert (row.state, row.streak, row.tries) == ("closed", [], [])
    assert breaker.fail(row, uuid4(), after(61), after(62)) is True


# --- half-open -----------------------------------------------------------------


def test_the_pause_between_tries_grows_with_the_outage() -> None:
    """A second at first, 1.5 s after 45 minutes, never more than half a minute."""
    row = opened()
    pauses = [breaker.pause_s(row, after(seconds)) for seconds in (0, 600, 2700, 36_000, 999_999)]

    assert pauses == [1.0, 1.0, 1.5, 20.0, 30.0]


def test_one_is_tried_until_it_is_lost() -> None:
    """Whoever tries may die: then the next may after a while."""
    row = opened()
    assert not breaker.is_ready(row, after(0.5))
    assert breaker.is_ready(row, after(1))
    breaker.begin(row, uuid4(), after(20))
    assert (row.state, breaker.is_ready(row, after(19)), breaker.is_ready(row, after(20))) == ("half_open", False, True)


def test_the_one_that_failed_last_is_tried_again_only_after_a_rest() -> None:
    row = opened()
    last = uuid4()
    breaker.stay_open(row, last, after(5))

    assert (row.state, row.last_failed, row.try_at) == ("open", last, after(6))
    assert (breaker.may_repeat(row, after(14)), breaker.may_repeat(row, after(15))) == (False, True)


def test_a_try_that_said_nothing_is_followed_by_the_next_at_once() -> None:
    row = opened()
    last = row.last_failed
    breaker.begin(row, uuid4(), after(20))
    breaker.stay_open(row, None, after(5))

    assert (row.state, row.last_failed, row.try_at) == ("open", last, after(5))


def test_closing_forgets_what_was() -> None:
    """Nine failures after it closed are nine, and the slow start begins."""
    row = opened()
    breaker.close(row, after(60))
    failed(row, 9, start=61)

    assert (row.state, row.healed_at, row.opened_at, row.try_at) == ("closed", after(60), None, None)


def test_after_healing_the_allowed_doubles_each_second_up_to_the_cap() -> None:
    assert [breaker.allowed(16, seconds) for seconds in (0, 0.9, 1, 2, 3.5, 4, 5, 999)] == [1, 1, 2, 4, 8, 16, 16, 16]
    assert breaker.allowed(5, 2) == 4
    assert breaker.allowed(5, None) == 5
    assert breaker.allowed(1, 0) == 1
