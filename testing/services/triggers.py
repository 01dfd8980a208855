"""Runs for a change: suites that ask for it run once a system that they name has changed.

The audit says what changed. Whoever moves the clock's mark past the entries makes the
runs of them, in one transaction; entries that came together make one run a suite.
An entry has its time before it is committed: those of the last minute are told by
their ids, so that one which comes late is seen, too.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db import transaction

from endpoints.errors import ControlPlaneError
from endpoints.models import AuditEntry, Endpoint
from testing.document.reader import read_suite
from testing.models import LATEST, Cause, Clock, Run, RunState, Schedule, SeenChange
from testing.services import authors, obstacles, runs
from testing.services.runs import Origin

ENDPOINT_ACTIONS = frozenset({"create", "update", "delete", "enable", "disable"})
CREDENTIAL_ACTIONS = frozenset({"update", "set_secret"})
MOST = 1000  # entries in one look
ASKED_EVERY = timedelta(seconds=10)

Changes = dict[tuple[str, str], datetime]


def begin_changed(until: datetime) -> int:
    """Make the runs for what changed up to `until`; return how many there were."""
    with transaction.atomic():
        clock = Clock.objects.select_for_update().get()
        begun = sum(
            _ask_again(schedule, until)
            for schedule in Schedule.objects.filter(ask_again_at__lte=until).select_related("suite")
        )
        found = list(SeenChange.unseen(clock.changes_until, until).order_by("at")[:MOST])
        if not found:
            return begun
        SeenChange.objects.bulk_create(SeenChange(entry_id=entry.pk, at=entry.at) for entry in found)
        mark = max(clock.changes_until, found[-1].at)
        SeenChange.objects.filter(at__lte=mark - LATEST).delete()
        Clock.objects.update(changes_until=mark)
        changed = _changed(found)
        asking = Schedule.objects.filter(paused_at__isnull=True).exclude(triggers=[]).select_related("suite")
        return begun + (sum(_begin(schedule, changed, until) for schedule in asking) if changed else 0)


def _changed(entries: Iterable[AuditEntry]) -> Changes:
    """Return {(cause, slug of a system): when it last changed so}."""
    changed: Changes = {}
    for entry in entries:
        if entry.object_type == "system" and "version" in entry.changes and entry.action == "update":
            changed[Cause.VERSION_CHANGED, entry.object_label] = entry.at
        elif entry.object_type == "endpoint" and entry.action in ENDPOINT_ACTIONS:
            changed[Cause.ENDPOINT_CHANGED, entry.object_label.partition("/")[0]] = entry.at
        elif entry.object_type == "credential" and entry.action in CREDENTIAL_ACTIONS:
            users = Endpoint.objects.filter(credential__name=entry.object_label)
            for slug in users.values_list("system__slug", flat=True):
                changed[Cause.ENDPOINT_CHANGED, slug] = entry.at
    return changed


def _begin(schedule: Schedule, changed: Changes, until: datetime) -> bool:
    """Make a run if one of the suite's systems changed, and none waits already, which will see the change.

    What changed before the schedule was stored, or while it was paused, is nothing to it.
    """
    slugs = {name.partition("/")[0] for name in schedule.suite.systems.values()}
    news = {cause for (cause, slug), at in changed.items() if slug in slugs and at > schedule.updated_at}
    cause = next((cause for cause in schedule.triggers if cause in news and cause in Cause.values), None)
    return cause is not None and _answer(schedule, cause, until)


def _ask_again(schedule: Schedule, until: datetime) -> bool:
    """Make the run that was put off; one that is no longer wanted is forgotten."""
    Schedule.objects.filter(pk=schedule.pk).update(asked_cause="", ask_again_at=None)
    is_wanted = schedule.paused_at is None and schedule.asked_cause in schedule.triggers
    return is_wanted and _answer(schedule, schedule.asked_cause, until)


def _answer(schedule: Schedule, cause: str, until: datetime) -> bool:
    """Make the run for a change, unless one waits already; not while a system is in maintenance, but after it."""
    if Run.objects.filter(schedule=schedule, state=RunState.WAITING).exists():
        return False
    if _is_in_maintenance(schedule):
        Schedule.objects.filter(pk=schedule.pk).update(asked_cause=cause, ask_again_at=until + ASKED_EVERY)
        return False
    runs.start_due(schedule, Origin(Cause(cause), schedule))
    return True


def _is_in_maintenance(schedule: Schedule) -> bool:
    suite = schedule.suite
    try:
        window = obstacles.maintenance(read_suite(suite.text), suite.systems.values(), authors.acting_for(schedule))
    except ControlPlaneError:  # its run says what is wrong
        return False
    return window is not None
