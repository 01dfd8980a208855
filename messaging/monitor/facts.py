"""What incidents are judged by: breakers, what is late, what died, what is gone, our own processes. Reads only."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from django.db.models import Count, Q, Sum

from endpoints.models import (
    Breaker,
    BreakerState,
    EmergencyStop,
    Endpoint,
    EndpointState,
    Incident,
    Maintenance,
    Notice,
    NoticeState,
    System,
    SystemState,
)
from messaging import store
from messaging.conf import GONE
from messaging.liveness import DYING_RESTARTS, DYING_WITHIN, deaths, is_alive
from messaging.models import RARE, Delivery, Process, Rollup, State
from messaging.monitor.families import ancestors
from messaging.monitor.judgement import Limits, Trouble

DEAD_WITHIN = timedelta(minutes=10)
MOST_COUNTED = 5_000
MISSED_AFTER = timedelta(seconds=60)  # a restart may take half of it
DISABLED, RETIRED, REMOVED = "it was disabled", "its system was retired", "it was removed"

Interface = tuple[int, str]  # system id, name
Troubles = dict[str, dict[str, Trouble]]  # by subject and cause


@dataclass(frozen=True, slots=True)
class Subject:
    """What an incident is about."""

    name: str  # as in Incident.subject
    label: str
    endpoint: Endpoint | None = None
    quiet: str = ""  # why nobody is told: paused | maintenance | dependency
    is_held: bool = False  # nothing is sent to it at present, so what is late cannot be seen
    ended: str = ""  # why there is nothing to judge any more


@dataclass(slots=True)
class Facts:
    """All that one judgement looks at."""

    troubles: Troubles = field(default_factory=lambda: defaultdict(dict))
    subjects: dict[str, Subject] = field(default_factory=dict)
    above: dict[int, set[int]] = field(default_factory=dict)
    known: dict[str, set[str]] = field(default_factory=dict)  # subjects with an open incident, and its causes

    def add(self, subject: str, trouble: Trouble) -> None:
        self.troubles[subject][trouble.cause] = trouble


def is_all_settled() -> bool:
    """Say, cheaply, that no breaker is open, no incident unsettled, no notice waiting."""
    return not (
        Breaker.objects.exclude(state=BreakerState.CLOSED).exists()
        or Incident.objects.filter(Q(resolved_at__isnull=True)).order_by().exists()
        or Incident.objects.filter(told_opened_at__isnull=False, told_resolved_at__isnull=True).order_by().exists()
        or Notice.objects.filter(state=NoticeState.PENDING, carrier__isnull=True).order_by().exists()
    )


def is_slow_trouble(limits: Limits, now: datetime) -> bool:
    """Say whether something is late, died, is gone, or one of our processes is missed."""
    return bool(
        late(limits, now)
        or dying_systems(limits, now)
        or Endpoint.objects.filter(state=EndpointState.PAUSED, pause_reason=GONE).order_by().exists()
        or processes(now)
    )


def read(limits: Limits, now: datetime) -> Facts:
    """Return the facts of now."""
    facts = Facts()
    behind, died = late(limits, now), dead(limits, now)
    endpoints = _endpoints({*behind, *died})
    stop = EmergencyStop.objects.exists()
    open_rows = Incident.objects.filter(resolved_at__isnull=True).values_list("subject", "causes")
    facts.known = {name: {entry["cause"] for entry in causes if not entry["until"]} for name, causes in open_rows}
    facts.above = ancestors(list(System.depends_on.through.objects.values_list("from_system_id", "to_system_id")))
    quiet_systems = _quiet_systems(now)
    for endpoint in endpoints:
        subject = _subject(endpoint, quiet_systems, facts.above, is_stopped=stop)
        facts.subjects[subject.name] = subject
        if not subject.ended:
            for trouble in _own_troubles(endpoint):
                facts.add(subject.name, trouble)
    catching_up = _catching_up(facts, endpoints, limits, now)
    for interface, since in behind.items():
        if interface in catching_up:
            continue
        told = f"the oldest due delivery has waited since {_written(since)}"
        _give(facts, endpoints, interface, Trouble("late", since, told))
    for interface, count in died.items():
        _give(facts, endpoints, interface, Trouble("dead", now, f"{count:,} deliveries died within 10 min"))
    for name, label, trouble in processes(now):
        facts.subjects[name] = Subject(name, label)
        facts.add(name, trouble)
    return facts


def late(limits: Limits, now: datetime) -> dict[Interface, datetime]:
    """Return since when the oldest due delivery waits, of each interface where that is too long."""
    found: dict[Interface, datetime] = {}
    for system_id, interface, _, since in store.due_targets(now, behind_breakers=True):
        if (now - since).total_seconds() > limits.late_s:
            found[system_id, interface] = min(since, found.get((system_id, interface), since))
    return found


def dying_systems(limits: Limits, now: datetime) -> list[int]:
    """Return the systems of which so many deliveries died lately, by the rollups: a hint of where to look."""
    rows = Rollup.objects.filter(minute__gte=now - DEAD_WITHIN - timedelta(minutes=1), event=State.DEAD)
    sums = rows.order_by().values("system_id").annotate(died=Sum("count")).filter(died__gte=limits.dead)
    return list(sums.values_list("system_id", flat=True))


def dead(limits: Limits, now: datetime) -> dict[Interface, int]:
    """Return how many died lately and are unresolved, of each interface where that is too many."""
    found: dict[Interface, int] = {}
    for system_id in dying_systems(limits, now):
        rows = Delivery.objects.filter(RARE, state=State.DEAD, system_id=system_id, finished_at__gte=now - DEAD_WITHIN)
        lately = rows.filter(resolved_at__isnull=True).order_by("-message_id").values("pk")[:MOST_COUNTED]
        counts = Delivery.objects.filter(pk__in=lately).order_by().values_list("interface").annotate(Count("pk"))
        found |= {(system_id, interface): count for interface, count in counts if count >= limits.dead}
    return found


def processes(now: datetime) -> list[tuple[str, str, Trouble]]:
    """Return (subject, label, trouble) of our processes that keep dying, or are gone without another in their place."""
    rows = list(Process.objects.filter(stopped_at__isnull=True))
    places: dict[tuple[str, str], list[Process]] = defaultdict(list)
    for row in rows:
        places[row.role, row.host].append(row)
    found = []
    for (role, host), own in places.items():
        name, label = f"process:{role}@{host}", f"{role} on {host}"
        last = max(own, key=lambda row: row.started_at)
        if (died := deaths(own, now)) >= DYING_RESTARTS:
            within = f"{DYING_WITHIN.total_seconds() / 60:.0f} min"
            found.append((name, label, Trouble("dying", last.started_at, f"it died {died} times within {within}")))
        seen_at = max(row.seen_at for row in own)
        others = [row for row in rows if row.role == role and is_alive(row, now)]
        if now - seen_at >= MISSED_AFTER and not any(row.started_at >= seen_at for row in others):
            found.append((name, label, Trouble("silent", seen_at, f"it was last seen {_written(seen_at)}")))
    return found


def _written(moment: datetime) -> str:
    """Return a moment for a text that is read long after it was written: a length of time would be of then."""
    return f"{moment.astimezone(UTC):%d %b %H:%M} UTC"


def _endpoints(interfaces: Collection[Interface]) -> list[Endpoint]:
    """Return the endpoints that may be in trouble, and those of open incidents."""
    open_ones = Incident.objects.filter(resolved_at__isnull=True, endpoint__isnull=False).order_by()
    broken = Breaker.objects.exclude(state=BreakerState.CLOSED)
    rows = Endpoint.objects.filter(
        Q(pk__in=list(broken.values_list("pk", flat=True)))
        | Q(pk__in=list(open_ones.values_list("endpoint_id", flat=True)))
        | Q(state=EndpointState.PAUSED, pause_reason=GONE)
        | Q(system_id__in={system_id for system_id, _ in interfaces})
    )
    found = rows.select_related("system__owner", "breaker").order_by("tier", "name", "pk")
    return [endpoint for endpoint in found if "deliver" in endpoint.use]


def _own_troubles(endpoint: Endpoint) -> Iterable[Trouble]:
    breaker: Breaker | None = getattr(endpoint, "breaker", None)
    if breaker is not None and breaker.state != BreakerState.CLOSED:
        since = breaker.opened_at or breaker.written_at
        error = ": ".join(filter(None, (breaker.error_class.replace("_", " "), breaker.error))) or "an unknown error"
        yield Trouble("breaker", since, f"the last try failed: {error}")
    if endpoint.state == EndpointState.PAUSED and endpoint.pause_reason == GONE:
        yield Trouble("gone", endpoint.updated_at, "it answered 410, so it is paused until a person resumes it")


def _give(facts: Facts, endpoints: list[Endpoint], interface: Interface, trouble: Trouble) -> None:
    """Charge the trouble of an interface to one of its endpoints: one with an incident, else one in trouble itself."""
    own = [e for e in endpoints if (e.system_id, e.interface) == interface and e.state != EndpointState.DISABLED]
    known = [e for e in own if f"endpoint:{e.pk}" in facts.known]
    troubled = [e for e in own if facts.troubles.get(f"endpoint:{e.pk}")]
    for endpoint in (known or troubled or own)[:1]:
        facts.add(f"endpoint:{endpoint.pk}", trouble)


def _catching_up(facts: Facts, endpoints: list[Endpoint], limits: Limits, now: datetime) -> set[Interface]:
    """Return the interfaces that were let go lately: what waited there is old, and on its way.

    One that was known to be late before is late until it has caught up.
    """
    lately = now - timedelta(seconds=limits.late_s)
    healed = [e for e in endpoints if (row := getattr(e, "breaker", None)) and row.healed_at and row.healed_at > lately]
    late_ones = {name for name, causes in facts.known.items() if "late" in causes}
    return {(e.system_id, e.interface) for e in healed if f"endpoint:{e.pk}" not in late_ones}


def _quiet_systems(now: datetime) -> dict[int, str]:
    """Return {system: why nobody is told of it}."""
    maintained = Maintenance.objects.filter(starts_at__lte=now, ends_at__gt=now).order_by()
    found = dict.fromkeys(maintained.values_list("system_id", flat=True), "maintenance")
    paused = System.objects.filter(state=SystemState.PAUSED).order_by()
    return found | dict.fromkeys(paused.values_list("pk", flat=True), "paused")


def _subject(
    endpoint: Endpoint, quiet_systems: dict[int, str], above: dict[int, set[int]], *, is_stopped: bool
) -> Subject:
    system = endpoint.system
    is_paused = endpoint.state == EndpointState.PAUSED and endpoint.pause_reason != GONE
    quiet = "paused" if is_stopped or is_paused else quiet_systems.get(system.pk, "")
    is_held = bool(quiet)
    if not quiet and any(upper in quiet_systems for upper in above.get(system.pk, ())):
        quiet = "dependency"
    ended = DISABLED if endpoint.state == EndpointState.DISABLED else ""
    if system.state == SystemState.RETIRED and not system.may_be_sent_to:
        ended = RETIRED
    name = "" if endpoint.name == "main" else f":{endpoint.name}"
    label = f"{system.slug}/{endpoint.interface}{name}"
    return Subject(f"endpoint:{endpoint.pk}", label, endpoint, quiet, is_held, ended)
