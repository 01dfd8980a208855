"""The row of a run as its worker sees it: taken, kept, watched and ended, each fenced by the lease token."""

import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Now
from django.utils import timezone

from endpoints.errors import ControlPlaneError
from testing import wakeups
from testing.document.picking import pick
from testing.document.reader import read_suite
from testing.models import Begun, CaseRun, Part, Run, RunState, Verdict
from testing.runner.looking import GONE, UNWANTED, UNWANTED_S, waiting_runs
from testing.runner.plan import Instance, of_run
from testing.runner.results import RunResult

log = structlog.get_logger(__name__)

LOST = "worker lost"
TAKEN = "another worker took it"
KEPT_REASON = 1000
SWEPT = 100  # at a time
MOST_LOSSES = 3  # then a run is not given to another worker: it may be what kills them
TRIED = 5  # runs that others may take at the same moment


def lease_s() -> float:
    return float(settings.ENV.lease_s)


def take_next(token: uuid.UUID, locations: Sequence[str] = ("",)) -> Run | None:
    """Take the run that has waited longest; None when there is none, or another worker was quicker."""
    for pk in waiting_runs(locations).order_by("created_at").values_list("pk", flat=True)[:TRIED]:
        if (run := take(pk, token)) is not None:
            return run
    return None


def take(pk: uuid.UUID, token: uuid.UUID) -> Run | None:
    """Take a waiting run; one that was cancelled before it began ends here."""
    waiting = Run.objects.filter(pk=pk, state=RunState.WAITING)
    if waiting.filter(cancelled_at__isnull=False, losses=0).update(
        state=RunState.ENDED, verdict=Verdict.CANCELLED, reason="cancelled before it began", finished_at=Now()
    ):
        return None
    if not waiting.update(
        state=RunState.RUNNING, started_at=Coalesce("started_at", Now()), lease_token=token, lease_until=lease_end()
    ):
        return None
    return Run.objects.select_related("document").get(pk=pk)


def lease_end() -> Any:
    """Return when a lease taken or renewed now runs out, by the database's clock."""
    return Now() + timedelta(seconds=lease_s())


def plan(pk: uuid.UUID, total: int) -> None:
    """Write how many cases there will be."""
    Run.objects.filter(pk=pk).update(total=total)


def look(pk: uuid.UUID, token: uuid.UUID) -> str:
    """Return why the run has to stop, "" when it may go on; the lease is renewed in good time."""
    soon = Now() + timedelta(seconds=lease_s() * 2 / 3)
    rows = Run.objects.filter(pk=pk).annotate(is_old=Q(lease_until__lt=soon))
    row = rows.values_list("lease_token", "is_old", "cancelled_at").first()
    if row is None or row[0] != token:
        return TAKEN
    if row[1]:
        Run.objects.filter(pk=pk, lease_token=token).update(lease_until=lease_end())
    return "cancelled" if row[2] is not None else ""


def end(pk: uuid.UUID, token: uuid.UUID, result: RunResult) -> bool:
    """Write the verdict; False when the lease was lost, and with it the right to judge."""
    held = Run.objects.filter(pk=pk, lease_token=token, state=RunState.RUNNING)
    with transaction.atomic():
        ended = held.update(
            state=RunState.ENDED,
            verdict=result.verdict,
            reason=result.reason.replace("\x00", "\ufffd")[:KEPT_REASON],
            flaky=result.flaky,
            dirty=result.dirty,
            finished_at=timezone.now(),
            lease_token=None,
            lease_until=None,
        )
        if ended:
            Begun.objects.filter(run=pk).delete()
    return bool(ended)


def sweep() -> int:
    """Take the runs whose worker is lost from it; returns how many. What they had done is kept."""
    now = timezone.now()
    return sum(_lose(run, now) for run in Run.objects.filter(GONE).select_related("document")[:SWEPT])


def _lose(run: Run, now: datetime) -> bool:
    """Give a run back for another worker to go on with; one that lost too many ends."""
    if run.losses + 1 >= MOST_LOSSES:
        return _end_lost(run, now)
    held = Run.objects.filter(GONE, pk=run.pk, lease_token=run.lease_token)
    # It keeps when the lease ran out: since then it waits.
    if not held.update(state=RunState.WAITING, losses=F("losses") + 1, lease_token=None):
        return False
    log.warning("run_given_back", run=str(run.pk), losses=run.losses + 1)
    wakeups.hint(run.location)
    return True


def give_up_waiting() -> int:
    """End runs that no worker of their location came for; returns how many."""
    waiting = Run.objects.filter(UNWANTED)
    return sum(
        Run.objects.filter(UNWANTED, pk=run.pk).update(
            state=RunState.ENDED,
            verdict=Verdict.ERRORED,
            reason=f"no worker of location '{run.location}' took it within {UNWANTED_S // 60} minutes",
            finished_at=Now(),
        )
        for run in waiting[:SWEPT]
    )


def _end_lost(run: Run, now: datetime) -> bool:
    """End one of them, unless its worker came back meanwhile; every case of it then has a verdict."""
    held = Run.objects.filter(
        pk=run.pk, state=RunState.RUNNING, lease_token=run.lease_token, lease_until=run.lease_until
    )
    with transaction.atomic():
        if not held.update(
            state=RunState.ENDED,
            verdict=Verdict.ERRORED,
            reason=LOST,
            finished_at=now,
            lease_token=None,
            lease_until=None,
        ):
            return False
        done = Counter(CaseRun.objects.filter(run=run, part=Part.CASE).values_list("verdict", flat=True))
        numbers = set(CaseRun.objects.filter(run=run).values_list("number", flat=True))
        missing = [found for found in _planned(run) if found.number not in numbers]
        CaseRun.objects.bulk_create(
            CaseRun(
                run=run,
                number=found.number,
                case=found.case.name,
                matrix=dict(found.matrix),
                iteration=found.iteration,
                verdict=Verdict.ERRORED,
                reason=LOST,
            )
            for found in missing
        )
        done[Verdict.ERRORED.value] += len(missing)
        Begun.objects.filter(run=run).delete()
        Run.objects.filter(pk=run.pk).update(counts={name: count for name, count in done.items() if count})
    log.warning("run_lost", run=str(run.pk), cases_lost=len(missing))
    return True


def _planned(run: Run) -> list[Instance]:
    """Return the case runs there should have been; none of a document that is no longer understood."""
    try:
        return of_run(pick(read_suite(run.document.text), run.only), run)
    except ControlPlaneError:
        return []
