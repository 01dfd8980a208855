"""What a load runs over and over: the case as it stands, or where it is a single step, only what differs each time."""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from endpoints.transports.base import ErrorClass
from testing.assertions.judge import judge
from testing.assertions.observation import Missing, Observation
from testing.assertions.operators import apply
from testing.assertions.subjects import root_of
from testing.document.nodes import Faults, placed
from testing.document.references import Unresolved, compiled, roots_read
from testing.document.suite import Case, Step
from testing.load.generator import Stopped
from testing.load.tally import Latencies
from testing.models import Phase, Verdict
from testing.runner.casing import CaseRunner
from testing.runner.plan import Instance
from testing.runner.results import AttemptResult, StepResult
from testing.runner.scope import Values
from testing.runner.stepping import action_of, judge_attempt
from testing.runner.tools import CaseTools, RunTools
from testing.steps.base import CannotRun

MOST_SAMPLES = 5
# Of these we are the cause: nothing is said of the other side.
OURS = frozenset({ErrorClass.BLOCKED_ADDRESS, ErrorClass.TRANSFORM, ErrorClass.INTERNAL})
THEIRS = frozenset(kind.value for kind in ErrorClass if kind not in OURS)
STEADY = frozenset({"vars", "run", "secret", "matrix", "captures"})  # the same in all iterations of a load
BY_STATUS = ("throttled", "server_error", "client_error")


class Samples:
    """The first iteration of each class of error, with its steps; and how many could not run at all, and why."""

    def __init__(self) -> None:
        self.steps: dict[str, list[StepResult]] = {}
        self.cannot, self.why = 0, ""

    def failed(self, verdict: Verdict, reason: str, steps: list[StepResult], wrong: StepResult | None) -> str:
        """Note an iteration that did not pass, and return the class of its error."""
        error = _class_of(wrong) if wrong is not None else ErrorClass.TIMEOUT.value
        if verdict == Verdict.ERRORED and error not in THEIRS:
            self.cannot, self.why, error = self.cannot + 1, self.why or reason, ErrorClass.INTERNAL.value
        if error not in self.steps and len(self.steps) < MOST_SAMPLES:
            self.steps[error] = steps
        return error

    def results(self) -> list[StepResult]:
        """Return the steps of all of them; `round` tells them apart."""
        found: list[StepResult] = []
        for number, steps in enumerate(self.steps.values(), start=1):
            for step in steps:
                step.round, step.number = number, len(found)
                found.append(step)
        return found


def _class_of(step: StepResult) -> str:
    """Return the class of a step's error; a status says more than that an assertion about it did not hold."""
    if step.error_class:
        return step.error_class if step.error_class in THEIRS else ErrorClass.INTERNAL.value
    if step.verdict == Verdict.ERRORED:
        return ErrorClass.INTERNAL.value
    return next((name for name in BY_STATUS if name in step.reasons), "assertion")


class CaseIteration:
    """The whole case each time, with its captures and cleanups."""

    def __init__(self, instance: Instance, values: Values, late_vars: dict[str, Any], tools: RunTools) -> None:
        self._instance, self._values, self._late_vars, self._tools = instance, values, late_vars, tools
        self._running: set[CaseRunner] = set()
        self.samples, self.is_dirty = Samples(), False
        self.steps: dict[str, Latencies] = {}

    async def run(self, number: int) -> tuple[str, float]:
        rows = self._instance.rows
        row = rows[number % len(rows)] if rows else {}
        runner = CaseRunner(
            replace(self._instance, iteration=number, row=row), self._values, self._late_vars, self._tools
        )
        self._running.add(runner)
        try:
            result = await runner.run()
        finally:
            self._running.discard(runner)
        self.is_dirty |= result.dirty
        if result.verdict == Verdict.CANCELLED:
            raise Stopped
        for step in result.steps:
            if step.phase == Phase.STEP:
                self.steps.setdefault(step.name, Latencies()).take([int(step.took_ms * 1000)])
        if result.verdict == Verdict.PASSED:
            return "", result.judged_at
        wrong = next((step for step in reversed(result.steps) if _is_wrong(step)), None)
        return self.samples.failed(result.verdict, result.reason, result.steps, wrong), result.judged_at

    async def aclose(self) -> None:
        """Close nothing: each case closed what it kept open."""

    def stop(self, reason: str) -> bool:
        for runner in self._running:
            runner.stop(reason)
        return True


def _is_wrong(step: StepResult) -> bool:
    return step.phase == Phase.STEP and step.verdict in (Verdict.FAILED, Verdict.ERRORED)


Again = Callable[[], Awaitable[Observation]]


class StepIteration:
    """A case of one step: no graph, no polls, no captures; what references read is filled into what is compiled."""

    def __init__(self, instance: Instance, values: Values, late_vars: dict[str, Any], tools: RunTools) -> None:
        case = instance.case
        self._step, self._rows = case.steps[0], instance.rows
        self._action = action_of(self._step.kind)
        self._timeout_s = min(self._step.timeout_s, case.timeout_s)
        self._values = replace(values, matrix=instance.matrix)
        self._scope = self._values.scope()
        self._before = self._values.vars
        self._late = compiled(dict(late_vars)) if late_vars else None
        self._params = compiled(self._step.params) if self._step.ready is None else None
        steady = STEADY - ({"vars"} if late_vars else set())
        self._varies = self._params is not None and not roots_read(self._step.params) <= steady
        checks = [(assertion.read, assertion.operators) for assertion in self._step.assertions]
        self._checks = checks if all(operators is not None for _, operators in checks) else None
        self._reads = self._late is not None or self._params is not None or self._checks is None
        self._roots = {root_of(assertion.subject) for assertion in self._step.assertions}
        self._tools = CaseTools(tools, _no_inner, _no_inner)
        self._again: Again | None = None
        self.samples, self.is_dirty = Samples(), False
        self.steps: dict[str, Latencies] = {}

    @staticmethod
    def fits(case: Case) -> bool:
        """Say whether a case can be run so."""
        step = case.steps[0]
        is_plain = not (step.poll or step.captures or step.cleanup)
        return len(case.steps) == 1 and is_plain and action_of(step.kind).REPEATS

    async def run(self, number: int) -> tuple[str, float]:
        known = self._set(number) if self._reads else None
        try:
            if self._again is None or self._varies:
                self._again = await self._prepared()
            seen = await self._again()
        except TimeoutError:
            seen = Observation(error_class=ErrorClass.TIMEOUT.value, no_answer=True)
            seen.error = f"no outcome within {self._timeout_s:g} s"
        except (CannotRun, Unresolved, ValueError) as exc:
            return self._cannot(exc), 0.0
        ended = time.perf_counter()
        if known is not None:
            self._values.iteration, self._values.data, self._values.vars = known
        try:
            is_good = (not seen.no_answer or not self._roots.isdisjoint(seen.speaks)) and self._holds(seen)
            return ("" if is_good else self._failed(seen)), ended
        except (Unresolved, ValueError) as exc:  # an operand
            return self._cannot(exc), ended

    async def aclose(self) -> None:
        """Close what iterations kept open for those after them."""
        await self._tools.aclose()

    def stop(self, reason: str) -> bool:
        return False

    def _set(self, number: int) -> tuple[int, Mapping[str, Any], Mapping[str, Any]]:
        """Let references read what is this iteration's; nobody else runs until they are read."""
        values = self._values
        values.iteration = number
        values.data = self._rows[number % len(self._rows)] if self._rows else {}
        if self._late is not None:
            values.vars = {**self._before, **self._late(self._scope)}
        return values.iteration, values.data, values.vars

    async def _prepared(self) -> Again:
        params = self._step.ready
        if self._params is not None:
            faults = Faults()
            filled = placed(self._params(self._scope), self._step.mark)
            params = self._action.SHAPE.read(filled, self._step.kind, faults)
            if faults.found:
                raise CannotRun("; ".join(f"{fault.place}: {fault.detail}" for fault in faults.found))
        return await self._action.repeated(params, self._tools, self._timeout_s)

    def _holds(self, seen: Observation) -> bool:
        """Say whether all assertions hold, without saying more than that."""
        if self._checks is None:
            return all(judge(assertion, seen, self._scope).ok for assertion in self._step.assertions)
        for read, operators in self._checks:
            found = read(seen)
            if isinstance(found, Missing) or operators is None or apply(operators, found) is not None:
                return all(judge(assertion, seen, self._scope).ok for assertion in self._step.assertions)
        return True

    def _failed(self, seen: Observation) -> str:
        attempt = self._attempt()
        attempt.seen = seen
        judge_attempt(self._step, attempt, self._scope, Phase.STEP)
        return self._note(attempt)

    def _cannot(self, exc: Exception) -> str:
        attempt = self._attempt()
        attempt.verdict, attempt.reason = Verdict.ERRORED, str(exc)
        attempt.error_class = exc.error_class if isinstance(exc, CannotRun) else ""
        return self._note(attempt)

    def _attempt(self) -> AttemptResult:
        now = datetime.now(UTC)
        return AttemptResult(1, now, now, Verdict.PASSED)

    def _note(self, attempt: AttemptResult) -> str:
        step = self._step
        result = StepResult(0, "1", 1, Phase.STEP, step.kind, step.id, step.mark[0], [attempt])
        result.verdict, result.reason, result.took_ms = attempt.verdict, attempt.reason, attempt.seen.latency_ms
        return self.samples.failed(attempt.verdict, f"{result.name}: {attempt.reason}", [result], result)


async def _no_inner(*_: Any, **__: Any) -> Any:
    raise CannotRun("a step that repeats runs no other")


def systems_of(steps: tuple[Step, ...]) -> set[str]:
    """Return the aliases that steps name, as far as they are written out."""
    found: set[str] = set()
    for step in steps:
        if step.kind == "group":
            found |= systems_of(tuple(inner for inner in step.ready["steps"] if inner))
        elif step.ready is not None:
            found |= set(action_of(step.kind).aliases(step.ready))
        found |= systems_of(step.cleanup)
    return found
