"""What stands in the way of a run before it begins: a system under maintenance, or another suite."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.utils import timezone

from endpoints.access.principal import Principal
from endpoints.models import Maintenance
from testing.document.calls import called_targets
from testing.document.reader import read_suite
from testing.document.suite import Suite as Document
from testing.models import Run, RunState, Schedule, Suite, Verdict

MOST_QUEUED = 10  # of one schedule; more would never be caught up with

Obstacle = tuple[Verdict, str]


def maintenance(document: Document, systems: Iterable[str], by: Principal) -> Obstacle | None:
    """Return the window that one of the systems is in, those of the suites that are called among them."""
    read: dict[str, Document | None] = {}

    def find(slug: str) -> Document | None:
        if slug not in read:
            row = Suite.objects.visible_to(by).filter(slug=slug).first()
            read[slug] = read_suite(row.text) if row is not None else None
        return read[slug]

    slugs = {name.partition("/")[0] for name in (*systems, *called_targets(document, find))}
    held = Maintenance.objects.at(timezone.now()).filter(system__slug__in=slugs)
    window = held.select_related("system").order_by("-ends_at").first()
    if window is None:
        return None
    why = f" ({window.reason})" if window.reason else ""
    return Verdict.SKIPPED, f"system '{window.system.slug}' is in maintenance until {_told(window.ends_at)}{why}"


def unmet_need(document: Document, by: Principal) -> Obstacle | None:
    """Return which other suite stands in the way; a run of a part of it, or one that was skipped, says nothing."""
    for need in document.needs:
        whole = Run.objects.visible_to(by).whole().filter(slug=need.suite, state=RunState.ENDED)
        last = whole.exclude(verdict=Verdict.SKIPPED).order_by("-id").first()
        if last is None:
            return Verdict.BLOCKED, f"needs suite '{need.suite}', which never ran"
        if need.condition == "passed" and last.verdict != Verdict.PASSED:
            return Verdict.BLOCKED, f"needs suite '{need.suite}', whose last run {last.verdict}"
        at = last.finished_at or last.created_at
        if need.within_s is not None and timezone.now() - at > timedelta(seconds=need.within_s):
            told = f"within {need.within_s:g} s; its last run ended {_told(at)}"
            return Verdict.BLOCKED, f"needs suite '{need.suite}' {told}"
    return None


def overlap(schedule: Schedule, due_at: datetime) -> Obstacle | None:
    """Return the run that still goes on, if that is why this tick has to be skipped."""
    before = list(Run.objects.filter(schedule=schedule).exclude(state=RunState.ENDED).order_by("id")[: MOST_QUEUED + 1])
    if schedule.overlap == "skip" and before:
        return Verdict.SKIPPED, f"overlap: the run of {_told(before[0].due_at or before[0].created_at)} goes on"
    if schedule.overlap == "queue" and len(before) > MOST_QUEUED:
        return Verdict.SKIPPED, f"overlap: {MOST_QUEUED} runs of this schedule wait already"
    return None


def _told(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
