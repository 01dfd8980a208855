"""How the suites stand, for the dashboard: what runs now, what did not pass last, and the last day by the hour."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import OuterRef, Subquery

from endpoints.access.principal import Principal
from endpoints.ids import first_id_at
from testing.models import Run, RunState, Suite, Verdict

HOURS = 24
MOST_RUNS = 3_000  # of the last day; more are not told apart
MOST_SUITES = 300
MOST_OPEN = 100


@dataclass(slots=True)
class Hour:
    """The runs that were made within one hour."""

    at: datetime
    passed: int = 0
    other: int = 0  # neither passed nor bad
    bad: int = 0


@dataclass(frozen=True, slots=True)
class Overview:
    """All that the dashboard shows of suites, as one caller may see it."""

    now: datetime
    suites: int = 0
    runs: int = 0
    has_more: bool = False
    running: Sequence[Run] = ()
    waiting: int = 0
    not_passed: Sequence[Run] = ()  # of each stored suite the last run that ended, if it did not pass
    hours: Sequence[Hour] = field(default=())

    @property
    def passed(self) -> int:
        return sum(hour.passed for hour in self.hours)

    @property
    def bad(self) -> int:
        return sum(hour.bad for hour in self.hours)


def overview(principal: Principal, now: datetime) -> Overview:
    """Return how the suites stand."""
    runs = Run.objects.visible_to(principal)
    since = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=HOURS - 1)
    lately = runs.filter(pk__gte=first_id_at(since)).order_by("-pk").values_list("created_at", "verdict")
    rows = list(lately[: MOST_RUNS + 1])
    still = list(runs.exclude(state=RunState.ENDED).slim().order_by("created_at")[:MOST_OPEN])
    last = {suite: run for suite, run in _last_runs(principal) if run is not None}
    latest = Run.objects.slim().in_bulk(list(last.values()))  # by their keys, which no order may lead away from
    not_passed = [run for run in latest.values() if run.verdict != Verdict.PASSED]
    return Overview(
        now,
        suites=Suite.objects.visible_to(principal).count(),
        runs=min(len(rows), MOST_RUNS),
        has_more=len(rows) > MOST_RUNS,
        running=[run for run in still if run.state == RunState.RUNNING],
        waiting=sum(run.state == RunState.WAITING for run in still),
        not_passed=sorted(not_passed, key=lambda run: run.pk, reverse=True),
        hours=by_hour(rows[:MOST_RUNS], since),
    )


def by_hour(rows: Sequence[tuple[datetime, str]], since: datetime) -> list[Hour]:
    """Return the last day's hours with how many runs passed, ended badly, or otherwise: pure."""
    hours = [Hour(since + timedelta(hours=number)) for number in range(HOURS)]
    for at, verdict in rows:
        hour = hours[min(HOURS - 1, max(0, int((at - since).total_seconds() // 3600)))]
        if verdict == Verdict.PASSED:
            hour.passed += 1
        elif verdict in (Verdict.FAILED, Verdict.ERRORED):
            hour.bad += 1
        elif verdict:
            hour.other += 1
    return hours


def _last_runs(principal: Principal) -> list[tuple[str, Any]]:
    last = Run.objects.visible_to(principal).whole().filter(slug=OuterRef("slug"), state=RunState.ENDED).order_by("-pk")
    suites = Suite.objects.visible_to(principal).annotate(last=Subquery(last.values("pk")[:1]))
    return list(suites.values_list("slug", "last")[:MOST_SUITES])
