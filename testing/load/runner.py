"""One case with load, in the shape of a case run: the runner cannot tell them apart."""

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import structlog

from endpoints.transports.base import ErrorClass
from endpoints.transports.files import allow_files
from testing.document.load import Load
from testing.load.baseline import before, compare
from testing.load.caps import receivers, told
from testing.load.figures import figures_of
from testing.load.generator import MODELS, Generator
from testing.load.iterations import CaseIteration, Samples, systems_of
from testing.load.judging import Facts, in_unit, judge_load, judge_threshold
from testing.load.meter import Meter
from testing.load.plain import PlainIteration
from testing.models import Run, Verdict
from testing.runner.plan import Instance
from testing.runner.results import CaseResult, InHand
from testing.runner.scope import Values
from testing.runner.tools import RunTools
from testing.steps.base import CannotRun

log = structlog.get_logger(__name__)

SPARE_FILES = 256  # what a process has open besides the connections of a load


class LoadRunner:
    """Runs one instance with load; `stop` ends it, and what was measured until then is kept."""

    def __init__(
        self, run: Run, instance: Instance, values: Values, late_vars: dict[str, Any], tools: RunTools
    ) -> None:
        assert instance.case.load is not None
        self._run, self._values, self._late_vars, self._tools = run, values, late_vars, tools
        self._load: Load = instance.case.load
        self.how_far = ""
        self.instance, self.result = instance, CaseResult(instance)
        self._meter = Meter(self._load)
        self._generator: Generator | None = None
        self._stopped, self._stopped_as, self._cannot = "", Verdict.CANCELLED, ""

    def stop(self, reason: str, verdict: Verdict = Verdict.CANCELLED) -> None:
        """Start no further iteration, and end those under way."""
        if not self._stopped:
            self._stopped, self._stopped_as = reason, verdict
            if self._generator is not None:
                self._generator.stop(reason)

    def in_hand(self) -> InHand:
        """Return how far it is."""
        return InHand(self.instance.label, self.how_far, self._meter.started or time.perf_counter())

    async def run(self) -> CaseResult:
        """Run the load to its end and judge it; everything that goes wrong is in the result."""
        result, started = self.result, time.perf_counter()
        result.started_at = datetime.now(UTC)
        tools = self._tools.for_load(self._load.most_at_once)
        try:
            if self._stopped:
                result.verdict, result.reason = self._stopped_as, self._stopped
            else:
                for alias in sorted(systems_of(self.instance.case.steps)):
                    tools.party(alias)
                await self._measure(tools)
        except CannotRun as exc:
            result.verdict, result.reason, result.error_class = Verdict.ERRORED, exc.detail, exc.error_class
        except Exception as exc:  # a bug of ours costs this load, not the cases beside it
            log.exception("load_broke", case=self.instance.label)
            result.verdict, result.reason = Verdict.ERRORED, f"internal: {type(exc).__name__}"
            result.error_class = ErrorClass.INTERNAL.value
        finally:
            await tools.aclose()
        result.took_ms = (time.perf_counter() - started) * 1000
        return result

    async def _measure(self, tools: RunTools) -> None:
        instance, result = self.instance, self.result
        allow_files(self._load.most_at_once + SPARE_FILES)
        kind = PlainIteration if PlainIteration.fits(instance.case) else CaseIteration
        iteration = kind(instance, replace(self._values), self._late_vars, tools)
        model = MODELS[self._load.model]
        self._generator = model(self._load, instance.case.timeout_s, iteration, self._meter)
        try:
            await self._generator.run(lambda: self._look(iteration))
        finally:
            await iteration.aclose()
        meter = self._meter
        facts = Facts(meter.whole, meter.judged_s, meter.lag, self._stopped, self._stopped_as)
        facts.cannot = self._not_judged(iteration.samples)
        if to := receivers(instance.case.steps):
            facts.caps = await tools.ask_database(told, [tools.party(alias).target for alias in sorted(to)])
        if self._load.baseline is not None and not self._stopped:
            rows = await tools.ask_database(before, self._run, instance, self._load.baseline, tools.principal)
            facts.baseline = await asyncio.to_thread(compare, self._load, meter.whole, facts.judged_s, rows)
        judgement = judge_load(self._load, facts)
        result.verdict, result.reason = judgement.verdict, judgement.reason
        result.dirty = iteration.is_dirty
        wrong = [judged.metric for judged in judgement.thresholds if not judged.ok]
        by_errors = bool(facts.cannot) or any(metric.startswith("errors") for metric in wrong)
        result.steps = iteration.samples.results(decided=by_errors)
        if by_errors and meter.whole.errors:
            result.error_class = meter.whole.errors.most_common(1)[0][0]
        result.load = figures_of(self._load, meter, facts, judgement, iteration.steps)

    def _not_judged(self, samples: Samples) -> str:
        """Return why nothing is judged: a bug of ours, or nothing could run; "" too when somebody ended it."""
        if self._cannot or (self._stopped and self._stopped_as != Verdict.FAILED):
            return self._cannot
        if samples.broke:
            return samples.broke
        return samples.why if samples.cannot and samples.cannot >= _ended(self._meter) else ""

    def _look(self, iteration: PlainIteration | CaseIteration) -> None:
        """Say how far it is, and end it when there is no use in going on."""
        meter = self._meter
        for rule in self._load.abort_if:
            window = meter.window(rule.over_s)
            found = judge_threshold(rule, window, rule.over_s) if window is not None else None
            if found is not None and found.ok:
                self.stop(f"aborted: {found.said}, {in_unit(found.actual, found.unit)}", Verdict.FAILED)
        samples = iteration.samples
        if samples.cannot and samples.cannot >= _ended(meter):
            self._cannot = samples.why
            self.stop(samples.why, Verdict.ERRORED)
        self.how_far = self._progress()

    def _progress(self) -> str:
        meter, series = self._meter, self._meter.series
        passed = time.perf_counter() - meter.started
        rate = series["done"][-1] / meter.width_s if series["done"] else 0.0
        p95 = series["p95_ms"][-1] if series["p95_ms"] else None
        parts = [f"{min(passed, self._load.for_s):.0f} of {self._load.for_s:.0f} s", f"{rate:,.0f}/s"]
        parts += [f"p95 {in_unit(p95, 'ms')}"] if p95 is not None else []
        errors = meter.whole.failed + meter.warm.failed
        parts += [f"{errors:,} errors"] if errors else []
        return ", ".join(parts)


def _ended(meter: Meter) -> int:
    return meter.whole.done + meter.warm.done
