"""Jobs that index business keys backwards: made when a system's keys were changed, worked off in bounded steps."""

import hashlib
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta

import orjson
from django.db import IntegrityError, transaction
from django.db.models import Q

from endpoints.access import audit
from endpoints.access.principal import COMMAND, Principal
from endpoints.errors import Forbidden
from endpoints.models import AuditEntry, System
from messaging import store
from messaging.intake.indexing import index_step
from messaging.models import OPEN_JOBS, Job, JobAction, JobState, Message

BATCH = 200
LEASE = timedelta(seconds=60)
LOOK_BACK = timedelta(days=7)  # for so long the worker may have been down
Told = Callable[[Job], None]


def wanted() -> list[tuple[System, AuditEntry]]:
    """Return the systems whose keys were changed lately, and not indexed since, with who changed them."""
    lately = AuditEntry.objects.filter(at__gte=store.now() - LOOK_BACK, object_type="system", action="update")
    entries = lately.filter(changes__has_key="search_keys").order_by("at", "id")
    latest = {entry.object_id: entry for entry in entries}
    systems = System.objects.filter(pk__in=[int(pk) for pk in latest]).exclude(search_keys=[]).order_by("pk")
    pairs = [(system, latest[str(system.pk)]) for system in systems]
    return [(system, entry) for system, entry in pairs if not _is_indexed(system, entry.at)]


def _is_indexed(system: System, at: datetime) -> bool:
    jobs = Job.objects.filter(action=JobAction.INDEX, fingerprint=_fingerprint(system))
    return jobs.filter(Q(created_at__gte=at) | Q(state__in=OPEN_JOBS)).exists()


def start(system: System, *, by: Principal) -> Job:
    """Make the job that indexes the messages a system has sent so far; return the open one if there is one.

    Raises Forbidden.
    """
    if not by.may("operator"):
        raise Forbidden("this needs the role operator")
    fingerprint = _fingerprint(system)
    newest = Message.objects.order_by("-position").values_list("position", flat=True).first()
    now = store.now()
    job = Job(
        action=JobAction.INDEX,
        filter={"source_system": [system.slug]},
        upto=newest or 0,
        fingerprint=fingerprint,
        team_ids=None if by.team_ids is None else sorted(by.team_ids),
        created_by=by.label[:200],
        created_at=now,
        next_at=now,
    )
    try:
        with transaction.atomic():
            job.save(force_insert=True)
            told = {"action": [None, job.action], "filter": [None, job.filter]}
            audit.record(by, "job_create", job, told)
    except IntegrityError:
        return Job.objects.get(fingerprint=fingerprint, state__in=OPEN_JOBS)
    return job


def sweep() -> int:
    """Make the jobs that are wanted, and work off what is open and nobody works at; return how many jobs ended."""
    for system, entry in wanted():
        start(system, by=Principal(label=entry.actor, role="operator", via="job"))
    waiting = Job.objects.filter(action=JobAction.INDEX, state=JobState.RUNNING).order_by("created_at")
    return sum(work(job) for job in waiting)


def work(job: Job, told: Told = lambda job: None) -> bool:
    """Do a job to its end, unless somebody else is at it or pauses it; return whether it is done."""
    token, now = uuid.uuid4(), store.now()
    free = Q(lease_until__isnull=True) | Q(lease_until__lt=now)
    mine = Job.objects.filter(free, pk=job.pk, state=JobState.RUNNING)
    if not mine.update(lease_token=token, lease_until=now + LEASE, started_at=job.started_at or now):
        return False
    while _step(job, token):
        told(job)
    return job.state == JobState.DONE


def _step(job: Job, token: uuid.UUID) -> bool:
    """Do one batch and move the job on in the same transaction; return whether there is more of it for us."""
    with transaction.atomic():
        held = Job.objects.select_for_update().filter(pk=job.pk, lease_token=token, state=JobState.RUNNING).first()
        if held is None:
            job.refresh_from_db()
            return False
        job.place, looked_at = index_step(held, held.place, BATCH)
        job.done, now = held.done + looked_at, store.now()
        job.lease_token, job.lease_until = token, now + LEASE
        if looked_at < BATCH:
            job.state, job.finished_at = JobState.DONE, now
            job.total, job.lease_token, job.lease_until = job.done, None, None
            by = Principal(label=held.created_by, role="operator", via="job")
            audit.record(by, "job_done", job, {"done": [0, job.done]})
        job.save(update_fields=["place", "done", "total", "state", "finished_at", "lease_token", "lease_until"])
    return job.state == JobState.RUNNING


def _fingerprint(system: System) -> str:
    """Return what two jobs have alike that would do the same."""
    mark = orjson.dumps([JobAction.INDEX.value, system.slug, system.search_keys], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(mark).hexdigest()


def index_now(system: System, told: Told) -> Job:
    """Make the job and do it here."""
    job = start(system, by=COMMAND)
    work(job, told)
    return job
