"""Counts that may be pruned are added up before, a few minutes at a time however many there are."""

from datetime import datetime, timedelta

import pytest

from messaging import store, totals
from messaging.models import Folded, Rollup, Total
from messaging.pace import Pace
from tests.messaging.factories import make_system

pytestmark = pytest.mark.django_db


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[tuple[datetime, datetime]]:
    """The spans that are added up, each in a transaction of its own."""
    spans: list[tuple[datetime, datetime]] = []
    real = store.add_to_totals
    monkeypatch.setattr(store, "add_to_totals", lambda *span: (spans.append(span), real(*span))[1])
    return spans


def count(minutes_ago: int) -> None:
    at = store.now().replace(second=0, microsecond=0) - timedelta(minutes=minutes_ago)
    values = {"count": 1, "total_ms": 2.0}
    Rollup.objects.create(minute=at, system=make_system("crm"), event="took", error_class="1.0", **values)


def total() -> tuple[int, float]:
    return Total.objects.values_list("count", "total_ms").get(event="took")


def test_months_without_anybody_who_folds_are_caught_up_with_in_short_turns(
    turns: list[tuple[datetime, datetime]],
) -> None:
    """Else nobody could write for half a minute, on SQLite. Where nothing happened is passed over."""
    for minutes_ago in (90_000, *range(400, 1000, 7)):
        count(minutes_ago)

    totals.fold()

    assert total() == (87, 174.0)
    assert 2 <= len(turns) < 40
    assert all(until - since <= timedelta(minutes=2**place) for place, (since, until) in enumerate(turns))
    totals.fold()
    assert total() == (87, 174.0)


def test_a_minute_that_may_still_change_is_left(turns: list[tuple[datetime, datetime]]) -> None:
    for minutes_ago in (0, 1, 5):
        count(minutes_ago)

    assert totals.fold_some(Pace.of_minutes())
    assert not totals.fold_some(Pace.of_minutes())

    assert total()[0] == 1
    assert Folded.objects.get().through <= store.now() - totals.OPEN_FOR


def test_the_sweep_goes_on_at_once_while_there_is_more(turns: list[tuple[datetime, datetime]]) -> None:
    for minutes_ago in (5, 100, 5_000):
        count(minutes_ago)
    folder = totals.Folder()

    for _ in range(10):
        folder.step()

    assert total()[0] == 3
    assert len(turns) == 3, "it does not wait for its minute"
