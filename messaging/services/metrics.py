"""Numbers for machines: one list of families, written as Prometheus text or as JSON.

Totals are kept as they grow, what waits was counted on the worker's clock, and what is
due is one probe of an index for each interface: nothing here counts a big table.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from django.db.models import Count, Q, Sum
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from endpoints.access.principal import Principal
from endpoints.models import Maintenance, System, visible
from messaging import store
from messaging.liveness import is_alive
from messaging.models import BUCKETS_S, OVER, UNSETTLED, DeadGroup, Delivery, Folded, Process, Rollup, State, Total
from messaging.services import measuring, retention
from messaging.services.status import ROUNDS

PREFIX = "controlplane_"
# Name, the event that is counted, its labels beside `system`, what it says.
TOTALS = (
    ("accepted", "accepted", (), "Messages accepted, by their source."),
    ("delivered", "delivered", (), "Deliveries that arrived, by their target."),
    ("dead", "dead", ("error_class",), "Deliveries given up, by their target."),
)
TOOK = "took"
MOST_COUNTED = 20_000  # while nobody measures; the oldest ones

Events = dict[str, dict[tuple[str, str], tuple[int, float]]]  # {event: {(system, error class): (count, total ms)}}


def families(principal: Principal) -> list[Metric]:
    """Return every family over the systems the principal sees."""
    now = store.now()
    slugs = dict(System.objects.visible_to(principal).values_list("pk", "slug"))
    events = _events(principal)
    return [
        _oldest_due(slugs, now),
        _waiting(slugs, principal, now),
        _dead_unresolved(principal),
        *_totals(events),
        _attempt_seconds(events),
        _in_maintenance(slugs, now),
        _process_up(now),
        *_own(now),
    ]


def as_prometheus(found: Iterable[Metric]) -> str:
    """Return the families in the text format of Prometheus."""
    registry = CollectorRegistry()
    registry.register(_Collected(found))
    return generate_latest(registry).decode()


def as_dict(found: Iterable[Metric]) -> dict[str, list[dict[str, Any]]]:
    """Return the families as `{sample name: [{label: value, ..., "value": number}]}`."""
    shown: dict[str, list[dict[str, Any]]] = {}
    for family in found:
        for sample in family.samples:
            shown.setdefault(sample.name, []).append({**sample.labels, "value": sample.value})
    return shown


class _Collected(Collector):
    def __init__(self, found: Iterable[Metric]) -> None:
        self._found = found

    def collect(self) -> Iterator[Metric]:
        yield from self._found


def _gauge(name: str, says: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, says, labels=labels)


def _oldest_due(slugs: Mapping[int, str], now: datetime) -> Metric:
    """What is blocked, paused or maintained waits for the end of that and is not late; what has no door is."""
    family = _gauge("oldest_due_seconds", "For how long the longest due delivery that may be sent waits.", "system")
    oldest: dict[int, datetime] = {}
    due = [(system_id, since) for system_id, _, _, since in store.due_targets(now, behind_breakers=True)]
    due += [(system_id, since) for system_id, _, since in store.without_door(now)]
    for system_id, since in due:
        oldest[system_id] = min(oldest.get(system_id, since), since)
    for system_id, since in oldest.items():
        if system_id in slugs:
            family.add_metric([slugs[system_id]], (now - since).total_seconds())
    return family


def _waiting(slugs: Mapping[int, str], principal: Principal, now: datetime) -> Metric:
    family = _gauge(
        "waiting", "Deliveries that wait, and for what, as the worker counted them last.", "system", "reason"
    )
    counted = measuring.waiting(now)
    if counted is None:
        counted = _count_some(principal)
    for (system_id, reason), count in counted.items():
        if system_id in slugs:
            family.add_metric([slugs[system_id], reason], count)
    return family


def _count_some(principal: Principal) -> dict[tuple[int, str], int]:
    """Return {(system id, reason): count} of the oldest that wait."""
    rows = Delivery.objects.filter(Q(state=State.PENDING) & UNSETTLED, visible(principal, "system__owner"))
    first = Delivery.objects.filter(pk__in=rows.order_by("message_id").values("pk")[:MOST_COUNTED]).order_by()
    counted = first.values_list("system", "reason").annotate(Count("pk"))
    return {(system_id, reason): count for system_id, reason, count in counted}


def _dead_unresolved(principal: Principal) -> Metric:
    family = GaugeMetricFamily(
        PREFIX + "dead_unresolved", "Dead letters that wait for a person.", labels=["system", "error_class"]
    )
    groups = DeadGroup.objects.filter(visible(principal, "system__owner"), count__gt=0).order_by()
    for slug, error_class, count in groups.values_list("system__slug", "error_class").annotate(Sum("count")):
        family.add_metric([slug, error_class], count)
    return family


def _totals(events: Events) -> Iterator[Metric]:
    for name, event, labels, help_text in TOTALS:
        family = CounterMetricFamily(PREFIX + name, help_text, labels=["system", *labels])
        sums: dict[tuple[str, ...], int] = defaultdict(int)
        for (slug, error_class), (count, _) in events[event].items():
            sums[(slug, error_class) if labels else (slug,)] += count
        for values, count in sums.items():
            family.add_metric(values, count)
        yield family


def _attempt_seconds(events: Events) -> Metric:
    family = HistogramMetricFamily(PREFIX + "attempt_seconds", "How long attempts took.", labels=["system"])
    by_system: dict[str, dict[str, tuple[int, float]]] = defaultdict(dict)
    for (slug, bucket), found in events[TOOK].items():
        by_system[slug][bucket] = found
    for slug, counted in by_system.items():
        buckets, so_far = [], 0
        for bound in (*map(str, BUCKETS_S), OVER):
            so_far += counted.get(bound, (0, 0.0))[0]
            buckets.append((bound, float(so_far)))
        family.add_metric([slug], buckets, sum(took_ms for _, took_ms in counted.values()) / 1000)
    return family


def _in_maintenance(slugs: Mapping[int, str], now: datetime) -> Metric:
    family = _gauge("in_maintenance", "1 for each system that is in a window of maintenance.", "system")
    for system_id in Maintenance.objects.at(now).order_by("system").values_list("system", flat=True).distinct():
        if system_id in slugs:
            family.add_metric([slugs[system_id]], 1)
    return family


def _process_up(now: datetime) -> Metric:
    family = _gauge("process_up", "Whether a process beats.", "role", "host", "pid")
    for row in Process.objects.filter(stopped_at__isnull=True):
        family.add_metric([row.role, row.host, str(row.pid)], float(is_alive(row, now)))
    return family


def _own(now: datetime) -> Iterator[Metric]:
    """Our own lag and staleness; what is not known has no sample."""
    ticked_at = measuring.ticked_at()
    for role in ROUNDS:
        ticks = _gauge(f"{role}_tick_age_seconds", f"Since when the {role} has not ticked.")
        if role in ticked_at:
            ticks.add_metric([], (now - ticked_at[role]).total_seconds())
        yield ticks
    behind = _gauge("retention_behind_seconds", "By how much the oldest row has outlived its time; 0: it keeps up.")
    behind.add_metric([], retention.behind_s(now) or 0.0)
    size = _gauge("database_bytes", "How large the database is.")
    if (found := measuring.database(now)["bytes"]) is not None:
        size.add_metric([], found)
    free = _gauge("disk_free_bytes", "What is left of the disk that holds our data.", "host", "path")
    full = _gauge("disk_full_seconds", "When that disk is full if it goes on as it went.", "host", "path")
    for disk in measuring.disks(now):
        free.add_metric([disk.host, disk.path], disk.free_bytes)
        if disk.full_in_s is not None:
            full.add_metric([disk.host, disk.path], disk.full_in_s)
    yield from (behind, size, free, full)


def _events(principal: Principal) -> Events:
    """Return what ever happened: the totals, and the minutes that are not in them yet."""
    folded = Folded.objects.first()
    recent = Rollup.objects.filter(minute__gte=folded.through) if folded else Rollup.objects.all()
    wanted = [*(event for _, event, _, _ in TOTALS), TOOK]
    found: Events = {event: {} for event in wanted}
    for rows in (Total.objects.all(), recent):
        mine = rows.filter(visible(principal, "system__owner"), event__in=wanted).order_by()
        sums = mine.values_list("event", "system__slug", "error_class").annotate(Sum("count"), Sum("total_ms"))
        for event, slug, error_class, count, total_ms in sums:
            before = found[event].get((slug, error_class), (0, 0.0))
            found[event][slug, error_class] = (before[0] + count, before[1] + total_ms)
    return found
