"""What a load runs over and over: the case as it stands, and the samples that are kept of what did not pass."""

from collections import defaultdict
from dataclasses import replace
from typing import Any

from endpoints.transports.base import ErrorClass
from testing.document.suite import Step
from testing.load.generator import Stopped
from testing.load.tally import Latencies
from testing.models import Phase, Verdict
from testing.runner.casing import CaseRunner
from testing.runner.plan import Instance
from testing.runner.results import StepResult
from testing.runner.scope import Values
from testing.runner.stepping import action_of
from testing.runner.tools import RunTools
from testing.steps.asking import OURS

MOST_SAMPLES = 5
THEIRS = frozenset(kind.value for kind in ErrorClass if kind not in OURS)
BY_STATUS = ("throttled", "server_error", "client_error")


class Samples:
    """The first iteration of each class of error, with its steps; and how many could not run at all, and why.

    `broke` says how the first of them broke that a bug ended: of such a load nothing is judged.
    """

    def __init__(self) -> None:
        self.steps: dict[str, list[StepResult]] = {}
        self.cannot, self.why, self.broke = 0, "", ""

    def failed(self, verdict: Verdict, reason: str, steps: list[StepResult], wrong: StepResult | None) -> str:
        """Note an iteration that did not pass, and return the class of its error."""
        error = _class_of(wrong) if wrong is not None else ErrorClass.TIMEOUT.value
        if wrong is not None and wrong.broke:
            self.broke = self.broke or reason
        if verdict == Verdict.ERRORED and error not in THEIRS:
            self.cannot, self.why, error = self.cannot + 1, self.why or reason, ErrorClass.INTERNAL.value
        if error not in self.steps and len(self.steps) < MOST_SAMPLES:
            self.steps[error] = steps
        return error

    def results(self, *, decided: bool) -> list[StepResult]:
        """Return the steps of all of them; of the first round if they decided the verdict, else of none."""
        found = [step for steps in self.steps.values() for step in steps]
        for number, step in enumerate(found):
            step.number, step.round = number, int(decided)
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
        self.steps: dict[str, Latencies] = defaultdict(Latencies)

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
                self.steps[step.name].take_one(int(step.took_ms * 1000))
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


def systems_of(steps: tuple[Step, ...]) -> set[str]:
    """Return the aliases that steps name, as far as they are written out."""
    found: set[str] = set()
    for step in steps:
        if step.kind != "group" and step.ready is not None:
            found |= set(action_of(step.kind).aliases(step.ready))
        found |= systems_of((*step.inner, *step.cleanup))
    return found
