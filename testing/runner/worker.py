"""The worker's side of runs: takes what waits, one thread with an event loop of its own, and sweeps what was lost."""

import asyncio
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
import uvloop
from django.db import Error as DatabaseError
from django.db import connection

from endpoints.edge.database_threads import DatabaseThreads
from testing.models import Run, Verdict
from testing.runner import leases
from testing.runner.execute import Execution
from testing.runner.results import RunResult

log = structlog.get_logger(__name__)

IDLE_S = 1.0
SWEEP_EVERY = 5  # looks
AT_ONCE = 4  # runs in one worker
STOP_S = 15.0


class Worker:
    """Works runs until `stop`; those under way then end as errored, their cleanups done."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="runs", daemon=True)
        self._under_way: dict[asyncio.Task[RunResult | None], Execution] = {}

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Begin no other run, and wait for those under way to clean up."""
        self._stopping.set()
        self._thread.join(STOP_S)

    def _run(self) -> None:
        uvloop.run(self._work())
        connection.close()

    async def _work(self) -> None:
        database, looks = DatabaseThreads("runs"), 0
        while not self._stopping.is_set():
            run = None
            if len(self._under_way) < AT_ONCE:
                run = await self._take(database, sweeps=looks % SWEEP_EVERY == 0)
                looks += 1
            if run is None:
                await asyncio.sleep(IDLE_S)
            else:
                self._begin(run)
        for execution in self._under_way.values():
            execution.stop("the worker was stopped", Verdict.ERRORED)
        if self._under_way:
            await asyncio.wait(list(self._under_way))
        database.shutdown()

    async def _take(self, database: DatabaseThreads, *, sweeps: bool) -> Run | None:
        try:
            return await database.run(_next, sweeps)
        except DatabaseError as exc:  # it may come back
            log.warning("runs_wait_for_database", error=str(exc))
            return None

    def _begin(self, run: Run) -> None:
        assert run.lease_token is not None
        execution = Execution(run, run.lease_token)
        task = asyncio.ensure_future(execution.work())
        self._under_way[task] = execution
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[RunResult | None]") -> None:
        """Let go of a run; one whose verdict could not be written is ended by the sweep."""
        del self._under_way[task]
        if error := task.exception():
            log.error("run_not_ended", error=str(error))


def _next(sweeps: bool) -> Run | None:
    if sweeps:
        leases.sweep()
    return leases.take_next(uuid.uuid4())


@contextmanager
def running() -> Iterator[None]:
    """Work runs while the block runs."""
    worker = Worker()
    worker.start()
    try:
        yield
    finally:
        worker.stop()
