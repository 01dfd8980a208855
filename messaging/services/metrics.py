"""Numbers for machines: one list of families, written as Prometheus text or as JSON.

Totals are kept as they grow, and waiting deliveries come from the partial index of
open ones; nothing here counts a big table, or adds up the minutes of months.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from django.db.models import Count, Min, Sum
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from endpoints.access.principal import Principal
from endpoints.models import visible
from messaging import store
from messaging.liveness import is_alive
from messaging.models import Delivery, Folded, Process, Rollup, State, Total

PREFIX = "controlplane_"
# Name, the event that is counted, its labels beside `system`, what it says.
TOTALS = (
    ("accepted", "accepted", (), "Messages accepted, by their source."),
    ("delivered", "delivered", (), "Deliveries that arrived, by their target."),
    ("dead", "dead", ("error_class",), "Deliveries given up, by their target."),
)


def families(principal: Principal) -> list[Metric]:
    """Return every family over the systems the principal sees."""
    now = store.now()
    return [
        _oldest_due(principal, now),
        _waiting(principal),
        *_totals(principal),
        _attempt_seconds(principal),
        _process_up(now),
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


def _pending(principal: Principal) -> Any:
    return Delivery.objects.filter(visible(principal, "system__owner"), state=State.PENDING).order_by()


def _oldest_due(principal: Principal, now: datetime) -> Metric:
    family = GaugeMetricFamily(
        PREFIX + "oldest_due_seconds", "For how long the oldest due one waits.", labels=["system"]
    )
    due = _pending(principal).filter(due_at__lte=now).values_list("system__slug").annotate(Min("due_at"))
    for slug, at in due:
        family.add_metric([slug], (now - at).total_seconds())
    return family


def _waiting(principal: Principal) -> Metric:
    family = GaugeMetricFamily(PREFIX + "waiting", "Deliveries that wait, and for what.", labels=["system", "reason"])
    for slug, reason, count in _pending(principal).values_list("system__slug", "reason").annotate(Count("pk")):
        family.add_metric([slug, reason], count)
    return family


def _totals(principal: Principal) -> Iterator[Metric]:
    for name, event, labels, help_text in TOTALS:
        family = CounterMetricFamily(PREFIX + name, help_text, labels=["system", *labels])
        for values, (count, _) in _counted(principal, event, "system__slug", *labels).items():
            family.add_metric(values, count)
        yield family


def _attempt_seconds(principal: Principal) -> Metric:
    family = SummaryMetricFamily(PREFIX + "attempt_seconds", "How long attempts took.", labels=["system"])
    for values, (count, took_ms) in _counted(principal, "attempt", "system__slug").items():
        family.add_metric(values, count_value=count, sum_value=took_ms / 1000)
    return family


def _process_up(now: datetime) -> Metric:
    family = GaugeMetricFamily(PREFIX + "process_up", "Whether a process beats.", labels=["role", "host", "pid"])
    for row in Process.objects.filter(stopped_at__isnull=True):
        family.add_metric([row.role, row.host, str(row.pid)], float(is_alive(row, now)))
    return family


def _counted(principal: Principal, event: str, *labels: str) -> dict[tuple[str, ...], tuple[int, float]]:
    """Return {values of `labels`: (count, total ms)} of `event`: the totals, and what is not in them yet."""
    folded = Folded.objects.first()
    recent = Rollup.objects.filter(minute__gte=folded.through) if folded else Rollup.objects.all()
    found: dict[tuple[str, ...], tuple[int, float]] = {}
    for rows in (Total.objects.all(), recent):
        mine = rows.filter(visible(principal, "system__owner"), event=event).order_by()
        for *values, count, total_ms in mine.values_list(*labels).annotate(Sum("count"), Sum("total_ms")):
            before = found.get(tuple(values), (0, 0.0))
            found[tuple(values)] = (before[0] + count, before[1] + total_ms)
    return found
