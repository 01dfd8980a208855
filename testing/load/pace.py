"""When iterations are to start, worked out from the stages alone: pure, in seconds since the beginning."""

from collections.abc import Iterator, Sequence
from math import sqrt

from testing.document.load import Stage

Piece = tuple[float, float, float, float]  # begins at, lasts, level at its beginning, level at its end


def pieces(stages: Sequence[Stage]) -> list[Piece]:
    """Return each stage with its levels; a `to` grows from where the stage before it ended, the first from 0."""
    found, at, level = [], 0.0, 0.0
    for stage in stages:
        found.append((at, stage.for_s, level if stage.ramps else stage.level, stage.level))
        at, level = at + stage.for_s, stage.level
    return found


def level_at(stages: Sequence[Stage], at_s: float) -> float:
    """Return the rate, or the users, there are to be at a moment; 0.0 once it is over."""
    for begins, lasts, first, last in pieces(stages):
        if at_s < begins + lasts:
            return first + (last - first) * (at_s - begins) / lasts
    return 0.0


def arrivals(stages: Sequence[Stage]) -> Iterator[float]:
    """Yield the intended start of each iteration of the open model: evenly spaced at the rate of that moment.

    With the rate growing from a to b over T seconds, a t + (b - a) t^2 / 2T iterations have
    started t seconds in; the n-th starts where that is n.
    """
    owed = 0.0  # what of the next arrival has come together in the stages before
    for begins, lasts, first, last in pieces(stages):
        growth = (last - first) / lasts
        total = (first + last) / 2 * lasts
        number = 0
        while (wanted := number + 1 - owed) <= total + 1e-9:
            yield begins + _reached(first, growth, wanted, lasts)
            number += 1
        owed += total - number


def _reached(first: float, growth: float, wanted: float, lasts: float) -> float:
    """Return after how long so many have started: the smaller root, in the form that does not cancel."""
    below = max(0.0, first * first + 2 * growth * wanted)
    return min(lasts, 2 * wanted / (first + sqrt(below)))
