"""Retention of runs: what was sent and received goes first, then whole runs; what explains today stays.

The last run of a suite and the last that passed are kept whatever their age: without
them nobody could say since when it fails, nor what changed. Each step is one short
transaction with a rest behind it, so that runs under way hardly notice.
"""

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import CharField, Exists, OuterRef, Q, QuerySet, Value
from django.db.models.functions import Cast, Coalesce, NullIf
from django.utils import timezone

from testing.models import Attempt, CaseRun, Run, RunState, StepRun, SuiteVersion, Verdict

BATCH = 200

Progress = Callable[[str, int], None]


def prune(progress: Progress = lambda what, count: None, *, now: datetime | None = None) -> dict[str, int]:
    """Delete what is older than the settings keep; return how many of each kind went.

    `progress` is told (kind, so far) after each batch.
    """
    now = now or timezone.now()
    bodies, whole = (
        now - timedelta(days=days) for days in (settings.ENV.keep_bodies_days, settings.ENV.keep_runs_days)
    )
    return {
        "runs": _counted("runs", _delete_runs(whole), progress),
        "run documents": _counted("run documents", _delete_documents(whole), progress),
        "run bodies": _counted("run bodies", _empty_runs(bodies, now), progress),
    }


def _counted(kind: str, steps: Iterator[int], progress: Progress) -> int:
    """Take the steps one by one, resting as long as each took."""
    done, started = 0, time.monotonic()
    for count in steps:
        done += count
        progress(kind, done)
        time.sleep(time.monotonic() - started)
        started = time.monotonic()
    return done


def _empty_runs(before: datetime, now: datetime) -> Iterator[int]:
    """Take requests, answers and captures away; verdicts, times and what each assertion said stay."""
    old = Run.objects.filter(state=RunState.ENDED, created_at__lt=before, bodies_removed_at__isnull=True)
    for run in _one_by_one(old):
        for cases in _batches(CaseRun.objects.filter(run=run)):
            with transaction.atomic():
                Attempt.objects.filter(step_run__case_run__in=cases).update(request={}, response={})
                StepRun.objects.filter(case_run__in=cases).exclude(captures={}).update(captures={})
            yield 0
        yield Run.objects.filter(pk=run).update(bodies_removed_at=now)


def _delete_runs(before: datetime) -> Iterator[int]:
    """Delete runs from their leaves up, so that no step is larger than a batch of cases."""
    for run in _one_by_one(_superseded().filter(created_at__lt=before)):
        for cases in _batches(CaseRun.objects.filter(run=run)):
            with transaction.atomic():
                Attempt.objects.filter(step_run__case_run__in=cases).delete()
                CaseRun.objects.filter(pk__in=cases).delete()
            yield 0
        Run.objects.filter(pk=run).delete()
        yield 1


def _superseded() -> QuerySet[Run]:
    """Return the ended runs that are neither the last of their suite nor the last that passed.

    Each set of teams has its own last: who sees one run of a suite need not see the next.
    """
    words = CharField(max_length=500)
    team = Coalesce(NullIf("several", Value("")), Cast("owner_id", words), Value(""), output_field=words)
    ended = Run.objects.filter(state=RunState.ENDED).annotate(team=team)
    newer = ended.filter(slug=OuterRef("slug"), team=OuterRef("team"), pk__gt=OuterRef("pk"))
    passed = newer.filter(verdict=Verdict.PASSED)
    return ended.filter(Exists(newer)).filter(~Q(verdict=Verdict.PASSED) | Exists(passed))


def _delete_documents(before: datetime) -> Iterator[int]:
    """Delete documents that no suite holds and no run ran; a suite's own versions stay."""
    loose = SuiteVersion.objects.filter(suite__isnull=True, created_at__lt=before)
    unused = loose.filter(~Exists(Run.objects.filter(document=OuterRef("pk"))))
    while found := list(unused.values_list("pk", flat=True)[:BATCH]):
        SuiteVersion.objects.filter(pk__in=found).delete()
        yield len(found)


def _one_by_one(rows: QuerySet[Run]) -> Iterator[Any]:
    """Yield the keys of runs, oldest first; those dealt with are no longer found."""
    while (found := rows.order_by("created_at").values_list("pk", flat=True).first()) is not None:
        yield found


def _batches(cases: QuerySet[CaseRun]) -> Iterator[list[Any]]:
    """Yield the keys of a run's cases in lists, by their number."""
    last = -1
    while found := list(cases.filter(number__gt=last).order_by("number").values_list("number", "pk")[:BATCH]):
        last = found[-1][0]
        yield [pk for _, pk in found]
