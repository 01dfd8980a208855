"""The runner of jobs: takes the job whose turn it is, does a batch of it, and moves it on in the same transaction.

A process that is killed loses nothing but its lease: what a batch did and the place
behind it are committed together, so each delivery is done once. Any number of runners
may work; a job has one at a time, and whoever comes after a lost one goes on at the place.
"""

import asyncio
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection, transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Now

from endpoints.access import audit
from messaging import store
from messaging.jobs.selection import Ahead, Selection, principal_of, selection_of
from messaging.models import Job, JobState
from messaging.pace import Pace
from messaging.wakeups import DUE, JOBS, Listener, Notifier

log = structlog.get_logger(__name__)

IDLE_S = 1.0
TURN_S = 1.0  # one job's, while others wait
SHORTEST_S = 0.05
LONGEST_LEASE_S = 10.0
BATCHES_PER_S = 5  # of a job with a rate: small ones, evenly
IS_FREE = Q(state=JobState.RUNNING) & (Q(lease_until__isnull=True) | Q(lease_until__lt=Now()))
_due = Notifier(DUE)


class Runner:
    """Works jobs in its own thread; `stop` lets the batch in hand end."""

    def __init__(self) -> None:
        self._is_stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listener = Listener(JOBS)
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)

    def start(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread.start()

    def stop(self) -> None:
        """End after the batch in hand; blocks until that is committed."""
        assert self._loop is not None
        self._is_stopping.set()
        self._loop.call_soon_threadsafe(self._listener.event.set)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        assert self._loop is not None
        self._loop.run_until_complete(self._listener.open())
        while not self._is_stopping.is_set():
            try:
                wait_s = self.step()
            except Exception as exc:  # whatever it was, the other jobs go on
                log.exception("jobs_failed", error=str(exc))
                connection.close()
                wait_s = IDLE_S
            if wait_s > 0:
                self._loop.run_until_complete(self._listener.wait(wait_s))
        self._listener.close()
        connection.close()

    def step(self) -> float:
        """Work the job whose turn it is for a while; return for how many seconds there is nothing to do."""
        waiting = Job.objects.filter(IS_FREE).order_by("next_at").annotate(now=Now())
        first = waiting.values_list("pk", "next_at", "now").first()
        if first is None:
            return IDLE_S
        pk, next_at, now = first
        if (wait_s := (next_at - now).total_seconds()) > 0:
            return min(IDLE_S, wait_s)
        token = uuid.uuid4()
        if not _lease(pk, token):
            return SHORTEST_S  # another runner has it
        try:
            self._work(pk, token)
        except DatabaseError:
            raise  # it may pass; the lease runs out and the job goes on
        except Exception as exc:
            _fail(pk, token, exc)
            raise
        return 0.0

    def _work(self, pk: uuid.UUID, token: uuid.UUID) -> None:
        pace, until = Pace(), time.monotonic() + TURN_S
        is_held = True
        while is_held:
            is_last = time.monotonic() > until or self._is_stopping.is_set()
            is_held = _do_batch(pk, token, pace, is_last=is_last)


def _lease(pk: uuid.UUID, token: uuid.UUID) -> bool:
    started = Coalesce(F("started_at"), Now())
    free = Job.objects.filter(IS_FREE, pk=pk)
    return bool(free.update(lease_token=token, lease_until=Now() + _lease_length(), started_at=started))


def _lease_length() -> timedelta:
    return timedelta(seconds=min(LONGEST_LEASE_S, settings.ENV.lease_s))


def _do_batch(pk: uuid.UUID, token: uuid.UUID, pace: Pace, *, is_last: bool) -> bool:
    """Do the next batch; return whether the job is still ours to go on with."""
    job = Job.objects.filter(pk=pk, lease_token=token, state=JobState.RUNNING).first()
    if job is None:
        return False
    selection = selection_of(job)
    if job.total is None:  # too many to be counted while somebody waited
        Job.objects.filter(pk=pk).update(total=job.done + job.passed_over + selection.count(None))
    ahead = selection.ahead(job.place, _size(job, pace))
    started = time.monotonic()
    with transaction.atomic():
        locked = Job.objects.select_for_update().filter(pk=pk, lease_token=token, state=JobState.RUNNING)
        held = locked.first()
        if held is None or held.place != job.place:
            return False
        is_held = _act(held, selection, ahead, is_last=is_last)
    if selection.action.wakes and ahead.ids:
        _due.notify()
    pace.took(time.monotonic() - started)
    return is_held


def _size(job: Job, pace: Pace) -> int:
    if job.rate_per_s is None:
        return pace.rows
    return min(pace.rows, max(1, int(job.rate_per_s / BATCHES_PER_S)))


def _act(job: Job, selection: Selection, ahead: Ahead, *, is_last: bool) -> bool:
    """Do the action to what is ahead and move the job behind it; return whether it is still ours."""
    acted = selection.action.act(ahead.ids, selection.before, selection.principal) if ahead.ids else 0
    now = store.now()
    job.done += acted
    job.passed_over += len(ahead.ids) - acted
    job.place = ahead.place
    job.next_at = _next_at(job, acted, now)
    if not ahead.more:
        _finish(job, now)
    is_held = ahead.more and job.next_at <= now and not is_last
    job.lease_token = job.lease_token if is_held else None
    job.lease_until = now + _lease_length() if is_held else None
    job.save(
        update_fields=[
            *("done", "passed_over", "place", "next_at", "state", "finished_at", "total"),
            *("lease_token", "lease_until"),
        ]
    )
    return is_held


def _next_at(job: Job, acted: int, now: datetime) -> datetime:
    """Return when the next batch may go: what `acted` takes at the job's rate, from when this one might have gone."""
    if job.rate_per_s is None:
        return now
    return max(job.next_at, now - timedelta(seconds=1 / BATCHES_PER_S)) + timedelta(seconds=acted / job.rate_per_s)


def _finish(job: Job, now: datetime) -> None:
    """End a job; what it found when it was made and not any more has moved on by itself."""
    job.state, job.finished_at = JobState.DONE, now
    if job.total is not None:
        job.passed_over = max(job.passed_over, job.total - job.done)
    told = {"state": [JobState.RUNNING.value, JobState.DONE.value], "done": [0, job.done]}
    audit.record(principal_of(job), "job_done", job, told | {"passed_over": [0, job.passed_over]})


def _fail(pk: uuid.UUID, token: uuid.UUID, exc: Exception) -> None:
    """End a job that cannot go on; what it did stays done, and a new one goes on with the rest."""
    with transaction.atomic():
        job = Job.objects.select_for_update().filter(pk=pk, lease_token=token, state=JobState.RUNNING).first()
        if job is None:
            return
        job.state, job.finished_at, job.error = JobState.FAILED, store.now(), f"{type(exc).__name__}: {exc}"[:500]
        job.lease_token = job.lease_until = None
        job.save()
        audit.record(principal_of(job), "job_failed", job, {"error": ["", job.error]})


@contextmanager
def running() -> Iterator[None]:
    """Work jobs beside whatever this process does."""
    runner = Runner()
    runner.start()
    try:
        yield
    finally:
        runner.stop()
