"""One case run: its steps in order, again if it may, and its cleanups in any case."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import structlog

from testing.document.references import REFERENCE, Scope, Unresolved
from testing.document.suite import Step
from testing.models import Phase, Verdict
from testing.runner.frames import FRAME, Frame, enter
from testing.runner.keeping import let_go
from testing.runner.plan import Instance
from testing.runner.results import AttemptResult, CaseResult, InHand, StepResult
from testing.runner.scope import Values, fill_vars
from testing.runner.stepping import InnerFailed, run_step
from testing.runner.tools import CaseTools, RunTools

log = structlog.get_logger(__name__)

CLEANUP_S = 30.0
LET_GO_S = 5.0  # for a step to end once it is cancelled
AT: ContextVar[str] = ContextVar("AT")  # the path of the step that runs; each of several at once has its own


class CaseRunner:
    """Runs one instance; `stop` ends its steps, never its cleanups."""

    how_far = ""  # a load has one

    def __init__(self, instance: Instance, values: Values, late_vars: dict[str, Any], tools: RunTools) -> None:
        self.instance, self._late_vars = instance, late_vars
        self._before = dict(values.captures)
        self.values = replace(
            values, matrix=instance.matrix, data=instance.row, iteration=instance.iteration, captures=dict(self._before)
        )
        self.tools = CaseTools(tools, self._run_inner, self._run_called)
        self._library, self._masker = tools.library, tools.masker
        self.allow_production = tools.allow_production
        self.result = CaseResult(instance)
        self._cleanups: list[tuple[Step, StepResult, Frame | None]] = []
        self._round = 1
        self._begun = 0.0
        self._work: asyncio.Future[None] | None = None
        self._tidying: asyncio.Future[None] | None = None
        self._is_cut = False
        self._stopped = ""
        self._stopped_as = Verdict.CANCELLED

    # --- what a step asks for

    def scope(self) -> Scope:
        return self._here().scope()

    def capture(self, found: dict[str, Any]) -> None:
        self._here().captures.update(found)

    def let_go(self, attempt: AttemptResult) -> None:
        let_go(attempt, self._masker)

    def _here(self) -> Values:
        """Return what there is to read where the step stands: here, or in the case that was called."""
        frame = FRAME.get()
        return self.values if frame is None else frame.values

    # --- the whole

    async def run(self) -> CaseResult:
        """Run the case to its end; everything that goes wrong is in the result."""
        result = self.result
        self._begun = time.perf_counter()
        result.started_at = datetime.now(UTC)
        try:
            if not self._stopped:
                self._work = asyncio.ensure_future(self._rounds())
                await self._until_done(self._work)
            else:
                result.verdict, result.reason = self._stopped_as, self._stopped
        finally:
            result.judged_at = time.perf_counter()
            await self._tidied()
        result.took_ms = (time.perf_counter() - self._begun) * 1000
        result.captures = dict(self.values.captures)
        return result

    def stop(self, reason: str, verdict: Verdict = Verdict.CANCELLED) -> None:
        """End the step that runs and begin no other."""
        self._stopped, self._stopped_as, self._is_cut = reason, verdict, True
        if self._work is not None:
            self._work.cancel()

    def in_hand(self) -> InHand:
        """Return how far it is."""
        steps = self.result.steps
        return InHand(self.instance.label, steps[-1].name if steps else "", self._begun)

    async def _until_done(self, work: "asyncio.Future[None]") -> None:
        limit = self.instance.case.timeout_s
        try:
            done, _ = await asyncio.wait({work}, timeout=limit)
        except asyncio.CancelledError:  # the whole run breaks off, or the process ends
            await self._cut(work)
            raise
        if not done:
            await self._cut(work, f"cut off: the {limit:g} s of its case were over")
            self._end(Verdict.ERRORED, f"the case took longer than {limit:g} s{self._where()}", "timeout")
        elif work.cancelled():
            self._end(self._stopped_as, self._stopped)
        elif (bug := work.exception()) is not None:
            log.error("case_broke", case=self.instance.label, exc_info=bug)
            self._end(Verdict.ERRORED, f"internal: {type(bug).__name__}", "internal")

    async def _cut(self, work: "asyncio.Future[None]", reason: str | None = None) -> None:
        """End the steps, which give `reason`; one that does not let go is left behind, and begins nothing more."""
        self._is_cut = True
        work.cancel(reason)
        _, left = await asyncio.wait({work}, timeout=LET_GO_S)
        if left:
            log.warning("step_left_behind", case=self.instance.label)
            work.add_done_callback(lambda ended: ended.cancelled() or ended.exception())

    def _where(self) -> str:
        return f", in {self.result.steps[-1].name}" if self.result.steps else ""

    def _end(self, verdict: Verdict, reason: str, error_class: str = "") -> None:
        self.result.verdict, self.result.reason, self.result.error_class = verdict, reason, error_class

    async def _rounds(self) -> None:
        """Run the steps, and again from the start as long as the retry covers how they ended."""
        retry = self.instance.case.retry
        while True:
            try:
                failed = await self._once()
            except Unresolved as exc:  # a variable
                self._end(Verdict.ERRORED, f"vars: {exc}")
                return
            if self._is_cut:  # and a step swallowed that
                raise asyncio.CancelledError
            if failed is None:
                self._end(Verdict.PASSED, "")
                self.result.flaky = self._round > 1
                return
            self._end(failed.verdict, f"{failed.name}: {failed.reason}", failed.error_class)
            if self._round > retry.max or not any(map(retry.covers, failed.reasons or {""})):
                return
            await asyncio.shield(self._tidy())
            await asyncio.sleep(retry.wait_s(self._round))
            self._round += 1
            self.result.rounds = self._round
            self.values.captures = dict(self._before)

    async def _once(self) -> StepResult | None:
        """Run the steps once; return the one that did not pass."""
        self.values.vars = {**self.values.vars, **fill_vars(self._late_vars, self.values)}
        for number, step in enumerate(self.instance.case.steps, start=1):
            done = await self._run(step, str(number))
            if done.verdict != Verdict.PASSED:
                return done
        return None

    async def _run(self, step: Step, path: str, phase: Phase = Phase.STEP) -> StepResult:
        if self._is_cut and ".cleanup" not in path:
            raise asyncio.CancelledError
        result = StepResult(
            len(self.result.steps),
            path,
            self._round,
            phase,
            step.kind,
            step.id,
            step.mark[0],
            verdict=Verdict.CANCELLED,
        )
        self.result.steps.append(result)
        # Even one that was cut off may have done what there is to clean up.
        self._cleanups += [(cleanup, result, FRAME.get()) for cleanup in step.cleanup]
        AT.set(path)
        done = await run_step(step, self, result)
        self.result.dirty |= done.dirty
        return done

    async def _run_inner(self, steps: Sequence[Step], *, at_once: bool) -> None:
        """Run the steps of a group; raises InnerFailed for the first that did not pass."""
        path = AT.get()
        named = [(step, f"{path}.{number}") for number, step in enumerate(steps, start=1)]
        if at_once:
            done = await asyncio.gather(*(self._run(step, at) for step, at in named))
        else:
            done = []
            for step, at in named:
                done.append(await self._run(step, at))
                if done[-1].verdict != Verdict.PASSED:
                    break
        failed = next((result for result in done if result.verdict != Verdict.PASSED), None)
        if failed is not None:
            raise InnerFailed(failed)

    async def _run_called(
        self, slug: str, case: str, given: Mapping[str, Any], systems: Mapping[str, str]
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Run the steps of a called case in a frame of their own; return what they captured, and what to record."""
        frame = enter(self._library, slug, given, systems, self._here())
        called = next(found for found in frame.suite.cases if found.name == case)
        entered = FRAME.set(frame)
        try:
            await self._run_inner(called.steps, at_once=False)
        finally:
            FRAME.reset(entered)
        version = self._library.versions.get(frame.suite.slug)
        return frame.values.captures, {"suite": frame.suite.slug, "case": case, "version": version}

    # --- cleaning up

    def _tidy(self) -> "asyncio.Future[None]":
        """Clean up and close what is open, in a task of its own: what ends the steps does not end this."""
        if self._tidying is None or self._tidying.done():
            self._tidying = asyncio.ensure_future(self._clean_up_and_close())
        return self._tidying

    async def _tidied(self) -> None:
        """Tidy up, to the end even if the run breaks off meanwhile."""
        tidying = self._tidy()
        try:
            await asyncio.wait({tidying})
        except asyncio.CancelledError:
            await asyncio.wait({tidying})
            raise
        tidying.result()

    async def _clean_up_and_close(self) -> None:
        await self._clean_up()
        await self.tools.aclose()

    async def _clean_up(self) -> None:
        """Run the cleanups, last first; one that fails makes the case dirty and changes nothing else."""
        while self._cleanups:
            step, of, frame = self._cleanups.pop()
            FRAME.set(frame)
            if missing := _not_captured(step, self._here()):
                self._skip(step, of, missing)
                continue
            try:
                async with asyncio.timeout(CLEANUP_S):
                    done = await self._run(step, f"{of.path}.cleanup", Phase.CLEANUP)
                self.result.dirty |= done.verdict != Verdict.PASSED
            except TimeoutError:
                self.result.dirty = True
        FRAME.set(None)

    def _skip(self, step: Step, of: StepResult, missing: str) -> None:
        """Note a cleanup that cannot know what to clean: that leaves dirt if the step may have done something."""
        reason = f"captures.{missing} was never captured"
        number, path = len(self.result.steps), f"{of.path}.cleanup"
        skipped = StepResult(number, path, self._round, Phase.CLEANUP, step.kind, step.id, step.mark[0])
        skipped.verdict, skipped.reason = Verdict.SKIPPED, reason
        self.result.steps.append(skipped)
        last = of.attempts[-1].seen if of.attempts else None
        refused = last is not None and isinstance(last.status, int) and last.status >= 400
        self.result.dirty |= not refused


def _not_captured(step: Step, values: Values) -> str:
    """Return a capture that the step reads and nobody made, "" when there is none."""

    for inner in REFERENCE.findall(str(step.params)):
        root, _, below = inner.strip().partition(".")
        if root == "captures" and below.split(".")[0] not in values.captures:
            return str(below.split(".")[0])
    return ""
