"""Jobs: one action on every delivery that a filter finds; looked at before, paced, paused, resumed and cancelled.

Making and steering a job is a change of its row; the runner does the rest. The same
action with the same filter is one job while it is open, however often it is asked for.
"""

import hashlib
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from django.db import IntegrityError, transaction

from endpoints.access import audit, roles
from endpoints.access.principal import Principal
from endpoints.edge.filters import refuse_names
from endpoints.errors import Conflict, Forbidden, Malformed
from messaging import store
from messaging.filters import DELIVERIES
from messaging.jobs.actions import ACTIONS, Action
from messaging.jobs.selection import Selection
from messaging.models import OPEN_JOBS, Delivery, Job, JobAction, JobState, Message
from messaging.wakeups import JOBS, Notifier

COUNTED = 20_000  # exactly, where an index answers; what is more is counted by the runner
EXAMPLES = 5
SLOWEST, FASTEST = 0.01, 100_000.0
Told = dict[str, list[Any]]  # what changed, for the audit
_jobs = Notifier(JOBS)


@dataclass(frozen=True, slots=True)
class Preview:
    """What a job would do: to how many, in which states (of the first COUNTED), and to what for example."""

    count: int
    is_exact: bool
    states: dict[str, int]
    examples: list[Delivery]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is: in percent, how many a second so far, how many are left, and when it will end if so."""

    percent: float | None
    rate: float | None
    left: int | None
    ends_at: datetime | None


def preview(action: str, given: Any, *, by: Principal, everything: bool = False) -> Preview:
    """Return what a job would do now; raises as `create` does."""
    selection = _selection(action, given, by, everything=everything)
    states, is_all = selection.states(COUNTED + 1)
    count = sum(states.values())
    shown = {state: min(number, COUNTED) for state, number in states.items()}
    return Preview(min(count, COUNTED), is_all and count <= COUNTED, shown, selection.examples(EXAMPLES))


def create(
    action: str, given: Any, *, by: Principal, rate_per_s: float | None = None, everything: bool = False
) -> tuple[Job, bool]:
    """Make a job, and return it with True; or the open one of the same action and filter, with False.

    `given` is {filter: value or values}, as the list of deliveries takes them; an empty one
    needs `everything`. Raises Forbidden, or Malformed naming each field at fault.
    """
    selection = _selection(action, given, by, everything=everything)
    rate_per_s = _checked(rate_per_s)
    teams = None if by.team_ids is None else sorted(by.team_ids)
    mark = orjson.dumps([action, selection.filter, teams], option=orjson.OPT_SORT_KEYS)
    fingerprint = hashlib.sha256(mark).hexdigest()
    if found := _open(fingerprint):
        return found, False
    states, is_all = selection.states(COUNTED + 1)
    count = sum(states.values())
    job = Job(
        action=action,
        filter=selection.filter,
        rate_per_s=rate_per_s,
        total=count if is_all and count <= COUNTED else None,  # else the runner counts them
        upto=selection.upto,
        fingerprint=fingerprint,
        team_ids=teams,
        created_by=by.label[:200],
        created_at=selection.before,
        next_at=selection.before,
    )
    return insert(job, {"total": [None, job.total], "rate_per_s": [None, rate_per_s]}, by=by)


def insert(job: Job, told: Told, *, by: Principal) -> tuple[Job, bool]:
    """Store a new job on the record and wake who works it; or return the open one that does the same, with False."""
    try:
        with transaction.atomic():
            job.save(force_insert=True)
            audit.record(by, "job_create", job, {"action": [None, job.action], "filter": [None, job.filter]} | told)
            transaction.on_commit(_jobs.notify)
    except IntegrityError:  # made by somebody else since we looked
        found = _open(job.fingerprint)
        if found is None:
            raise
        return found, False
    return job, True


def pause(job: Job, *, by: Principal) -> Job:
    """Do no further batch until it is resumed; raises Forbidden, or Conflict when it is not running."""

    def change(held: Job, now: datetime) -> Told:
        held.paused_at = now
        return _to(held, JobState.PAUSED)

    return _change(job, by, "job_pause", (JobState.RUNNING,), change)


def resume(job: Job, *, by: Principal) -> Job:
    """Go on; raises Forbidden, or Conflict when it is not paused."""

    def change(held: Job, now: datetime) -> Told:
        held.paused_s += (now - (held.paused_at or now)).total_seconds()
        held.paused_at, held.next_at = None, now
        return _to(held, JobState.RUNNING)

    return _change(job, by, "job_resume", (JobState.PAUSED,), change)


def cancel(job: Job, *, by: Principal) -> Job:
    """End it where it is; what it did stays done. Raises Forbidden, or Conflict when it has ended already."""

    def change(held: Job, now: datetime) -> Told:
        held.finished_at = now
        return _to(held, JobState.CANCELLED)

    return _change(job, by, "job_cancel", OPEN_JOBS, change)


def set_rate(job: Job, rate_per_s: float | None, *, by: Principal) -> Job:
    """Let it do so many a second from now on (None: as fast as it goes); raises Forbidden, Malformed, Conflict."""
    checked = _checked(rate_per_s)

    def change(held: Job, now: datetime) -> Told:
        told = {"rate_per_s": [held.rate_per_s, checked]}
        held.rate_per_s, held.next_at = checked, now
        return told

    return _change(job, by, "job_rate", OPEN_JOBS, change)


def progress(job: Job, now: datetime) -> Progress:
    """Return how far a job is at `now`."""
    worked = job.done + job.passed_over
    left = None if job.total is None else max(0, job.total - worked)
    if job.state == JobState.DONE:
        left = 0
    percent = None
    if job.state == JobState.DONE:
        percent = 100.0
    elif job.total is not None:
        percent = 100.0 * min(1.0, worked / job.total) if job.total else 0.0
    spent_s = _spent_s(job, now)
    rate = worked / spent_s if worked and spent_s and spent_s > 0 else None
    expected = job.rate_per_s if rate is None or job.rate_per_s is None else min(rate * 1.5, job.rate_per_s)
    speed = expected or rate
    ends_at = None
    if job.state == JobState.RUNNING and left is not None and speed:
        ends_at = now + timedelta(seconds=min(left / speed, 10 * 365 * 86400.0))
    return Progress(percent, rate, left, ends_at if job.finished_at is None else job.finished_at)


def _spent_s(job: Job, now: datetime) -> float | None:
    """Return for how long a job has worked, its pauses left out."""
    if job.started_at is None:
        return None
    end = job.finished_at or job.paused_at or now
    return max(0.0, (end - job.started_at).total_seconds() - job.paused_s)


def action_named(name: Any) -> Action:
    """Return an action of the table; raises Malformed naming those there are."""
    found = ACTIONS.get(name) if isinstance(name, str) else None
    if found is None:
        _refuse("action", f"must be one of {', '.join(ACTIONS)}.")
    assert found is not None
    return found


def _selection(name: Any, given: Any, by: Principal, *, everything: bool) -> Selection:
    roles.demand(by, "operator")
    action, lists = action_named(name), _lists(given)
    if not lists and not everything:
        _refuse("filter", 'is empty; to mean every delivery there is, say so ("all": true, or --all).', "required")
    if action is ACTIONS[JobAction.REPLAY]:
        _keep_to_own(lists, by)
    newest = Message.objects.order_by("-position").values_list("position", flat=True).first()
    selection = Selection(action, lists, by, newest or 0, store.now())
    selection.rows()  # raises for what does not parse
    return selection


def _keep_to_own(lists: dict[str, list[str]], by: Principal) -> None:
    """Hold what makes new messages to the system that a bound key speaks as; raises Forbidden for another."""
    own = [by.system_slug]
    if by.system_slug and lists.setdefault("source_system", own) != own:
        raise Forbidden(f"this key speaks only as {by.system_slug}", code="wrong_source")


def _lists(given: Any) -> dict[str, list[str]]:
    """Return a filter as {name: [value, ...]}, sorted, so that what means the same is the same."""
    if not isinstance(given, Mapping):
        _refuse("filter", 'must be an object, such as {"state": "dead", "system": "crm"}.')
    refuse_names(given, DELIVERIES, "filter")
    lists: dict[str, list[str]] = {}
    for name in sorted(given):
        values = given[name] if isinstance(given[name], list) else [given[name]]
        if not values or not all(isinstance(value, str) for value in values):
            _refuse(name, "must be a text or a list of texts.")
        parts = [part.strip() for value in values for part in (value.split(",") if DELIVERIES[name].many else [value])]
        lists[name] = sorted(set(parts)) if DELIVERIES[name].many else parts
    return lists


def _checked(rate_per_s: Any) -> float | None:
    if rate_per_s is None:
        return None
    is_number = isinstance(rate_per_s, int | float) and not isinstance(rate_per_s, bool) and math.isfinite(rate_per_s)
    if not (is_number and SLOWEST <= rate_per_s <= FASTEST):
        _refuse("rate_per_s", f"must be a number of {SLOWEST:g} to {FASTEST:,.0f}, or null for as fast as it goes.")
    return float(rate_per_s)


def _refuse(field: str, detail: str, code: str = "invalid") -> None:
    raise Malformed(f"{field}: {detail}", errors=[{"field": field, "code": code, "detail": detail}])


def _open(fingerprint: str) -> Job | None:
    found: Job | None = Job.objects.filter(fingerprint=fingerprint, state__in=OPEN_JOBS).first()
    return found


def _change(
    job: Job, by: Principal, name: str, states: Collection[str], change: Callable[[Job, datetime], Told]
) -> Job:
    """Change an open job in one transaction with its audit; the batch in hand ends before."""
    roles.demand(by, "operator")
    with transaction.atomic():
        held = Job.objects.select_for_update().get(pk=job.pk)
        if held.state not in states:
            raise Conflict(f"the job is {held.state}", code="wrong_state")
        told = change(held, store.now())
        held.save()
        audit.record(by, name, held, told)
        transaction.on_commit(_jobs.notify)
    return held


def _to(job: Job, state: str) -> Told:
    """Put a job into a state; whoever has it in hand finds its lease gone."""
    told = {"state": [job.state, state]}
    job.state, job.lease_token, job.lease_until = state, None, None
    return told
