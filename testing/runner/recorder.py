"""Writes down what came of cases: many at a time, in a thread of its own, nothing secret in it."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import structlog
from django.db import Error as DatabaseError
from django.db import transaction

from endpoints.edge.database_threads import DatabaseThreads
from testing.errors import Unwritten
from testing.models import Attempt, CaseRun, LoadResult, Part, Run, StepRun
from testing.runner.holding import Hold
from testing.runner.keeping import attempt_row, stored_text, stored_value
from testing.runner.masking import Masker
from testing.runner.results import AttemptResult, CaseResult, StepResult

EVERY_S = 0.2
MOST_AT_ONCE = 200
TRIES, AGAIN_S = 10, 1.0

log = structlog.get_logger(__name__)


class Recorder:
    """Takes results as they come; `aclose` returns once all are committed, or the right to write them is lost.

    It raises Unwritten when the database refuses them for too long.
    """

    def __init__(self, run: Run, masker: Masker, hold: Hold) -> None:
        self._run, self._masker, self._hold = run, masker, hold
        self._waiting: list[CaseResult] = []
        self._turn = asyncio.Lock()
        self._database = DatabaseThreads("recorder")
        self._task = asyncio.ensure_future(self._write_now_and_then())
        self._full = asyncio.Event()
        self._is_in_doubt = False  # once a write went wrong: its commit may stand all the same

    def take(self, result: CaseResult) -> None:
        """Take what came of a case; its reason is masked at once, since whoever watches is told it, too."""
        result.reason = self._masker.told(result.reason)
        self._waiting.append(result)
        if len(self._waiting) >= MOST_AT_ONCE:
            self._full.set()

    async def aclose(self) -> None:
        """Write what is left."""
        self._task.cancel()
        await asyncio.wait({self._task})
        try:
            await self.flush()
        finally:
            await asyncio.to_thread(self._database.shutdown)
        if not self._task.cancelled() and (failed := self._task.exception()):
            raise failed

    async def _write_now_and_then(self) -> None:
        while True:
            try:
                async with asyncio.timeout(EVERY_S):
                    await self._full.wait()
            except TimeoutError:
                pass
            self._full.clear()
            await asyncio.shield(self._write())

    async def flush(self) -> None:
        """Write what waits; a database that is away is waited for, for a while. Raises Unwritten."""
        for _ in range(TRIES):
            await self._write()
            if not self._waiting:
                return
            await asyncio.sleep(AGAIN_S)
        raise Unwritten(f"the database did not take the results of {len(self._waiting)} cases")

    async def _write(self) -> None:
        async with self._turn:
            taken, self._waiting = self._waiting, []
            if not taken:
                return
            try:
                await self._database.run(self._store, taken)
            except DatabaseError as exc:
                log.warning("results_wait_for_database", run=str(self._run.pk), error=str(exc))
                self._waiting, self._is_in_doubt = taken + self._waiting, True

    def _store(self, results: Sequence[CaseResult]) -> None:
        """Write results down; of those tried before, what a lost answer hid is not written twice."""
        if not self._is_in_doubt:
            self._insert(results)
            return
        with transaction.atomic():
            # The commit whose answer was lost may still go on: it has the run's row until it is through.
            Run.objects.select_for_update().filter(pk=self._run.pk).values_list("pk").first()
            numbers = [result.instance.number for result in results]
            there = CaseRun.objects.filter(run=self._run.pk, number__in=numbers).values_list("number", flat=True)
            stored = set(there)
            self._insert([result for result in results if result.instance.number not in stored])

    def _insert(self, results: Sequence[CaseResult]) -> None:
        """Write results down, unless the lease is another's meanwhile: then they are that one's to give."""
        counts = Counter(str(result.verdict) for result in results if result.part == Part.CASE)
        cases = [self._case(result) for result in results]
        pairs = [(row, step) for row, result in zip(cases, results, strict=True) for step in result.steps]
        steps = [self._step(row, step) for row, step in pairs]
        attempts = [
            self._attempt(row, attempt)
            for row, (_, step) in zip(steps, pairs, strict=True)
            for attempt in step.attempts
        ]
        loads = [
            LoadResult(case_run=row, **result.load)
            for row, result in zip(cases, results, strict=True)
            if result.load is not None
        ]
        with transaction.atomic():
            if not self._hold.note(counts):
                log.warning("results_come_too_late", run=str(self._run.pk), cases=len(cases))
                return
            CaseRun.objects.bulk_create(cases)
            LoadResult.objects.bulk_create(loads)
            StepRun.objects.bulk_create(steps)
            Attempt.objects.bulk_create(attempts)

    def _case(self, result: CaseResult) -> CaseRun:
        instance = result.instance
        return CaseRun(
            run_id=self._run.pk,
            part=result.part,
            number=instance.number,
            case=instance.case.name,
            matrix=self._masker.value(dict(instance.matrix)),
            iteration=instance.iteration,
            verdict=result.verdict,
            reason=self._text(result.reason),
            error_class=result.error_class[:20],
            blocked_by=result.blocked_by,
            flaky=result.flaky,
            dirty=result.dirty,
            rounds=result.rounds,
            started_at=result.started_at,
            took_ms=round(result.took_ms, 3),
        )

    def _step(self, case: CaseRun, step: StepResult) -> StepRun:
        captures = step.attempts[-1].captures if step.attempts else {}
        return StepRun(
            case_run=case,
            number=step.number,
            path=step.path[:100],
            round=step.round,
            phase=step.phase,
            kind=step.kind,
            step=step.step,
            line=step.line,
            verdict=step.verdict,
            reason=self._text(step.reason),
            captures=self._value(captures),
            took_ms=round(step.took_ms, 3),
        )

    def _attempt(self, step: StepRun, attempt: AttemptResult) -> Attempt:
        row = attempt.row or attempt_row(attempt, self._masker)
        row.step_run = step
        return row

    def _text(self, text: str) -> str:
        return stored_text(text, self._masker)

    def _value(self, value: Any) -> Any:
        return stored_value(value, self._masker)
