"""One run, from its row to its verdict: setup, the graph of cases, teardown; whoever works it holds its lease."""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import structlog

from endpoints.access.principal import Principal
from endpoints.edge.database_threads import DatabaseThreads
from testing.document.picking import pick
from testing.document.reader import read_suite
from testing.document.references import Unresolved
from testing.document.suite import Suite
from testing.errors import BadDocument
from testing.load.runner import LoadRunner
from testing.models import Part, Run, Verdict
from testing.runner import leases
from testing.runner.casing import CaseRunner
from testing.runner.frames import find_called
from testing.runner.graph import run_graph
from testing.runner.judging import judge_run
from testing.runner.masking import Masker
from testing.runner.plan import Instance, frame, of_run
from testing.runner.recorder import Recorder
from testing.runner.results import CaseResult, InHand, RunResult
from testing.runner.scope import Values, fill_vars, is_of_a_case, secrets_named
from testing.runner.targets import find_secrets, find_targets, texts_to_mask
from testing.runner.tools import RunTools
from testing.runner.underway import Telling, forget

log = structlog.get_logger(__name__)

WATCH_S = 0.3  # how soon a cancel is seen
Listener = Callable[[CaseResult], None]


@dataclass
class Progress:
    """What a page or a terminal shows while it runs."""

    total: int = 0
    done: int = 0
    running: dict[int, str] = field(default_factory=dict)


class Execution:
    """Runs one run whose lease we hold."""

    def __init__(self, run: Run, token: uuid.UUID, listener: Listener | None = None) -> None:
        self.run, self.token = run, token
        self.progress = Progress()
        self._listener = listener or (lambda _: None)
        self._results: list[CaseResult] = []
        self._running: dict[int, CaseRunner | LoadRunner] = {}
        self._in_hand: dict[int, CaseRunner | LoadRunner] = {}  # those and what nothing stops
        self._stopped, self._stopped_as = "", ""
        self._database = DatabaseThreads("run")

    async def work(self) -> RunResult | None:
        """Run to the end and write the verdict; None when the lease was lost to somebody else."""
        try:
            result = await self._work()
        except (BadDocument, Unresolved) as exc:
            result = RunResult(Verdict.ERRORED, str(exc), flaky=False, dirty=False)
        except Exception as exc:  # a bug of ours costs one run, not the worker
            log.exception("run_failed", run=str(self.run.pk))
            result = RunResult(Verdict.ERRORED, f"internal: {type(exc).__name__}", flaky=False, dirty=False)
        try:
            ended = await self._database.run(leases.end, self.run.pk, self.token, result)
            await self._database.run(forget, self.run.pk, self.token)
            return result if ended else None
        finally:
            await asyncio.to_thread(self._database.shutdown)

    def stop(self, reason: str, verdict: Verdict = Verdict.CANCELLED) -> None:
        """End what runs within a moment and begin nothing more; cleanups and the teardown still run."""
        if not self._stopped:
            self._stopped, self._stopped_as = reason, verdict
            for runner in list(self._running.values()):
                runner.stop(reason, verdict)

    def in_hand(self) -> list[InHand]:
        """Return what runs right now, for whoever watches."""
        return [runner.in_hand() for runner in list(self._running.values())]

    async def _work(self) -> RunResult:
        run, suite = self.run, pick(read_suite(self.run.document.text), self.run.only)
        principal = principal_of(run)
        library = await self._database.run(find_called, suite, principal)
        targets = await self._database.run(find_targets, {**library.systems, **run.systems}, principal)
        named = await self._database.run(find_secrets, secrets_named(library.texts), principal)
        masker = Masker(texts_to_mask(targets.values(), named))
        planned = of_run(suite, run)
        at_once = min(run.parallel or suite.execution.at_once, len(planned))
        self.progress.total = len(planned)
        await self._database.run(leases.plan, run.pk, len(planned))
        tools = RunTools(targets, principal, library, at_once=at_once, allow_production=run.allow_production)
        recorder = Recorder(run, masker)
        watching = asyncio.ensure_future(self._watch(Telling(run.pk, self.token, masker)))
        limit = asyncio.get_running_loop().call_later(
            suite.execution.timeout_s,
            lambda: self.stop(f"the run took longer than {suite.execution.timeout_s:g} s", Verdict.ERRORED),
        )
        try:
            await self._parts(suite, planned, Round(self._values(suite, named), tools, recorder, at_once))
        finally:
            limit.cancel()
            watching.cancel()
            await asyncio.wait({watching})
            await tools.aclose()
            await recorder.aclose()
        # Of a part of the cases no more can be asked for than it has.
        gate = replace(suite.gate, min_cases=min(suite.gate.min_cases, len(planned))) if run.is_part else suite.gate
        found = judge_run(self._results, gate, self._stopped, self._stopped_as)
        return RunResult(found.verdict, masker.text(found.reason), found.flaky, found.dirty)

    def _values(self, suite: Suite, named: dict[tuple[str, ...], str]) -> Values:
        given = {**suite.vars, **self.run.vars}
        started = self.run.started_at or self.run.created_at
        about = {"id": str(self.run.pk), "suite": suite.slug, "started_at": _told(started)}
        values = Values(about, named)
        values.vars = fill_vars({name: value for name, value in given.items() if not is_of_a_case(value)}, values)
        return values

    async def _parts(self, suite: Suite, planned: Sequence[Instance], around: "Round") -> None:
        """Run setup, cases and teardown; the teardown in any case."""
        late = {name: value for name, value in {**suite.vars, **self.run.vars}.items() if is_of_a_case(value)}
        setup: CaseResult | None = None
        if suite.setup:
            setup = await self._one(frame(suite, Part.SETUP, 0), around, {})
            around.values.captures = dict(setup.captures)
        if setup is not None and setup.verdict != Verdict.PASSED:
            for instance in planned:
                self._note(_blocked(instance, "setup", setup.verdict), around)
        else:
            await self._cases(planned, around, late, fail_fast=suite.execution.fail_fast)
        if suite.teardown:
            await self._one(frame(suite, Part.TEARDOWN, planned[-1].number + 1), around, {}, always=True)

    async def _cases(
        self, planned: Sequence[Instance], around: "Round", late: dict[str, Any], *, fail_fast: bool
    ) -> None:
        broken = False

        def block(instance: Instance, by: Instance, verdict: Verdict) -> None:
            self._note(_blocked(instance, by.case.name, verdict), around)

        async def one(instance: Instance) -> Verdict:
            nonlocal broken
            if self._stopped:
                result = CaseResult(instance, Verdict(self._stopped_as), self._stopped)
                self._note(result, around)
            elif broken and fail_fast:
                result = CaseResult(instance, Verdict.SKIPPED, "fail_fast: a case before it did not pass")
                self._note(result, around)
            else:
                result = await self._one(instance, around, late)
            broken |= result.verdict != Verdict.PASSED
            return result.verdict

        await run_graph(planned, around.at_once, one, block)

    async def _one(
        self, instance: Instance, around: "Round", late: dict[str, Any], *, always: bool = False
    ) -> CaseResult:
        runner = self._runner(instance, around, late)
        if self._stopped and not always:
            runner.stop(self._stopped, Verdict(self._stopped_as))
        elif not always:
            self._running[instance.number] = runner
        self.progress.running[instance.number] = instance.label
        self._in_hand[instance.number] = runner
        try:
            result = await runner.run()
        finally:
            self._running.pop(instance.number, None)
            self.progress.running.pop(instance.number, None)
            self._in_hand.pop(instance.number, None)
        self._note(result, around)
        return result

    def _runner(self, instance: Instance, around: "Round", late: dict[str, Any]) -> CaseRunner | LoadRunner:
        if instance.case.load is None:
            return CaseRunner(instance, around.values, late, around.tools)

        return LoadRunner(self.run, instance, around.values, late, around.tools)

    def _note(self, result: CaseResult, around: "Round") -> None:
        self.progress.done += result.part == Part.CASE
        around.recorder.take(result)
        self._listener(result)
        # What the verdict needs; the rest is written down and let go of.
        kept = CaseResult(result.instance, result.verdict, result.reason, flaky=result.flaky, dirty=result.dirty)
        self._results.append(kept)

    async def _watch(self, telling: Telling) -> None:
        """Keep the lease, tell what is under way, and stop when somebody asks for it or the lease is another's."""
        while True:
            await asyncio.sleep(WATCH_S)
            asked = await self._database.run(leases.look, self.run.pk, self.token)
            if asked:
                self.stop(asked)
            if (news := telling.news(self._in_hand)) is not None:
                await self._database.run(telling.write, news)


@dataclass
class Round:
    """What all cases of a run share."""

    values: Values
    tools: RunTools
    recorder: Recorder
    at_once: int


def _blocked(instance: Instance, by: str, verdict: Verdict) -> CaseResult:
    cause = f"needs '{by}', which {'was ' if verdict in ('skipped', 'blocked', 'cancelled') else ''}{verdict}"
    return CaseResult(instance, Verdict.BLOCKED, cause, blocked_by=by)


def principal_of(run: Run) -> Principal:
    """Return who a run acts for: whoever started it, and sees what they saw then."""
    teams = None if run.team_ids is None else frozenset(run.team_ids)
    return Principal(label=run.created_by, role=run.role, via="run", team_ids=teams)


def _told(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
