"""Writes down what came of cases: many at a time, in a thread of its own, nothing secret in it."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import structlog
from django.db import Error as DatabaseError
from django.db import transaction

from endpoints.edge.database_threads import DatabaseThreads
from testing.assertions.observation import Observation
from testing.errors import Unwritten
from testing.models import Attempt, CaseRun, LoadResult, Part, Run, StepRun
from testing.runner.holding import Hold
from testing.runner.masking import Masker
from testing.runner.results import AttemptResult, CaseResult, StepResult

KEPT_TEXT = 1000
KEPT_BODY = 16 * 1024
KEPT_VALUE = 4 * 1024
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
        result.reason = self._masker.text(result.reason)
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
        seen = attempt.seen
        return Attempt(
            step_run=step,
            number=attempt.number,
            intended_at=attempt.intended_at,
            started_at=attempt.started_at,
            took_ms=round(seen.latency_ms, 3),
            phases_ms=dict(seen.phases_ms),
            verdict=attempt.verdict,
            error_class=attempt.error_class[:20],
            error=self._text(seen.error or (attempt.reason if not attempt.checks else "")),
            checks=[
                {
                    "ok": check.ok,
                    "subject": check.subject,
                    "operators": self._value(check.operators),
                    "line": check.line,
                    **({} if check.ok else self._wrong(check)),
                }
                for check in attempt.checks
            ],
            request=self._value(dict(seen.request)),
            response=self._response(seen),
        )

    def _wrong(self, check: Any) -> dict[str, Any]:
        return {
            "where": check.where,
            "expected": self._value(check.expected),
            "actual": self._value(check.actual),
            "detail": self._text(check.detail),
        }

    def _response(self, seen: Observation) -> dict[str, Any]:
        """Return what was seen as it is kept: masked before it is cut, or a part of a secret would stay."""
        found: dict[str, Any] = {}
        if seen.status is not None:
            found["status"] = self._masker.value(seen.status)
        if seen.headers is not None:
            found["headers"] = self._value(dict(seen.headers))
        if seen.body is not None:
            text = self._masker.text(seen.body.decode("utf-8", "replace").replace("\x00", "\ufffd"))
            found["body"] = text[:KEPT_BODY]
            found["truncated"] = seen.truncated or len(text) > KEPT_BODY
        for name, several in (("rows", seen.rows), ("messages", seen.messages), ("events", seen.events)):
            if several is not None:
                found[name] = self._value(list(several))
        if seen.close is not None:
            found["close"] = self._value(dict(seen.close))
        return found

    def _text(self, text: str) -> str:
        return self._masker.text(text).replace("\x00", "\ufffd")[:KEPT_TEXT]

    def _value(self, value: Any) -> Any:
        return storable(self._masker.value(value))


def storable(value: Any) -> Any:
    """Return a value as both databases can keep it, cut where it is long."""
    if isinstance(value, str):
        cleaned = value.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")
        return cleaned if len(cleaned) <= KEPT_VALUE else f"{cleaned[:KEPT_VALUE]}..."
    if isinstance(value, dict):
        return {storable(str(key)): storable(child) for key, child in list(value.items())[:200]}
    if isinstance(value, (list, tuple)):
        return [storable(child) for child in value[:200]]
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)
    return value if value is None or isinstance(value, (bool, int)) else storable(str(value))
