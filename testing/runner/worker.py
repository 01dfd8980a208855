"""The worker's side of runs: takes what waits, one thread with an event loop of its own, and sweeps what was lost."""

import asyncio
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import structlog
import uvloop
from django.db import Error as DatabaseError
from django.db import connection

from endpoints.edge.database_threads import DatabaseThreads
from messaging.wakeups import Listener
from testing.models import Run, Share, Verdict
from testing.runner import leases, sharing
from testing.runner.execute import Execution
from testing.runner.looking import Look, look
from testing.runner.results import RunResult
from testing.runner.shares import ShareExecution
from testing.wakeups import RUNS

log = structlog.get_logger(__name__)

IDLE_S = 1.0
SHORTEST_S = 0.05  # between two looks, however many hints come
AT_ONCE = 4  # runs in one worker; shares count apart, or runs that wait for theirs would leave no room for them
STOP_S = 15.0

Clock = Callable[[Look], None]


class Worker:
    """Works runs until `stop`; those under way then end as errored, their cleanups done.

    `locations` are those whose runs it takes. A `clock` is told when a schedule is due or
    a system changed, and makes the runs; any number of workers may keep one. `died` is told
    when the thread ends though nobody stopped it.
    """

    def __init__(
        self, locations: Sequence[str] = ("",), clock: Clock | None = None, died: Callable[[], None] | None = None
    ) -> None:
        self._locations, self._clock, self._died = tuple(locations), clock, died
        self._stopping = threading.Event()
        self._listener = Listener(RUNS)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="runs", daemon=True)
        self._under_way: dict[asyncio.Task[RunResult | None], Execution] = {}

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Begin no other run, and wait for those under way to clean up."""
        self._stopping.set()
        self.wake()
        self._thread.join(STOP_S)

    def wake(self) -> None:
        """Look now; from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._listener.hint)

    def _run(self) -> None:
        try:
            uvloop.run(self._work())
        finally:
            connection.close()
            if self._died is not None and not self._stopping.is_set():
                log.critical("runs_are_no_longer_worked")
                self._died()

    async def _work(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._listener.open()
        database = DatabaseThreads("runs")
        while not self._stopping.is_set():
            if (found := await self._take(database)) is not None:
                self._begin(found)
            else:
                await self._listener.wait(IDLE_S)
                await asyncio.sleep(SHORTEST_S)
        self._listener.close()
        for execution in self._under_way.values():
            execution.stop("the worker was stopped", Verdict.ERRORED)
        if self._under_way:
            await asyncio.wait(list(self._under_way))
        database.shutdown()

    async def _take(self, database: DatabaseThreads) -> Run | Share | None:
        shares = [execution for execution in self._under_way.values() if isinstance(execution, ShareExecution)]
        # What only waits takes up no room: the run that holds its lock may need that to go on. There is at most
        # one share of each run here, and each worker leads few: so there are not many that wait.
        has_room = sum(not share.only_waits for share in shares) < AT_ONCE
        runs = len(self._under_way) - len(shares)
        if runs >= AT_ONCE and not has_room:
            return None
        shared = [share.run.pk for share in shares] if has_room else None
        try:
            return await database.run(_next, self._locations, self._clock, runs < AT_ONCE, shared)
        except DatabaseError as exc:  # it may come back
            log.warning("runs_wait_for_database", error=str(exc))
        except Exception:  # the next look tries again
            log.exception("look_failed")
        return None

    def _begin(self, found: Run | Share) -> None:
        assert found.lease_token is not None
        execution = ShareExecution(found) if isinstance(found, Share) else Execution(found, found.lease_token)
        task = asyncio.ensure_future(execution.work())
        self._under_way[task] = execution
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[RunResult | None]") -> None:
        """Let go of a run; one whose verdict could not be written is ended by the sweep."""
        del self._under_way[task]
        self._listener.hint()  # there is room for another
        if error := task.exception():
            log.error("run_not_ended", error=str(error))


def _next(
    locations: Sequence[str], clock: Clock | None, has_room: bool, shared: Sequence[uuid.UUID] | None
) -> Run | Share | None:
    """Look, do what any worker may, and take a run or a share; the one look is all that an idle worker asks.

    `shared` are the runs that this worker has a share of already; None: it takes no other.
    """
    found = look(locations)
    if found.lost:
        leases.sweep()
        leases.give_up_waiting()
        sharing.sweep()
    if clock is not None and (found.due or found.changed):
        clock(found)
    if found.lost or found.due or found.changed:
        found = look(locations)
    if found.shares and shared is not None and (share := sharing.take(uuid.uuid4(), locations, shared)) is not None:
        return share
    return leases.take_next(uuid.uuid4(), locations) if found.runs and has_room else None


_running: Worker | None = None


def wake() -> None:
    """Let the worker of this process look now."""
    if _running is not None:
        _running.wake()


@contextmanager
def running(
    locations: Sequence[str] = ("",), clock: Clock | None = None, died: Callable[[], None] | None = None
) -> Iterator[None]:
    """Work runs while the block runs."""
    global _running
    _running = worker = Worker(locations, clock, died)
    worker.start()
    try:
        yield
    finally:
        worker.stop()
        _running = None
