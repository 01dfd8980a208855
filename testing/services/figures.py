"""Figures over all suites: which cases take longest, and which endpoints no suite ever looks at."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from endpoints.access.principal import Principal
from endpoints.models import Endpoint, EndpointState, SystemState
from testing.models import CaseRun, Part, Run, RunState, Suite, Verdict
from testing.services.trends import percentile

LATEST_RUNS = 250
OF_EACH = 200  # cases: one very large run must not hide the others
LOOK = 2_500  # case runs in all
MOST_SHOWN = 20
MOST_ENDPOINTS = 50
MOST_SUITES = 5_000
RECENT_RUNS = 300


@dataclass(frozen=True, slots=True)
class Slow:
    """How long a case took in its latest runs, of those that passed; `slowest` is the run of its longest."""

    suite: str
    case: str
    runs: int
    p50_ms: float
    p95_ms: float
    slowest_ms: float
    run_id: UUID
    number: int


@dataclass(frozen=True, slots=True)
class Uncovered:
    """An endpoint that no stored suite names; `last_run_at` says when a run used it all the same."""

    endpoint: Endpoint
    last_run_at: datetime | None = None


def slowest(principal: Principal, suite: str = "") -> list[Slow]:
    """Return the cases that took longest lately, by the time that 95 of 100 runs kept."""
    runs = Run.objects.visible_to(principal).filter(state=RunState.ENDED, **({"slug": suite} if suite else {}))
    slugs = dict(runs.order_by("-pk").values_list("pk", "slug")[:LATEST_RUNS])
    rows = CaseRun.objects.filter(part=Part.CASE, run_id__in=list(slugs), number__lte=OF_EACH).order_by("-run_id")
    times: dict[tuple[str, str], list[tuple[float, UUID, int]]] = defaultdict(list)
    for case, verdict, took_ms, run_id, number in rows.values_list("case", "verdict", "took_ms", "run_id", "number")[
        :LOOK
    ]:
        if verdict == Verdict.PASSED:
            times[slugs[run_id], case].append((took_ms, run_id, number))
    found = [_slow(*key, taken) for key, taken in times.items()]
    return sorted(found, key=lambda one: -one.p95_ms)[:MOST_SHOWN]


def _slow(suite: str, case: str, taken: list[tuple[float, UUID, int]]) -> Slow:
    taken.sort(key=lambda one: one[0])
    ordered = [took_ms for took_ms, *_ in taken]
    longest = taken[-1]
    p50_ms, p95_ms = percentile(ordered, 50) or 0.0, percentile(ordered, 95) or 0.0
    return Slow(suite, case, len(taken), p50_ms, p95_ms, *longest)


def uncovered(principal: Principal) -> list[Uncovered]:
    """Return the endpoints in use that no stored suite names, as many as one more than are shown."""
    named = {
        target(name)
        for systems in Suite.objects.visible_to(principal).values_list("systems", flat=True)[:MOST_SUITES]
        for name in systems.values()
    }
    used = _used(principal)
    found: list[Uncovered] = []
    rows: Any = Endpoint.objects.visible_to(principal).select_related("system")
    rows = rows.filter(system__state=SystemState.ACTIVE).exclude(state=EndpointState.DISABLED)
    for row in rows.order_by("system__slug", "interface", "name").iterator(chunk_size=500):
        key = (row.system.slug, row.interface)
        if key not in named:
            found.append(Uncovered(row, used.get(key)))
        if len(found) > MOST_ENDPOINTS:
            break
    return found


def target(name: str) -> tuple[str, str]:
    """Return what `system[/interface]` names: without an interface it is the main one."""
    slug, _, interface = name.partition("/")
    return slug, interface or "main"


def _used(principal: Principal) -> dict[tuple[str, str], datetime]:
    """Return when the latest runs used what, those from files too."""
    found: dict[tuple[str, str], datetime] = {}
    rows = Run.objects.visible_to(principal).order_by("-pk").values_list("created_at", "systems")
    for at, systems in rows[:RECENT_RUNS]:
        for name in systems.values():
            found.setdefault(target(name), at)
    return found
