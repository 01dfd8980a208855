"""One run, from its row to its verdict: setup, the graph of cases, teardown; whoever works it holds its lease."""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, TypeVar

import structlog
from django.db import Error as DatabaseError

from endpoints.edge.database_threads import DatabaseThreads
from endpoints.errors import ControlPlaneError
from testing.document.picking import pick
from testing.document.reader import read_suite
from testing.document.references import Unresolved, has_references
from testing.document.secret_names import secret_texts
from testing.document.suite import Suite
from testing.errors import Unwritten
from testing.load.runner import LoadRunner
from testing.models import Part, Run, Verdict
from testing.owning import own
from testing.runner import leases, locking, resuming
from testing.runner.beginning import Beginnings
from testing.runner.casing import CaseRunner
from testing.runner.ending import cancelled, end
from testing.runner.frames import check_replaced, find_called
from testing.runner.graph import run_graph
from testing.runner.holding import Hold, RunHold
from testing.runner.judging import judge_run
from testing.runner.locking import Locks
from testing.runner.masking import Masker
from testing.runner.plan import Instance, frame, of_run
from testing.runner.recorder import Recorder
from testing.runner.results import CaseResult, InHand, RunResult
from testing.runner.resuming import Earlier
from testing.runner.rounds import Listener, Progress, Round, blocked, patiently, principal_of, told
from testing.runner.scope import Values, fill_vars, is_of_a_case, secrets_named
from testing.runner.targets import find_secrets, find_targets, texts_to_mask
from testing.runner.tools import RunTools
from testing.runner.underway import Telling

log = structlog.get_logger(__name__)

WATCH_S = 0.3  # how soon a cancel is seen
T = TypeVar("T")


class Execution:
    """Runs one run whose lease we hold. Of a distributed one workers take shares; with `takes_shares` we do, too."""

    def __init__(self, run: Run, token: uuid.UUID, listener: Listener | None = None, hold: Hold | None = None) -> None:
        self.run, self.token = run, token
        self.hold = hold or RunHold(run.pk, token)
        self.takes_shares = False
        self._earlier = Earlier()
        self.progress = Progress()
        self.listener = listener or (lambda _: None)
        self._results: list[CaseResult] = []
        self._running: dict[int, CaseRunner | LoadRunner] = {}
        self._in_hand: dict[int, CaseRunner | LoadRunner] = {}  # those and what nothing stops
        self._stopped, self._stopped_as = "", ""
        self._database = DatabaseThreads("run")
        self._locks = Locks(run, self.ask)
        self._beginnings = Beginnings(self.hold, self.ask)

    async def work(self) -> RunResult | None:
        """Run to the end and write the verdict; None when the lease was lost to somebody else.

        Raises Unwritten when results or verdict could not be written: another worker goes on with it.
        """
        try:
            result = await self._work()
        except Unwritten:
            await asyncio.to_thread(self._database.shutdown)
            raise
        except (ControlPlaneError, Unresolved) as exc:
            result = RunResult(Verdict.ERRORED, str(exc), flaky=False, dirty=False)
        except Exception as exc:  # a bug of ours costs one run, not the worker
            log.exception("run_failed", run=str(self.run.pk))
            result = RunResult(Verdict.ERRORED, f"internal: {type(exc).__name__}", flaky=False, dirty=False)
        try:
            return result if await end(self._database.run, self.hold, result) else None
        finally:
            await asyncio.to_thread(self._database.shutdown)

    def stop(self, reason: str, verdict: Verdict = Verdict.CANCELLED) -> None:
        """End what runs within a moment and begin nothing more; cleanups and the teardown still run."""
        if not self._stopped:
            self._stopped, self._stopped_as = reason, verdict
            for runner in list(self._running.values()):
                runner.stop(reason, verdict)

    @property
    def stopped(self) -> tuple[str, str] | None:
        """Return why it has to end, and as what; None when it may go on."""
        return (self._stopped, self._stopped_as) if self._stopped else None

    async def ask(self, call: Callable[..., T], *arguments: Any) -> T:
        return await patiently(self._database, call, *arguments)

    def in_hand(self) -> list[InHand]:
        """Return what runs right now, for whoever watches."""
        return [runner.in_hand() for runner in list(self._in_hand.values())]

    async def _work(self) -> RunResult:
        run, suite = self.run, pick(read_suite(self.run.document.text), self.run.only)
        principal = await self._database.run(principal_of, run)
        library = await self._database.run(find_called, suite, principal)
        check_replaced(library, run.systems)
        targets = await self._database.run(find_targets, {**library.systems, **run.systems}, principal)
        await self._database.run(own, run, [target.party.slug for target in targets.values()])
        named = await self._database.run(find_secrets, secrets_named(library.texts), principal)
        masker = Masker(texts_to_mask(targets.values(), named) | secret_texts(run.vars))
        planned = of_run(suite, run)
        at_once = min(run.parallel or suite.execution.at_once, len(planned))
        self.progress.total = len(planned)
        self._earlier = await self._database.run(self._before_us, len(planned))
        leave = run.allow_production
        tools = RunTools(targets, principal, library, masker, at_once=at_once, allow_production=leave)
        recorder = Recorder(run, masker, self.hold)
        limit = asyncio.get_running_loop().call_later(
            suite.execution.timeout_s,
            lambda: self.stop(f"the run took longer than {suite.execution.timeout_s:g} s", Verdict.ERRORED),
        )
        async with AsyncExitStack() as ending:  # the last goes first, and each whatever the others raise
            watching = asyncio.ensure_future(self._watch(Telling(run.pk, self.token, masker)))
            ending.push_async_callback(cancelled, watching)  # to write results can take longer than a lease lasts
            ending.push_async_callback(recorder.aclose)
            ending.push_async_callback(tools.aclose)
            ending.callback(limit.cancel)
            await self._locked(suite, planned, Round(self._values(suite, named), tools, recorder, at_once))
        # Of a part of the cases no more can be asked for than it has.
        gate = replace(suite.gate, min_cases=min(suite.gate.min_cases, len(planned))) if run.is_part else suite.gate
        found = judge_run(self._results, gate, self._stopped, self._stopped_as)
        return RunResult(found.verdict, masker.told(found.reason), found.flaky, found.dirty)

    def _before_us(self, total: int) -> Earlier:
        leases.plan(self.run.pk, total)
        return resuming.earlier(self.run, was_lost=True) if self.run.losses else Earlier()

    def _values(self, suite: Suite, named: dict[tuple[str, ...], str]) -> Values:
        given = {**suite.vars, **self.run.vars}
        started = self.run.started_at or self.run.created_at
        about = {"id": str(self.run.pk), "suite": suite.slug, "started_at": told(started)}
        values = Values(about, named)
        if self._earlier.handed is not None:
            values.vars, values.captures = self._earlier.handed["vars"], self._earlier.handed["captures"]
        else:
            own = {name: value for name, value in given.items() if not is_of_a_case(value)}
            values.vars = fill_vars(own, values)
        return values

    async def _locked(self, suite: Suite, planned: Sequence[Instance], around: "Round") -> None:
        """Hold the locks of the whole run while its parts run; stopped before it has them, nothing ran."""
        held = await self._locks.take(suite.execution.locks, lambda: bool(self._stopped))
        if held is None:
            for instance in planned:
                self.note(CaseResult(instance, Verdict(self._stopped_as), self._stopped), around)
            return
        try:
            await self._parts(suite, planned, around)
        finally:
            await self._locks.give_back(held)

    async def _parts(self, suite: Suite, planned: Sequence[Instance], around: "Round") -> None:
        """Run setup, cases and teardown; the teardown in any case."""
        try:
            await self._setup_and_cases(suite, planned, around)
        finally:
            teardown = frame(suite, Part.TEARDOWN, planned[-1].number + 1)
            if suite.teardown and not self._earlier.stands(teardown):
                await self._one(teardown, around, {}, always=True)

    async def _setup_and_cases(self, suite: Suite, planned: Sequence[Instance], around: "Round") -> None:
        late = {name: value for name, value in {**suite.vars, **self.run.vars}.items() if is_of_a_case(value)}
        setup = await self._setup(suite, around) if suite.setup else None
        if setup is not None and setup.verdict != Verdict.PASSED:
            for instance in planned:
                if self._earlier.stands(instance):
                    self.keep(self._earlier.result_of(instance) or CaseResult(instance))
                else:
                    self.note(blocked(instance, "setup", setup.verdict), around)
        else:
            is_shared = suite.execution.mode == "distributed"
            if self._earlier.handed is None and (is_shared or suite.setup or has_references(dict(suite.vars))):
                kept = await self._database.run(
                    resuming.hand_over, self.run, around.values.vars, around.values.captures
                )
                is_shared = is_shared and kept
            if is_shared:
                from testing.runner.shares import lead  # which works them as runs are worked here

                await lead(self, planned, around)
            else:
                await self._cases(planned, around, late, fail_fast=suite.execution.fail_fast)

    async def _setup(self, suite: Suite, around: "Round") -> CaseResult:
        """Run the setup, unless a worker before us did; one that was lost in it and writes is not run again."""
        instance, earlier = frame(suite, Part.SETUP, 0), self._earlier
        stands, setup = earlier.stands(instance), earlier.result_of(instance)
        if earlier.handed is not None and not stands:  # it passed, or nothing would have been handed over
            setup = CaseResult(instance, Verdict.PASSED, "what it did was lost with its worker")
        if setup is None:
            setup = await self._one(instance, around, {})
            around.values.captures = dict(setup.captures)
        else:
            self.keep(setup) if stands else self.note(setup, around)
        return setup

    async def _cases(
        self, planned: Sequence[Instance], around: "Round", late: dict[str, Any], *, fail_fast: bool
    ) -> None:
        broken = False

        def block(instance: Instance, by: Instance, verdict: Verdict) -> None:
            if self._earlier.stands(instance):
                self.keep(self._earlier.result_of(instance) or CaseResult(instance))
                return
            self.note(blocked(instance, by.case.name, verdict), around)

        async def one(instance: Instance) -> Verdict:
            nonlocal broken
            if (earlier := self._earlier.result_of(instance)) is not None:
                result = earlier
                self.keep(result) if self._earlier.stands(instance) else self.note(result, around)
            elif self._stopped:
                result = CaseResult(instance, Verdict(self._stopped_as), self._stopped)
                self.note(result, around)
            elif broken and fail_fast:
                result = CaseResult(instance, Verdict.SKIPPED, "fail_fast: a case before it did not pass")
                self.note(result, around)
            else:
                result = await self._one(instance, around, late)
            broken |= result.verdict != Verdict.PASSED
            return result.verdict

        await run_graph(planned, around.at_once, one, block)

    async def _one(
        self, instance: Instance, around: "Round", late: dict[str, Any], *, always: bool = False
    ) -> CaseResult:
        """Run one case, holding its locks."""
        locks = await self._locks.take(instance.case.locks, lambda: bool(self._stopped))
        try:
            return await self._holding(instance, around, late, always=always)
        finally:
            await self._locks.give_back(locks or ())

    async def _holding(self, instance: Instance, around: "Round", late: dict[str, Any], *, always: bool) -> CaseResult:
        runner = self._runner(instance, around, late)
        if not self._stopped and not always and not await self._beginnings.note(instance):
            self.stop(leases.TAKEN)
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
        self.note(result, around)
        return result

    def _runner(self, instance: Instance, around: "Round", late: dict[str, Any]) -> CaseRunner | LoadRunner:
        if instance.case.load is None:
            return CaseRunner(instance, around.values, late, around.tools)
        return LoadRunner(self.run, instance, around.values, late, around.tools)

    def note(self, result: CaseResult, around: "Round") -> None:
        self.progress.done += result.part == Part.CASE
        around.recorder.take(result)
        self.listener(result)
        self.keep(result)

    def keep(self, result: CaseResult) -> None:
        """Keep what the verdict needs; the rest is written down and let go of."""
        kept = CaseResult(result.instance, result.verdict, result.reason, flaky=result.flaky, dirty=result.dirty)
        self._results.append(kept)

    async def _watch(self, telling: Telling) -> None:
        """Keep lease and locks, tell what is under way, and stop when somebody asks or the lease is another's."""
        while True:
            await asyncio.sleep(WATCH_S)
            try:
                asked, as_what = await self._database.run(self.hold.look)
                if self._locks.held and not await self._database.run(locking.renew, tuple(self._locks.held)):
                    self.stop("a lock that it held was lost to another run", Verdict.ERRORED)
                if (news := telling.news(self._in_hand)) is not None:
                    await self._database.run(telling.write, news)
            except DatabaseError as exc:  # it may come back before the lease runs out
                log.warning("run_waits_for_database", run=str(self.run.pk), error=str(exc))
                continue
            if asked:
                self.stop(asked, Verdict(as_what))
