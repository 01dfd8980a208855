"""How one page of a big list is read: along an index, and never past a bounded number of rows.

A view says which way goes straight to what is asked for (an index that ends with the
list's order). What no index answers is checked row by row, for at most `LOOK` rows a
page: then the page ends there, short or even empty, and its `next` goes on. So every
filter costs about the same, whatever it selects and however much history there is.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import connection
from django.db.models import F, Q, QuerySet

LOOK = 5_000  # rows of one way that are looked at for one page
LOOK_ABROAD = 1_000  # rows of another table, each of which leads to some of the list's
MOST_WAYS = 40  # each costs a query; more are not told apart

Place = tuple[Any, Any]  # value of the ordering field, primary key


def said(condition: Q) -> Q:
    """Return what a query must repeat of a partial index's condition: SQLite wants the words, PostgreSQL infers it.

    Told anyway, PostgreSQL would take it for chosen rows and expect too few.
    """
    return condition if connection.vendor == "sqlite" else Q()


@dataclass(frozen=True, slots=True)
class Order:
    """A total order over a list: a field path, its direction, then the primary key in the same direction."""

    name: str
    path: str
    descending: bool
    nullable: bool = False

    def flipped(self) -> "Order":
        return Order(self.name, self.path, not self.descending, self.nullable)

    def expressions(self, nulls_first: bool) -> list[Any]:
        """Return what to give `order_by`. Nulls stand at one stated end: databases differ in where they put them."""
        key = F(self.path)
        ends: dict[str, bool] = {}
        if self.nullable:
            ends = {"nulls_first": True} if nulls_first else {"nulls_last": True}
        by_field = key.desc(**ends) if self.descending else key.asc(**ends)
        if self.path == "pk":
            return [by_field]
        return [by_field, F("pk").desc() if self.descending else F("pk").asc()]

    def after(self, value: Any, pk: Any, nulls_first: bool) -> Q:
        """Return the rows that stand behind (value, pk).

        The plain bound comes first, since a database can start an index scan from
        it but not from the alternative behind it.
        """
        beyond = "lt" if self.descending else "gt"
        further = Q(**{f"pk__{beyond}": pk})
        if self.path == "pk":
            return further
        nulls = Q(**{f"{self.path}__isnull": True})
        if value is None:
            return (nulls & further) | ~nulls if nulls_first else nulls & further
        rows = Q(**{f"{self.path}__{beyond}e": value}) & (Q(**{f"{self.path}__{beyond}": value}) | further)
        return rows | nulls if self.nullable and not nulls_first else rows

    def until(self, place: Place) -> Q:
        """Return the rows that stand before `place`, and it."""
        value, pk = place
        before = "gte" if self.descending else "lte"
        if self.path == "pk":
            return Q(**{f"pk__{before}": pk})
        return Q(**{f"{self.path}__{before}": value}) & (
            Q(**{f"{self.path}__{before[:2]}": value}) | Q(**{f"pk__{before}": pk})
        )


@dataclass(frozen=True, slots=True)
class Cursor:
    """The row to read on from, and which way."""

    backwards: bool
    value: Any
    pk: Any


@dataclass(frozen=True, slots=True)
class Way:
    """Rows that an index gives in the list's order.

    Either the list's own that pass `condition`, or those of another table, `abroad`,
    whose field `at` holds what our list is ordered by.
    """

    condition: Q = field(default_factory=Q)
    abroad: QuerySet[Any] | None = None
    at: str = ""


@dataclass(frozen=True, slots=True)
class Walk:
    """The ways that lead to all that is asked for, and with `checks` perhaps to more: so looking has an end."""

    ways: Sequence[Way] = (Way(),)
    checks: bool = True


@dataclass(frozen=True, slots=True)
class Found:
    """One page in walking order; `more` lies behind it. `end` is where looking ended, if not at the last row."""

    rows: list[Any]
    more: bool
    end: Place | None = None


@dataclass(frozen=True, slots=True)
class _Look:
    """What one look along a way leads to, and its last place if the way goes on behind it."""

    rows: QuerySet[Any]
    end: Place | None


def read(asked: QuerySet[Any], order: Order, cursor: Cursor | None, size: int, walk: Walk | None) -> Found:
    """Return the next `size` rows of `asked` behind the cursor; with a walk, after a bounded look."""
    backwards = cursor is not None and cursor.backwards
    sorting = order.expressions(backwards)
    behind = Q() if cursor is None else order.after(cursor.value, cursor.pk, backwards)
    if walk is None:
        rows = list(asked.filter(behind).order_by(*sorting)[: size + 1])
        return Found(rows[:size], len(rows) > size)
    bounds = (LOOK, LOOK_ABROAD) if walk.checks else (None, size + 1)
    looker = _Looker(asked, order, cursor, behind, *bounds)
    looks = [looker.along(way) for way in walk.ways]
    if len(looks) == 1:
        rows, end = list(looks[0].rows.order_by(*sorting)[: size + 1]), looks[0].end
    else:
        places, end = _merged(looks, order, size)
        wanted = [pk for _, pk in places]
        rows = list(asked.filter(pk__in=wanted).order_by(*sorting)) if wanted else []
    if len(rows) > size:
        return Found(rows[:size], True)
    return Found(rows, end is not None, end)


@dataclass(frozen=True, slots=True)
class _Looker:
    """Looks along ways from one cursor; at most so many of the list's rows, and of another table's."""

    asked: QuerySet[Any]
    order: Order
    cursor: Cursor | None
    behind: Q
    most: int | None
    most_abroad: int

    def along(self, way: Way) -> _Look:
        if way.abroad is not None:
            return self._abroad(way.abroad, way.at)
        rows = self.asked.filter(way.condition, self.behind)
        if self.most is None:
            return _Look(rows, None)
        own = self.asked.model._default_manager.filter(way.condition, self.behind)
        # By its value alone, so that the index answers without the rows.
        values = own.order_by(f"{self._sign}{self.order.path}").values_list(self.order.path, flat=True)
        ends = list(values[self.most : self.most + 1])
        if not ends:
            return _Look(rows, None)
        end = self._behind_all_with(ends[0])
        return _Look(rows.filter(self.order.until(end)), end)

    def _abroad(self, others: QuerySet[Any], at: str) -> _Look:
        if self.cursor is not None:
            others = others.filter(**{f"{at}__{'lte' if self.order.descending else 'gte'}": self.cursor.value})
        values = list(others.order_by(f"{self._sign}{at}").values_list(at, flat=True)[: self.most_abroad])
        rows = self.asked.filter(self.behind, **{f"{self.order.path}__in": list(dict.fromkeys(values))})
        if len(values) < self.most_abroad:
            return _Look(rows, None)
        return _Look(rows, self._behind_all_with(values[-1]))

    @property
    def _sign(self) -> str:
        return "-" if self.order.descending else ""

    def _behind_all_with(self, value: Any) -> Place:
        """Return the place behind every row with this value of the ordering field."""
        if self.order.path == "pk":
            return value, value
        return value, uuid.UUID(int=0 if self.order.descending else 2**128 - 1)


def _merged(looks: Sequence[_Look], order: Order, size: int) -> tuple[list[Place], Place | None]:
    """Return the first places that the looks lead to together, up to where the first of them ended."""
    nearest = max if order.descending else min
    end = nearest((look.end for look in looks if look.end is not None), default=None)
    places: set[Place] = set()
    for look in looks:
        rows = look.rows if end is None else look.rows.filter(order.until(end))
        places.update(rows.order_by(*order.expressions(False)).values_list(order.path, "pk")[: size + 1])
    return sorted(places, reverse=order.descending)[: size + 1], end
