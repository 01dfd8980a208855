"""The row of a run as its worker sees it: taken, kept, watched and ended, each fenced by the lease token."""

import uuid
from collections import Counter
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from endpoints.errors import ControlPlaneError
from testing.document.picking import pick
from testing.document.reader import read_suite
from testing.models import CaseRun, Part, Run, RunState, Verdict
from testing.runner.plan import Instance, of_run
from testing.runner.results import RunResult

log = structlog.get_logger(__name__)

LOST = "worker lost"
KEPT_REASON = 1000
SWEPT = 100  # at a time


def lease_s() -> float:
    return float(settings.ENV.lease_s)


def take_next(token: uuid.UUID) -> Run | None:
    """Take the run that has waited longest; None when there is none, or another worker was quicker."""
    first = Run.objects.filter(state=RunState.WAITING).order_by("created_at").values_list("pk", flat=True).first()
    if first is None:
        return None
    return take(first, token)


def take(pk: uuid.UUID, token: uuid.UUID) -> Run | None:
    """Take a waiting run; one that was cancelled before it began ends here."""
    now = timezone.now()
    waiting = Run.objects.filter(pk=pk, state=RunState.WAITING)
    if waiting.filter(cancelled_at__isnull=False).update(
        state=RunState.ENDED, verdict=Verdict.CANCELLED, reason="cancelled before it began", finished_at=now
    ):
        return None
    until = now + timedelta(seconds=lease_s())
    if not waiting.update(state=RunState.RUNNING, started_at=now, lease_token=token, lease_until=until):
        return None
    return Run.objects.select_related("document").get(pk=pk)


def plan(pk: uuid.UUID, total: int) -> None:
    """Write how many cases there will be."""
    Run.objects.filter(pk=pk).update(total=total)


def look(pk: uuid.UUID, token: uuid.UUID) -> str:
    """Return why the run has to stop, "" when it may go on; the lease is renewed in good time."""
    now = timezone.now()
    row = Run.objects.filter(pk=pk).values_list("lease_token", "lease_until", "cancelled_at").first()
    if row is None or row[0] != token:
        return "another worker took it"
    if row[2] is not None:
        return "cancelled"
    if row[1] is None or row[1] - now < timedelta(seconds=lease_s() * 2 / 3):
        Run.objects.filter(pk=pk, lease_token=token).update(lease_until=now + timedelta(seconds=lease_s()))
    return ""


def end(pk: uuid.UUID, token: uuid.UUID, result: RunResult) -> bool:
    """Write the verdict; False when the lease was lost, and with it the right to judge."""
    held = Run.objects.filter(pk=pk, lease_token=token, state=RunState.RUNNING)
    return bool(
        held.update(
            state=RunState.ENDED,
            verdict=result.verdict,
            reason=result.reason.replace("\x00", "\ufffd")[:KEPT_REASON],
            flaky=result.flaky,
            dirty=result.dirty,
            finished_at=timezone.now(),
            lease_token=None,
            lease_until=None,
        )
    )


def sweep() -> int:
    """End the runs whose worker is lost; returns how many. What they had done is kept, what they had not is errored."""
    now = timezone.now()
    lost = Run.objects.filter(Q(state=RunState.RUNNING), Q(lease_until__lt=now) | Q(lease_until__isnull=True))
    return sum(_end_lost(run, now) for run in lost.select_related("document")[:SWEPT])


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
        Run.objects.filter(pk=run.pk).update(counts={name: count for name, count in done.items() if count})
    log.warning("run_lost", run=str(run.pk), cases_lost=len(missing))
    return True


def _planned(run: Run) -> list[Instance]:
    """Return the case runs there should have been; none of a document that is no longer understood."""
    try:
        return of_run(pick(read_suite(run.document.text), run.only), run)
    except ControlPlaneError:
        return []
