"""Iterations of plain steps: no polls, no cleanups; what stays the same is worked out once.

It comes to the same as running the case each time, at a tenth of the cost.
"""

import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import structlog

from endpoints.transports.base import ErrorClass
from testing.assertions.judge import judge
from testing.assertions.observation import Missing, Observation
from testing.assertions.operators import apply
from testing.assertions.subjects import root_of
from testing.document.filling import filler
from testing.document.references import Scope, Unresolved, compiled
from testing.document.suite import Case, Step
from testing.load.iterations import Samples
from testing.load.tally import Latencies
from testing.models import Phase, Verdict
from testing.runner.plan import Instance
from testing.runner.results import AttemptResult, StepResult
from testing.runner.scope import Values
from testing.runner.stepping import action_of, break_off, judge_attempt
from testing.runner.tools import CaseTools, RunTools
from testing.steps.base import CannotRun, Tools

log = structlog.get_logger(__name__)

Again = Callable[[], Awaitable[Observation]]


class PlainStep:
    """One step, ready to be done again and again."""

    def __init__(self, step: Step, number: int, tools: Tools, timeout_s: float) -> None:
        self.step, self.path = step, str(number)
        self._action, self._tools = action_of(step.kind), tools
        self._timeout_s = min(step.timeout_s, timeout_s)
        self._fill = filler(self._action.SHAPE, step.params, step.kind) if step.ready is None else None
        checks = [(assertion.read, assertion.operators) for assertion in step.assertions]
        self._checks = checks if all(operators is not None for _, operators in checks) else None
        self._roots = {root_of(assertion.subject) for assertion in step.assertions}
        self._again: Again | None = None
        self.reads = self._fill is not None or self._checks is None or bool(step.captures)

    async def seen(self, scope: Scope) -> Observation:
        """Do it; raises CannotRun, Unresolved or ValueError when it cannot be begun."""
        if self._fill is not None:
            return await (await self._action.repeated(self._fill(scope), self._tools, self._timeout_s))()
        if self._again is None:
            self._again = await self._action.repeated(self.step.ready, self._tools, self._timeout_s)
        return await self._again()

    def holds(self, seen: Observation, scope: Scope) -> bool:
        """Say whether all assertions hold, without saying more than that."""
        if seen.no_answer and self._roots.isdisjoint(seen.speaks):
            return False
        for read, operators in self._checks or ():
            found = read(seen)
            if isinstance(found, Missing) or operators is None or apply(operators, found) is not None:
                return self._all_hold(seen, scope)
        return self._checks is not None or self._all_hold(seen, scope)

    def _all_hold(self, seen: Observation, scope: Scope) -> bool:
        return all(judge(assertion, seen, scope).ok for assertion in self.step.assertions)

    def captured(self, seen: Observation) -> dict[str, Any] | None:
        """Return what it captures; None when something is not there."""
        found = {name: read(seen) for name, (_, read) in self.step.captures.items()}
        return None if any(isinstance(value, Missing) for value in found.values()) else found

    def failed(self, seen: Observation, scope: Scope) -> StepResult:
        """Return what there is to say of one that did not hold."""
        attempt = _attempt()
        attempt.seen = seen
        judge_attempt(self.step, attempt, scope, Phase.STEP)
        return self._result(attempt)

    def cannot(self, exc: Exception) -> StepResult:
        """Return what there is to say of one that could not be judged."""
        attempt = _attempt()
        attempt.verdict, attempt.reason = Verdict.ERRORED, str(exc)
        attempt.error_class = exc.error_class if isinstance(exc, CannotRun) else ""
        return self._result(attempt)

    def broken(self, exc: Exception) -> StepResult:
        """Return what there is to say of one that a bug ended."""
        attempt = _attempt()
        break_off(attempt, exc)
        return self._result(attempt)

    def _result(self, attempt: AttemptResult) -> StepResult:
        step = self.step
        result = StepResult(0, self.path, 1, Phase.STEP, step.kind, step.id, step.mark[0], [attempt])
        result.verdict, result.reason, result.took_ms = attempt.verdict, attempt.reason, attempt.seen.latency_ms
        return result


def _attempt() -> AttemptResult:
    now = datetime.now(UTC)
    return AttemptResult(1, now, now, Verdict.PASSED)


class PlainIteration:
    """All steps of the case, one after the other until one does not hold."""

    def __init__(self, instance: Instance, values: Values, late_vars: dict[str, Any], tools: RunTools) -> None:
        case = instance.case
        self._timeout_s, self._rows = case.timeout_s, instance.rows
        self._tools = CaseTools(tools, _no_other, _no_other)
        self._steps = [
            PlainStep(step, number, self._tools, case.timeout_s) for number, step in enumerate(case.steps, start=1)
        ]
        self._values = replace(values, matrix=instance.matrix)
        self._scope = self._values.scope()
        self._late = compiled(dict(late_vars)) if late_vars else None
        self._reads = self._late is not None or any(step.reads for step in self._steps)
        self.samples, self.is_dirty = Samples(), False
        self.steps: dict[str, Latencies] = defaultdict(Latencies)

    @staticmethod
    def fits(case: Case) -> bool:
        """Say whether a case can be run so; steps that share a session need one case around all of them."""
        if any(step.poll or step.cleanup or not action_of(step.kind).REPEATS for step in case.steps):
            return False
        return len(case.steps) == 1 or not any("session" in step.params for step in case.steps)

    async def run(self, number: int) -> tuple[str, float]:
        values = self._here(number) if self._reads else self._values
        scope = values.scope() if self._reads else self._scope
        begun = time.perf_counter()
        for step in self._steps:
            started = time.perf_counter()
            if started - begun > self._timeout_s:
                return ErrorClass.TIMEOUT.value, started
            try:
                seen = await step.seen(scope)
                ended = time.perf_counter()
                captured = step.captured(seen) if step.holds(seen, scope) else None
                wrong = step.failed(seen, scope) if captured is None else None
            except (CannotRun, Unresolved, ValueError) as exc:
                wrong, captured, ended = step.cannot(exc), None, time.perf_counter()
            except Exception as exc:  # a bug costs one iteration: those beside it and the rest of the run go on
                if not self.samples.broke:  # there may be thousands
                    log.exception("step_broke", kind=step.step.kind)
                wrong, captured, ended = step.broken(exc), None, time.perf_counter()
            if len(self._steps) > 1:
                self._note(step, ended - started)
            if wrong is not None:
                reason = f"{wrong.name}: {wrong.reason}"
                return self.samples.failed(wrong.verdict, reason, [wrong], wrong), ended
            if captured:
                values.captures.update(captured)
        return "", ended

    async def aclose(self) -> None:
        """Close what iterations kept open for those after them."""
        await self._tools.aclose()

    def stop(self, reason: str) -> bool:
        return False

    def _here(self, number: int) -> Values:
        """Return what references of this iteration read."""
        row = self._rows[number % len(self._rows)] if self._rows else {}
        values = replace(self._values, iteration=number, data=row, captures=dict(self._values.captures))
        if self._late is not None:
            values.vars = {**values.vars, **self._late(values.scope())}
        return values

    def _note(self, step: PlainStep, took_s: float) -> None:
        name = step.step.id or f"{step.step.kind} in line {step.step.mark[0]}"
        self.steps[name].take_one(int(took_s * 1_000_000))


async def _no_other(*_: Any, **__: Any) -> Any:
    raise CannotRun("a step that repeats runs no other")
