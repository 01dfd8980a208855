"""Who schedules act for: whoever stored the document, with the rights that they have when it is time."""

from dataclasses import replace

from django.utils import timezone

from endpoints.access import audit, roles
from endpoints.access.principal import Principal
from endpoints.access.standing import TOKEN, reference, standing
from endpoints.errors import Forbidden, Refused
from testing.models import Schedule

SCHEDULER = Principal(label="scheduler", role="admin", via="schedule")


def act_for(schedule: Schedule, by: Principal) -> None:
    """Let a schedule act for the caller from now on; raises Refused for one that cannot be asked again."""
    kept = reference(by)
    if kept == TOKEN:
        raise Refused(
            "a suite that runs by itself is stored with a key or a user's account: what a token may do cannot be "
            "asked again when it is time",
            code="needs_account",
        )
    schedule.author, schedule.acts_for, schedule.role = kept, by.label[:200], by.role
    schedule.team_ids = None if by.team_ids is None else sorted(by.team_ids)


def acting_for(schedule: Schedule) -> Principal:
    """Return who it acts for, as of now; raises Unauthenticated or Forbidden when they may no longer run the suite.

    A schedule from before authors were kept acts with the rights that were kept with it.
    """
    if not schedule.author:
        return acted_for(schedule)
    found = replace(standing(schedule.author, schedule.acts_for), via="schedule")
    if not roles.may(found, "suites", "run") or not found.sees_team(schedule.suite.owner_id):
        raise Forbidden(f"'{schedule.acts_for}' may run the suite no more")
    return found


def acted_for(schedule: Schedule) -> Principal:
    """Return who it acted for when the document was stored."""
    teams = None if schedule.team_ids is None else frozenset(schedule.team_ids)
    return Principal(label=schedule.acts_for, role=schedule.role, via="schedule", team_ids=teams)


def pause(schedule: Schedule, why: str) -> str:
    """Pause a schedule that may act for nobody; return the reason. Call it in a transaction."""
    reason = f"{why}; it goes on for the editor who resumes it"
    schedule.paused_at, schedule.next_at = timezone.now(), None
    schedule.paused_by, schedule.pause_reason = SCHEDULER.label, reason[:500]
    schedule.save(update_fields=["paused_at", "next_at", "paused_by", "pause_reason", "updated_at"])
    audit.record(SCHEDULER, "pause", schedule, {"reason": [None, reason]})
    return f"the schedule was paused: {reason}"
