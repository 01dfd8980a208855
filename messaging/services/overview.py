"""The numbers of the pages: what waits, what died, how much moves. Every query here is bounded.

Rollups answer for the past; the partial indexes answer for what is open, up to `CAP`
rows of each state, oldest first: a page is asked once a second and must stay cheap
with a million rows waiting, and "5,000+" says all that a reader can use.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from django.db.models import Count, Exists, F, Min, OuterRef, Q, QuerySet, Sum

from endpoints.access.principal import Principal
from endpoints.models import EmergencyStop, Endpoint, System, visible
from endpoints.services import emergency_stop
from messaging.liveness import is_alive
from messaging.models import RARE, UNGROUPED, UNSETTLED, Attempt, DeadGroup, Delivery, Process, Reason, Rollup, State
from messaging.services.status import warnings

CAP = 5_000
RECENT_ATTEMPTS = 2_000
MINUTES = 60
LATE_S = 5.0  # what is due for less than this is on its way, not late
SHOWN_EVENTS = ("accepted", "delivered", "dead")
WAITS_BY_PLAN = (Reason.SCHEDULED, Reason.MAINTENANCE)
# Each state in the words of its index.
ALONG = {
    State.PENDING: Q(state=State.PENDING) & UNSETTLED,
    State.SENDING: Q(state=State.SENDING, lease_until__isnull=False),
    State.DEAD: UNGROUPED,
}


@dataclass(frozen=True, slots=True)
class Backlog:
    """Deliveries that share a state, an interface and a reason. `late` of them are overdue."""

    state: str
    system: str
    interface: str
    reason: str
    error_class: str
    count: int
    late: int
    oldest_due_at: datetime
    oldest_created_at: datetime

    @property
    def is_trouble(self) -> bool:
        """Say whether someone should know: it died, it is overdue, or it was tried or held before."""
        if self.state == State.DEAD or self.late:
            return True
        return self.state == State.PENDING and self.reason not in (Reason.NEW, Reason.BLOCKED, *WAITS_BY_PLAN)


@dataclass(frozen=True, slots=True)
class Minute:
    """One minute of traffic."""

    at: datetime
    accepted: int = 0
    delivered: int = 0
    dead: int = 0


@dataclass(frozen=True, slots=True)
class Speed:
    """How one endpoint answered lately, in milliseconds."""

    endpoint_id: str
    label: str
    count: int
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True, slots=True)
class Oldest:
    """The delivery that waits, or lies dead, the longest, and what stopped it."""

    delivery_id: str
    position: int
    target: str
    state: str
    reason: str
    error: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Overview:
    """All that the dashboard shows, as one caller may see it."""

    now: datetime
    backlog: list[Backlog] = field(default_factory=list)
    traffic: list[Minute] = field(default_factory=list)
    slowest: list[Speed] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    oldest_waiting: Oldest | None = None
    oldest_dead: Oldest | None = None
    systems: int = 0
    stop: EmergencyStop | None = None
    warnings: list[str] = field(default_factory=list)

    def total(self, *states: str) -> int:
        """Return how many deliveries are in these states, counted up to the cap."""
        return sum(row.count for row in self.backlog if row.state in states)

    @property
    def accepted(self) -> int:
        return sum(minute.accepted for minute in self.traffic)

    @property
    def delivered(self) -> int:
        return sum(minute.delivered for minute in self.traffic)

    def is_sent_by(self, role: str) -> bool:
        """Say whether a process of this role is alive."""
        return any(process.role == role and is_alive(process, self.now) for process in self.processes)


def overview(principal: Principal, now: datetime) -> Overview:
    """Return the dashboard's numbers as `principal` may see them."""
    ids = _open_ids(principal)
    backlog = _backlog(ids, now, _dead(principal))
    waiting = any(row.state == State.PENDING and row.is_trouble for row in backlog)
    dead = any(row.state == State.DEAD for row in backlog)
    processes = list(Process.objects.filter(stopped_at__isnull=True).order_by("role", "started_at"))
    return Overview(
        now=now,
        backlog=backlog,
        traffic=traffic(principal, now),
        slowest=slowest(principal),
        processes=processes,
        warnings=warnings(now, processes),
        oldest_waiting=_oldest(ids, State.PENDING, now) if waiting else None,
        oldest_dead=_oldest_dead(ids, principal, now) if dead else None,
        systems=System.objects.visible_to(principal).count(),
        stop=emergency_stop(),
    )


def open_backlog(principal: Principal, now: datetime, system: System | None = None) -> list[Backlog]:
    """Return what is pending, sending or dead and unresolved, grouped; at most `CAP` rows of each state are read."""
    return _backlog(_open_ids(principal, system), now, _dead(principal, system))


def _backlog(ids: "Ids", now: datetime, dead: Iterable[Backlog]) -> list[Backlog]:
    late = Q(state=State.PENDING, due_at__lt=now - timedelta(seconds=LATE_S)) & ~Q(reason__in=WAITS_BY_PLAN)
    found: list[Backlog] = list(dead)
    for state in ALONG:
        rows = (
            Delivery.objects.filter(pk__in=ids[state])
            .values_list("state", "system__slug", "interface", "reason", "error_class")
            .annotate(
                count=Count("pk"),
                late=Count("pk", filter=late),
                oldest_due_at=Min("due_at"),
                oldest_created_at=Min("created_at"),
            )
            .order_by("oldest_created_at")
        )
        found.extend(Backlog(*row) for row in rows)
    return found


def _dead(principal: Principal, system: System | None = None) -> list[Backlog]:
    """Return the unresolved dead letters, as their groups count them."""
    groups = DeadGroup.objects.filter(visible(principal, "system__owner"), count__gt=0).order_by()
    if system is not None:
        groups = groups.filter(system=system)
    rows = groups.values_list("system__slug", "interface", "error_class").annotate(Sum("count"), first=Min("first_at"))
    return [Backlog(State.DEAD, slug, door, "", error, count, 0, at, at) for slug, door, error, count, at in rows]


def traffic(principal: Principal, now: datetime, system: System | None = None, minutes: int = MINUTES) -> list[Minute]:
    """Return accepted, delivered and dead per minute, oldest first, without holes."""
    first = now.replace(second=0, microsecond=0) - timedelta(minutes=minutes - 1)
    rows = Rollup.objects.filter(visible(principal, "system__owner"), minute__gte=first, event__in=SHOWN_EVENTS)
    if system is not None:
        rows = rows.filter(system=system)
    counts: dict[datetime, dict[str, int]] = defaultdict(dict)
    for minute, event, count in rows.order_by().values_list("minute", "event").annotate(sum=Sum("count")):
        counts[minute][event] = count
    return [Minute(at, **counts.get(at, {})) for at in (first + timedelta(minutes=i) for i in range(minutes))]


def slowest(principal: Principal, limit: int = 6) -> list[Speed]:
    """Return the endpoints with the highest 95th percentile among the latest attempts."""
    latest = Attempt.objects.order_by("-id").values_list("endpoint_id", "took_ms")[:RECENT_ATTEMPTS]
    times: dict[Any, list[float]] = defaultdict(list)
    for endpoint_id, took_ms in latest:
        times[endpoint_id].append(took_ms)
    seen = Endpoint.objects.visible_to(principal).filter(pk__in=[key for key in times if key])
    speeds = [_speed(endpoint, times[endpoint.pk]) for endpoint in seen.select_related("system")]
    return sorted(speeds, key=lambda speed: -speed.p95_ms)[:limit]


def grouped(backlog: Iterable[Backlog], state: str, *fields: str) -> list[tuple[tuple[str, ...], int, datetime]]:
    """Return (key, count, oldest due) of the rows in `state` by `fields`, largest first."""
    sums: dict[tuple[str, ...], tuple[int, datetime]] = {}
    for row in backlog:
        if row.state != state:
            continue
        key = tuple(getattr(row, name) for name in fields)
        count, oldest = sums.get(key, (0, row.oldest_due_at))
        sums[key] = (count + row.count, min(oldest, row.oldest_due_at))
    return sorted(((key, *value) for key, value in sums.items()), key=lambda item: -item[1])


Ids = dict[State, Any]  # of each state that is open or dead: keys of deliveries, or the query that gives them


def _open_ids(principal: Principal, system: System | None = None) -> Ids:
    """Return at most `CAP` deliveries of each state, the oldest first if of every system.

    A team's: those to its systems, and those from them among the first `CAP` of all.
    """
    first = {state: _first(state, system) for state in ALONG}
    if principal.team_ids is None:
        return {state: rows.values("pk")[:CAP] for state, rows in first.items()}
    own = list(System.objects.visible_to(principal).values_list("pk", flat=True))
    ids: Ids = {}
    for state, rows in first.items():
        received = rows.filter(system__in=own).values_list("pk", flat=True)[:CAP]
        if state == State.DEAD:  # what was sent by them; what was sent to them is counted in its groups
            rows = Delivery.objects.filter(Q(state=state) & RARE).order_by("message_id")
        seen = Delivery.objects.filter(pk__in=rows.values("pk")[:CAP]).visible_to(principal).order_by()
        if state == State.DEAD:
            seen = seen.exclude(system__in=own).filter(resolved_at__isnull=True)
        ids[state] = list({*received, *seen.values_list("pk", flat=True)})
    return ids


def _first(state: State, system: System | None) -> QuerySet[Any]:
    rows = Delivery.objects.filter(ALONG[state]).order_by()
    if system is None:
        return rows if state == State.SENDING else rows.order_by("message_id")
    if state in (State.SENDING, State.DEAD):  # few: checked one by one, not looked for among all of the system's
        return rows.filter(Exists(System.objects.filter(pk=OuterRef("system"), slug=system.slug)))
    if state == State.PENDING:  # in the order of the engine's own index, which is by system
        return Delivery.objects.filter(state=state, system=system).order_by("interface", "-priority", "due_at")
    return rows.filter(system=system)


def _oldest_dead(ids: Ids, principal: Principal, now: datetime) -> Oldest | None:
    """Return the first of the group that was seen first, or what is in no group yet."""
    group = DeadGroup.objects.filter(visible(principal, "system__owner"), count__gt=0).order_by("first_at").first()
    if group is None:
        return _oldest(ids, State.DEAD, now)
    first = Delivery.objects.filter(group_id=group.pk, group__isnull=False, resolved_at__isnull=True)
    return _oldest({State.DEAD: list(first.order_by("message_id").values_list("pk", flat=True)[:1])}, State.DEAD, now)


def _oldest(ids: Ids, state: State, now: datetime) -> Oldest | None:
    rows = Delivery.objects.filter(pk__in=ids[state]).order_by("created_at")
    if state == State.PENDING:
        waits = ~Q(reason=Reason.NEW) | Q(due_at__lt=now - timedelta(seconds=LATE_S))
        rows = rows.filter(waits).exclude(reason__in=WAITS_BY_PLAN)
    row = rows.annotate(slug=F("system__slug")).first()
    if row is None:
        return None
    return Oldest(
        delivery_id=str(row.pk),
        position=row.message_id,
        target=f"{row.slug}/{row.interface}",
        state=row.state,
        reason=row.reason,
        error=row.error or row.error_class.replace("_", " "),
        since=row.finished_at or row.created_at,
    )


def _speed(endpoint: Endpoint, times_ms: list[float]) -> Speed:
    ordered = sorted(times_ms)
    last = len(ordered) - 1
    return Speed(
        endpoint_id=str(endpoint.pk),
        label=str(endpoint),
        count=len(ordered),
        p50_ms=next(islice(ordered, last // 2, None)),
        p95_ms=ordered[min(last, int(len(ordered) * 0.95))],
    )
