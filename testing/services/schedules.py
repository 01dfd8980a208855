"""Schedules: kept as the stored document says, paused and resumed, and begun when they are due.

Whoever moves `next_at` on makes the run of that tick, in one transaction: with any
number of clocks each tick has one run.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import InterfaceError, OperationalError, transaction
from django.utils import timezone

from endpoints.access import audit, roles
from endpoints.access.principal import Principal
from endpoints.errors import Conflict, Forbidden, Unauthenticated
from testing.document.cron import read_cron
from testing.document.suite import Suite as Document
from testing.models import Cause, Missed, Run, RunState, Schedule, Suite
from testing.services import authors, runs
from testing.services.runs import Origin

log = structlog.get_logger(__name__)

AT_ONCE = 50  # ticks in one look
LATE = timedelta(minutes=1)  # a tick later than this was missed
CAUGHT_UP = timedelta(days=1)  # `missed: run` goes back no further
MOST_SHOWN = 100


def follow(suite: Suite, document: Document, *, by: Principal) -> None:
    """Make the schedule what a stored document says; call it in the transaction of the change."""
    row = Schedule.objects.select_for_update().filter(suite=suite).first()
    if document.schedule is None and not document.triggers:
        if row is not None:
            audit.record(by, "delete", row, {"cron": [row.cron, None]})
            cancel_waiting(suite)
            row.delete()
        return
    if by.system_slug:
        detail = f"this key speaks only as {by.system_slug}; a run by itself speaks to several"
        raise Forbidden(detail, code="bound_key")
    found = row or Schedule(suite=suite)
    before = (found.cron, found.timezone)
    wanted = document.schedule
    found.cron, found.timezone = (wanted.cron, wanted.timezone) if wanted else ("", "UTC")
    if wanted:
        found.overlap, found.missed = wanted.overlap, wanted.missed
    found.triggers = list(document.triggers)
    authors.act_for(found, by)
    if row is None or (found.cron, found.timezone) != before:
        found.next_at = None if found.paused_at else _following(found, timezone.now())
        changes = {"cron": [before[0], found.cron], "timezone": [before[1], found.timezone]}
        found.save()
        audit.record(by, "update" if row else "create", found, changes)
    else:
        found.save()


def cancel_waiting(suite: Suite) -> None:
    """Cancel what its schedule has waiting, before that goes: without it nothing says whom a queued run waits for."""
    waiting = Run.objects.filter(schedule__suite=suite, state=RunState.WAITING, cancelled_at__isnull=True)
    waiting.update(cancelled_at=timezone.now())


def pause(schedule: Schedule, reason: str, *, by: Principal) -> Schedule:
    """Begin no further run by itself; what runs goes on. Raises Forbidden, or Conflict when it is paused."""
    roles.require(by, "schedules", "pause")
    with transaction.atomic():
        held = _held(schedule)
        if held.paused_at is not None:
            raise Conflict("the schedule is paused", code="paused")
        held.paused_at, held.paused_by, held.pause_reason = timezone.now(), by.label[:200], reason
        held.next_at = None
        held.save()
        audit.record(by, "pause", held, {"reason": [None, reason]})
    return held


def resume(schedule: Schedule, *, by: Principal) -> Schedule:
    """Go on with the next tick; those of the pause have passed. Raises Forbidden, or Conflict when it is not paused.

    If who it acts for may no longer run the suite it acts for the caller, who has to be an editor then.
    """
    roles.require(by, "schedules", "resume")
    with transaction.atomic():
        held = _held(schedule)
        if held.paused_at is None:
            raise Conflict("the schedule is not paused", code="not_paused")
        try:
            authors.acting_for(held)
        except (Unauthenticated, Forbidden):
            roles.require(by, "suites", "update")
            authors.act_for(held, by)
        held.paused_at, held.paused_by, held.pause_reason = None, "", ""
        try:
            held.next_at = _following(held, timezone.now())
        except ValueError as exc:
            raise Conflict(f"the schedule cannot be followed: {exc}", code="cannot_follow") from exc
        held.save()
        audit.record(by, "resume", held)
    return held


def coming(schedule: Schedule, count: int) -> Sequence[datetime]:
    """Return the next ticks; none while it is paused."""
    if schedule.next_at is None or count < 1:
        return ()
    rest = read_cron(schedule.cron, schedule.timezone).coming(schedule.next_at, count - 1)
    return [schedule.next_at, *rest]


def begin_due(now: datetime) -> int:
    """Make the runs of all ticks up to `now`; return how many there were."""
    begun = 0
    for schedule in Schedule.objects.filter(next_at__lte=now).select_related("suite").order_by("next_at")[:AT_ONCE]:
        try:
            begun += _begin(schedule, now)
        except (OperationalError, InterfaceError):  # the database's; it may come back
            raise
        except Exception as exc:
            log.exception("schedule_set_aside", schedule=str(schedule.pk), suite=schedule.suite.slug)
            _set_aside(schedule, exc)
    return begun


def _set_aside(schedule: Schedule, exc: Exception) -> None:
    """Pause a schedule whose run cannot be made, such as one of a time zone that is no more; the others go on."""
    Schedule.objects.filter(pk=schedule.pk, next_at=schedule.next_at).update(
        next_at=None, paused_at=timezone.now(), paused_by="clock", pause_reason=f"cannot be followed: {exc}"[:500]
    )


def _begin(schedule: Schedule, now: datetime) -> bool:
    """Make the run of a tick, unless another clock did; False when there is none to make."""
    due_at = schedule.next_at
    assert due_at is not None
    cron = read_cron(schedule.cron, schedule.timezone)
    tick = cron.after(now - CAUGHT_UP) if now - due_at > CAUGHT_UP else due_at
    if schedule.missed != Missed.RUN or tick is None or tick > now:  # rarer than that: only the last was missed
        tick = cron.latest(due_at, now)
    is_missed = schedule.missed == Missed.SKIP and now - tick > LATE
    with transaction.atomic():
        held = Schedule.objects.filter(pk=schedule.pk, next_at=due_at)
        if not held.update(next_at=cron.after(tick), **({} if is_missed else {"last_at": tick})):
            return False
        is_new = not Run.objects.filter(schedule=schedule, due_at=tick).exists()  # unless the clock was put back
        if is_new and not is_missed:
            runs.start_due(schedule, Origin(Cause.SCHEDULE, schedule, tick))
    return is_new and not is_missed


def _following(schedule: Schedule, now: datetime) -> datetime | None:
    return read_cron(schedule.cron, schedule.timezone).after(now) if schedule.cron else None


def _held(schedule: Schedule) -> Any:
    return Schedule.objects.select_for_update(of=("self",)).select_related("suite").get(pk=schedule.pk)
