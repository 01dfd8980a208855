"""A span of time is a span of a list: positions, and the ids of attempts, grow as the clock does."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models import Q

from endpoints.edge.walks import Way
from endpoints.ids import first_id_at
from messaging.models import Message

Given = Mapping[str, Any]  # the parsed values by the names of the filters

# How far the clock may have been set back, for nothing to be missed.
CLOCK_STEP = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Span:
    """The part of a list, in its own order, in which everything asked for lies; with `nowhere`, there is none."""

    path: str = ""
    low: Any = None
    high: Any = None
    nowhere: bool = False

    def at(self, path: str) -> Q:
        """Return the span as a condition on `path`."""
        bounds = {"gte": self.low, "lte": self.high}
        return Q(**{f"{path}__{side}": bound for side, bound in bounds.items() if bound is not None})

    def within(self, ways: Iterable[Way]) -> list[Way]:
        """Return the parts of `ways` in the span."""
        if self.nowhere:
            return []
        return [
            Way(way.condition & self.at(self.path))
            if way.abroad is None
            else Way(abroad=way.abroad.filter(self.at(way.at)), at=way.at)
            for way in ways
        ]


EVERYTHING = Span()


def positions_in(given: Given, path: str) -> Span:
    """Return the positions of what was accepted in the time asked for; nothing ends before it is accepted."""
    low = high = None
    if "created_after" in given:
        since = Message.objects.filter(created_at__gte=given["created_after"] - CLOCK_STEP)
        low = since.order_by("created_at", "position").values_list("position", flat=True).first()
        if low is None:
            return Span(nowhere=True)
    ends = [given[name] for name in ("created_before", "finished_before") if name in given]
    if ends:
        until = Message.objects.filter(created_at__lt=min(ends) + CLOCK_STEP)
        high = until.order_by("-created_at", "-position").values_list("position", flat=True).first()
        if high is None:
            return Span(nowhere=True)
    return Span(path, low, high)


def ids_in(given: Given) -> Span:
    """Return the ids of attempts that started in the time asked for: an id carries when its attempt did."""
    low, high = given.get("started_after"), given.get("started_before")
    return Span("pk", low and first_id_at(low - CLOCK_STEP), high and first_id_at(high + CLOCK_STEP))


def ended_in(given: Given) -> Span:
    """Return the times of ending asked for, of a list in their order."""
    return Span("finished_at", given.get("finished_after"), given.get("finished_before"))
