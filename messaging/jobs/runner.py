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
from messaging.jobs.actions import ACTIONS
from messaging.jobs.ahead import Ahead
from messaging.jobs.keys import KeySelection
from messaging.jobs.selection import OTHERS, Selection, principal_of, selection_of
from messaging.models import Job, JobState
from messaging.pace import MOST, Pace
from messaging.wakeups import DUE, JOBS, Listener, Notifier

log = structlog.get_logger(__name__)

IDLE_S = 1.0
TURN_S = 1.0  # one job's, while others wait
FEWEST = 200  # rows a transaction: what it costs beside them is as much as so many
SEEN_FOR_S = 5.0  # what was found is not looked for again; in what state it is, each batch looks anyway
STOP_S = 10.0  # a database that hangs must not hold the end of this process; it takes back what is not committed
SHORTEST_S = 0.05
LONGEST_LEASE_S = 10.0
BATCH_S = 0.2  # of a job with a rate: small batches, evenly
# Of what is no action of the table somebody else takes care.
IS_FREE = Q(state=JobState.RUNNING, action__in=[*ACTIONS, *OTHERS]) & (
    Q(lease_until__isnull=True) | Q(lease_until__lt=Now())
)
_due = Notifier(DUE)


class Runner:
    """Works jobs in its own thread; `stop` lets the batch in hand end."""

    def __init__(self) -> None:
        self._is_stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listener = Listener(JOBS)
        self._turn: Turn | None = None
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)

    def start(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread.start()

    def stop(self) -> None:
        """End after the batch in hand; blocks until that is committed, or for STOP_S."""
        assert self._loop is not None
        self._is_stopping.set()
        self._loop.call_soon_threadsafe(self._listener.event.set)
        self._thread.join(STOP_S)
        if not self._thread.is_alive():
            self._loop.close()

    def _run(self) -> None:
        assert self._loop is not None
        self._loop.run_until_complete(self._listener.open())
        while not self._is_stopping.is_set():
            try:
                wait_s = self.step()
            except DatabaseError as exc:  # it may come back
                log.warning("jobs_wait_for_database", error=str(exc))
                connection.close()
                wait_s = IDLE_S
            except Exception as exc:  # whatever it was, the other jobs go on
                log.exception("job_failed", error=str(exc))
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
        if self._turn is None or self._turn.pk != pk:
            self._turn = Turn(pk)
        turn, until = self._turn, time.monotonic() + TURN_S
        turn.begin(token)
        try:
            while turn.do_batch(is_last=time.monotonic() > until or self._is_stopping.is_set()):
                pass
        except DatabaseError:
            self._turn = None
            raise  # it may pass; the lease runs out and the job goes on
        except Exception as exc:
            _fail(pk, token, exc)
            raise
        return 0.0


def work_off(pk: uuid.UUID) -> None:
    """Do one job here and now, to its end; leaves alone what is paused, or what another runner has."""
    token, turn = uuid.uuid4(), Turn(pk)
    if _lease(pk, token):
        turn.begin(token)
        while turn.do_batch(is_last=False):
            pass


def _lease(pk: uuid.UUID, token: uuid.UUID) -> bool:
    started = Coalesce(F("started_at"), Now())
    free = Job.objects.filter(IS_FREE, pk=pk)
    return bool(free.update(lease_token=token, lease_until=Now() + _lease_length(), started_at=started))


def _lease_length() -> timedelta:
    return timedelta(seconds=min(LONGEST_LEASE_S, settings.ENV.lease_s))


class Turn:
    """What one runner does of one job before others have theirs: it looks far ahead, and goes in short transactions."""

    def __init__(self, pk: uuid.UUID) -> None:
        self.pk = pk
        self._pace = Pace(FEWEST)
        self._selection: Selection | KeySelection | None = None
        self._place = ""
        self._rest: Ahead | None = None  # seen behind the place
        self._seen_at = 0.0

    def begin(self, token: uuid.UUID) -> None:
        """Go on under another lease; what was seen long ago is looked at anew."""
        self._ours = Job.objects.filter(pk=self.pk, lease_token=token, state=JobState.RUNNING)
        if time.monotonic() - self._seen_at > SEEN_FOR_S:
            self._rest = None

    def do_batch(self, *, is_last: bool) -> bool:
        """Do the next batch; return whether the job is still ours to go on with."""
        if self._rest is None and not self._look():
            return False
        assert self._selection is not None
        assert self._rest is not None
        selection = self._selection
        with transaction.atomic():
            started = time.monotonic()  # what it waited for the lock before is no reason to go slower
            held = self._ours.select_for_update().first()
            if held is None or held.place != self._place:
                self._rest = None  # paused or taken over; or another runner had a turn since
                return held is not None
            whole = selection.action.whole_messages
            part, self._rest = self._rest.split(_allowed(held, BATCH_S, self._pace.rows), whole_messages=whole)
            self._place = part.place
            is_held = _act(held, selection, part, is_last=is_last)
        if selection.action.wakes and part.rows:
            _due.notify()
        self._pace.took(time.monotonic() - started)
        return is_held

    def _look(self) -> bool:
        """See what is behind the place, outside of any transaction; return whether the job is ours."""
        job = self._ours.first()
        if job is None:
            return False
        self._selection, self._place, self._seen_at = selection_of(job), job.place, time.monotonic()
        if job.total is None:  # too many to be counted while somebody waited
            Job.objects.filter(pk=job.pk).update(total=job.done + job.passed_over + self._selection.count(None))
        self._rest = self._selection.ahead(job.place, _allowed(job, SEEN_FOR_S, MOST))
        return True


def _allowed(job: Job, seconds: float, most: int) -> int:
    """Return how many rows a job may do in so many seconds, `most` at most and one at least."""
    return most if job.rate_per_s is None else min(most, max(1, int(job.rate_per_s * seconds)))


def _act(job: Job, selection: Selection | KeySelection, ahead: Ahead, *, is_last: bool) -> bool:
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
            *("done", "passed_over", "place", "next_at", "state", "finished_at"),
            *("lease_token", "lease_until"),
        ]
    )
    return is_held


def _next_at(job: Job, acted: int, now: datetime) -> datetime:
    """Return when the next batch may go: what `acted` takes at the job's rate, from when this one might have gone."""
    if job.rate_per_s is None:
        return now
    return max(job.next_at, now - timedelta(seconds=BATCH_S)) + timedelta(seconds=acted / job.rate_per_s)


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
