"""Jobs that index business keys backwards: made when a system's keys were changed, worked off by the runner."""

import hashlib
from datetime import datetime, timedelta

import orjson
from django.db.models import Q

from endpoints.access import roles
from endpoints.access.principal import COMMAND, Principal
from endpoints.models import AuditEntry, System
from messaging import store
from messaging.jobs.runner import work_off
from messaging.models import OPEN_JOBS, Job, JobAction, Message
from messaging.services import jobs

LOOK_BACK = timedelta(days=7)  # for so long the worker may have been down


def wanted() -> list[tuple[System, AuditEntry]]:
    """Return the systems whose keys were changed lately, and not indexed since, with who changed them."""
    lately = AuditEntry.objects.filter(at__gte=store.now() - LOOK_BACK, object_type="system", action="update")
    entries = lately.filter(changes__has_key="search_keys").order_by("at", "id")
    latest = {entry.object_id: entry for entry in entries}
    systems = System.objects.filter(pk__in=[int(pk) for pk in latest]).exclude(search_keys=[]).order_by("pk")
    pairs = [(system, latest[str(system.pk)]) for system in systems]
    return [(system, entry) for system, entry in pairs if not _is_indexed(system, entry.at)]


def _is_indexed(system: System, at: datetime) -> bool:
    made = Job.objects.filter(action=JobAction.INDEX, fingerprint=_fingerprint(system))
    return made.filter(Q(created_at__gte=at) | Q(state__in=OPEN_JOBS)).exists()


def start(system: System, *, by: Principal) -> Job:
    """Make the job that indexes the messages a system has sent so far; return the open one if there is one.

    Raises Forbidden.
    """
    roles.demand(by, "operator")
    newest = Message.objects.order_by("-position").values_list("position", flat=True).first()
    now = store.now()
    job = Job(
        action=JobAction.INDEX,
        filter={"source_system": [system.slug]},
        upto=newest or 0,
        fingerprint=_fingerprint(system),
        team_ids=None if by.team_ids is None else sorted(by.team_ids),
        created_by=by.label[:200],
        created_at=now,
        next_at=now,
    )
    return jobs.insert(job, {}, by=by)[0]


def sweep() -> int:
    """Make the jobs that are wanted; return how many. The runner works them off like any other."""
    found = wanted()
    for system, entry in found:
        start(system, by=Principal(label=entry.actor, role="operator", via="job"))
    return len(found)


def index_now(system: System) -> Job:
    """Make the job, do it here, and return it as it is then."""
    job = start(system, by=COMMAND)
    work_off(job.pk)
    job.refresh_from_db()
    return job


def _fingerprint(system: System) -> str:
    """Return what two jobs have alike that would do the same."""
    mark = orjson.dumps([JobAction.INDEX.value, system.slug, system.search_keys], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(mark).hexdigest()
