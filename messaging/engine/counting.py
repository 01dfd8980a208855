"""What an end adds to the rollups."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime

from messaging.models import BUCKETS_S, FINAL_STATES, OVER, State
from messaging.store import Counts, Finish


def events(finish: Finish) -> Iterator[tuple[str, str, float]]:
    """Yield (event, error class, ms) of each thing that one end counts as."""
    if finish.state in FINAL_STATES:
        yield finish.state, finish.error_class if finish.state == State.DEAD else "", 0.0
    if finish.attempt:
        took_ms = finish.attempt["took_ms"]
        yield "attempt", finish.error_class, took_ms
        yield "took", _bucket(took_ms / 1000), took_ms


def counts(finishes: Sequence[Finish], now: datetime) -> Counts:
    """Return all that these ends add to the minute of `now`."""
    minute = now.replace(second=0, microsecond=0)
    found: Counts = defaultdict(lambda: (0, 0.0))
    for finish in finishes:
        for event, error_class, took_ms in events(finish):
            count, total_ms = found[minute, finish.system_id, event, error_class]
            found[minute, finish.system_id, event, error_class] = (count + 1, total_ms + took_ms)
    return found


def _bucket(took_s: float) -> str:
    place = bisect_left(BUCKETS_S, took_s)
    return str(BUCKETS_S[place]) if place < len(BUCKETS_S) else OVER
