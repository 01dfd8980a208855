"""Which deliveries a job is for: what its filter finds of those its action applies to, in order of position."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from operator import or_
from typing import Any

from django.db.models import Count, Q, QuerySet

from endpoints.access.principal import Principal
from endpoints.edge.filters import parsed_lists, read
from endpoints.edge.walks import Cursor, Order, Walk, Way
from endpoints.edge.walks import read as read_along
from messaging import store, walks
from messaging.filters import DELIVERIES
from messaging.jobs.actions import ACTIONS, Action
from messaging.jobs.ahead import Ahead, place_of
from messaging.jobs.keys import KeySelection
from messaging.models import Delivery, Job, JobAction

ORDER = Order("created_at", "message_id", descending=False)
LOOK = 5_000  # rows of one way that are looked at while somebody waits
Lists = Mapping[str, list[str]]


@dataclass(frozen=True, slots=True)
class Selection:
    """What an action is to be done to: by a filter, for who may see it, of what there was at a moment."""

    action: Action
    filter: Lists
    principal: Principal
    upto: int
    before: datetime

    def rows(self) -> QuerySet[Any]:
        """Return the deliveries; raises Malformed for a filter that does not parse."""
        found = Delivery.objects.visible_to(self.principal)
        conditions = parsed_lists(DELIVERIES, self.filter, lambda one, given: one.condition(read(one, given)))
        for condition in conditions.values():
            found = found.filter(condition)
        return found.filter(self.action.allowed(self.before), message_id__lte=self.upto)

    def ahead(self, place: str, count: int) -> Ahead:
        """Return up to `count` deliveries behind `place`: along an index, after a bounded look."""
        at = place.split(":") if place else None
        cursor = Cursor(backwards=False, value=int(at[0]), pk=uuid.UUID(at[1])) if at else None
        asked = self.rows().values_list("message_id", "pk", named=True)
        found = read_along(asked, ORDER, cursor, count, self._walk())
        rows, end = [(row.message_id, row.pk) for row in found.rows], found.end
        if rows and self.action.whole_messages:
            position, pk = rows[-1]
            same = asked.filter(message_id=position, pk__gt=pk).order_by("pk")
            rows += [(position, other) for other in same.values_list("pk", flat=True)]
        if end is None:
            end = rows[-1] if rows else (self.upto, uuid.UUID(int=0))
        return Ahead(rows, place_of(*end), found.more and end[0] <= self.upto)

    def count(self, most: int | None) -> int:
        """Return how many there are, counting no further than `most`."""
        rows = self._along_index(self._walk())
        return rows.count() if most is None else rows[:most].count()

    def examples(self, number: int) -> list[Delivery]:
        """Return the first ones, with what they are shown with."""
        found = read_along(self.rows(), ORDER, None, number, self._walk())
        shown = Delivery.objects.filter(pk__in=[row.pk for row in found.rows]).select_related(
            "message", "source", "system"
        )
        return list(shown.defer("message__payload").order_by("message_id", "pk"))

    def states(self, most: int) -> tuple[dict[str, int], bool]:
        """Return how many of the first `most` are in which state, and whether a bounded look saw them all.

        It ends after `most` rows of each way where an index answers the filter, else after LOOK.
        """
        own = walks.deliveries(parsed_lists(DELIVERIES, self.filter, read), self.principal, ORDER)
        walk, look = (self._walk(), LOOK) if own.checks else (own, most)
        ends: list[int] = []
        for way in walk.ways:
            rows, at = _of(way)
            ends += rows.order_by(at).values_list(at, flat=True)[look : look + 1]
        place = min(ends, default=None)
        counts = {str(state): Count("pk", filter=Q(state=state)) for state in self.action.states}
        with store.by_probes():  # for the payloads that may be gone; not by reading all messages there are
            found = self._along_index(walk, place)[:most].aggregate(**counts)
        return {state: count for state, count in found.items() if count}, place is None

    def _walk(self) -> Walk:
        given = parsed_lists(DELIVERIES, self.filter, read)
        # The states an action is for lead to its rows by index, where the filter names none.
        return walks.deliveries({"state": list(self.action.states), **given}, self.principal, ORDER)

    def _along_index(self, walk: Walk, place: int | None = None) -> QuerySet[Any]:
        """Return the rows up to a place, in the words that let a database find them by the index that leads to them."""
        found = []
        for way in walk.ways:
            rows, at = _of(way)
            bounded = rows.order_by() if place is None else rows.filter(**{f"{at}__lte": place}).order_by()
            found.append(way.condition if way.abroad is None else Q(message_id__in=bounded.values(at)))
        if not found:
            return self.rows().none()
        rows = self.rows().filter(reduce(or_, found)).order_by()
        return rows if place is None else rows.filter(message_id__lte=place)


def _of(way: Way) -> tuple[QuerySet[Any], str]:
    """Return the rows that a way leads along, and which of their fields is a position."""
    if way.abroad is None:
        return Delivery.objects.filter(way.condition), "message_id"
    return way.abroad, way.at


# Actions on something else than deliveries that a filter finds.
OTHERS = {JobAction.INDEX: KeySelection}


def selection_of(job: Job) -> Selection | KeySelection:
    """Return what a job is for."""
    if other := OTHERS.get(JobAction(job.action)):
        return other(job, principal_of(job))
    return Selection(ACTIONS[job.action], job.filter, principal_of(job), job.upto, job.created_at)


def principal_of(job: Job) -> Principal:
    """Return who a job acts for: whoever made it, and sees what they saw then."""
    teams = None if job.team_ids is None else frozenset(job.team_ids)
    return Principal(label=job.created_by, role="operator", via="job", team_ids=teams)
