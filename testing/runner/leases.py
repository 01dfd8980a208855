"""The row of a run as its worker sees it: taken, kept, watched and ended, each fenced by the lease token."""

import uuid
from datetime import timedelta

import structlog
from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from testing.models import Run, RunState, Verdict
from testing.runner.results import RunResult

log = structlog.get_logger(__name__)

LOST = "worker lost"
KEPT_REASON = 1000


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
    """End the runs whose worker is lost; what they had done is kept. Returns how many."""
    now = timezone.now()
    lost = Run.objects.filter(Q(state=RunState.RUNNING), Q(lease_until__lt=now) | Q(lease_until__isnull=True))
    count = lost.update(
        state=RunState.ENDED,
        verdict=Verdict.ERRORED,
        reason=LOST,
        finished_at=now,
        lease_token=None,
        lease_until=None,
    )
    if count:
        log.warning("runs_lost", count=count)
    return count
