"""Runs for a change: suites that ask for it run once a system that they name has changed.

The audit says what changed. Whoever moves the clock's mark past the entries makes the
runs of them, in one transaction; entries that came together make one run a suite.
"""

from collections.abc import Iterable
from datetime import datetime

from django.db import transaction

from endpoints.models import AuditEntry, Endpoint
from testing.models import Cause, Clock, Run, RunState, Schedule
from testing.services import runs
from testing.services.runs import Origin

WATCHED = ("endpoint", "credential", "system")
ENDPOINT_ACTIONS = frozenset({"create", "update", "delete", "enable", "disable"})
CREDENTIAL_ACTIONS = frozenset({"update", "set_secret"})
MOST = 1000  # entries in one look

Changes = dict[tuple[str, str], datetime]


def begin_changed(until: datetime) -> int:
    """Make the runs for what changed up to `until`; return how many there were."""
    with transaction.atomic():
        clock = Clock.objects.select_for_update().get()
        entries = AuditEntry.objects.filter(at__gt=clock.changes_until, at__lte=until, object_type__in=WATCHED)
        found = list(entries.order_by("at")[:MOST])
        if not found:
            return 0
        Clock.objects.update(changes_until=found[-1].at)
        changed = _changed(found)
        asking = Schedule.objects.filter(paused_at__isnull=True).exclude(triggers=[]).select_related("suite")
        return sum(_begin(schedule, changed) for schedule in asking) if changed else 0


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


def _begin(schedule: Schedule, changed: Changes) -> bool:
    """Make a run if one of the suite's systems changed, and none waits already, which will see the change.

    What changed before the schedule was stored, or while it was paused, is nothing to it.
    """
    slugs = {name.partition("/")[0] for name in schedule.suite.systems.values()}
    news = {cause for (cause, slug), at in changed.items() if slug in slugs and at > schedule.updated_at}
    cause = next((cause for cause in schedule.triggers if cause in news and cause in Cause.values), None)
    if cause is None or Run.objects.filter(schedule=schedule, state=RunState.WAITING).exists():
        return False
    runs.start_due(schedule, Origin(Cause(cause), schedule))
    return True
