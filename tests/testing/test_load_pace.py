"""The arithmetic of load: when iterations start, and that measures add up."""

import random
from itertools import pairwise

import pytest

from testing.document.load import Stage
from testing.load.judging import measured
from testing.load.pace import arrivals, level_at
from testing.load.tally import Latencies, Tally


@pytest.mark.parametrize(
    ("stages", "count"),
    [
        ([Stage(10, 200, False)], 2000),
        ([Stage(10, 200, True)], 1000),
        ([Stage(10, 200, True), Stage(60, 200, False), Stage(10, 0, True)], 14_000),
        ([Stage(1.5, 1, False), Stage(1.5, 1, False)], 3),
        ([Stage(5, 0, False)], 0),
        ([Stage(0.3, 1, False)], 0),
        ([Stage(100, 0.05, False)], 5),
    ],
)
def test_arrivals_are_as_many_as_the_area_below_the_rate(stages: list[Stage], count: int) -> None:
    """They come in order, and none after the end."""
    found = list(arrivals(stages))

    assert abs(len(found) - count) <= 1
    assert all(before <= after for before, after in pairwise(found))
    assert not found or found[-1] <= sum(stage.for_s for stage in stages) + 1e-6


def test_a_steady_rate_is_evenly_spaced_across_stages() -> None:
    """Where one stage ends in the middle of a gap, the next goes on with it."""
    found = list(arrivals([Stage(0.25, 10, False), Stage(0.25, 10, False), Stage(1, 10, False)]))

    assert [round(after - before, 6) for before, after in pairwise(found)] == [0.1] * (len(found) - 1)


def test_a_ramp_is_at_its_level_in_every_second() -> None:
    """From 0 to 1,000/s over ten seconds: the n-th second has its share, and the level grows with it."""
    found = list(arrivals([Stage(10, 1000, True)]))
    seconds = [sum(second <= at < second + 1 for at in found) for second in range(10)]

    assert all(abs(count - (100 * second + 50)) <= 1 for second, count in enumerate(seconds))
    assert level_at([Stage(10, 1000, True)], 5) == 500


def test_four_shards_have_the_percentiles_of_the_whole() -> None:
    """Written down, read again and added: within 1 % of what the sorted values say, and of one histogram of all."""
    shuffled = random.Random(7)
    values = [int(shuffled.lognormvariate(9, 1.2)) + 1 for _ in range(40_000)]
    whole, merged = Latencies(), Tally()
    whole.take(values)
    for shard in range(4):
        tally = Tally()
        tally.response.take(values[shard::4])
        tally.done = len(values[shard::4])
        tally.errors["timeout"] = shard
        merged.add(Tally.of(tally.plain()))

    assert (merged.done, merged.failed, merged.response.count) == (40_000, 6, 40_000)
    ordered = sorted(values)
    for p in (50, 90, 95, 99, 99.9, 100):
        exact = ordered[min(int(len(ordered) * p / 100), len(ordered) - 1)] / 1000
        assert merged.response.p_ms(p) == whole.p_ms(p)
        assert merged.response.p_ms(p) == pytest.approx(exact, rel=0.01)
    assert merged.response.min_ms() == pytest.approx(ordered[0] / 1000, rel=0.01)
    assert merged.response.mean_ms() == pytest.approx(sum(ordered) / len(ordered) / 1000, rel=0.01)


@pytest.mark.parametrize("metric", ["errors", "errors.timeout"])
def test_one_error_of_very_many_is_not_none(metric: str) -> None:
    tally = Tally()
    tally.done, tally.errors["timeout"] = 2_000_000, 1

    assert measured(tally, 60, metric, "rate") == 5e-07


def test_an_empty_shard_changes_nothing() -> None:
    whole = Latencies()
    whole.take([5000])
    whole.add(Latencies())

    assert (whole.count, whole.min_ms(), whole.percentiles_ms([50])) == (1, 5.0, {50: pytest.approx(5.0, rel=0.01)})
    assert Latencies().percentiles_ms([99]) == {}
