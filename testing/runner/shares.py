"""A distributed run as its leader sees it, and a share of one as the worker that took it does."""

import asyncio
import uuid
from collections.abc import Sequence

from testing.document.suite import Suite
from testing.models import Share, Verdict
from testing.runner import leases, resuming, sharing
from testing.runner.execute import WATCH_S, Execution
from testing.runner.holding import ShareHold
from testing.runner.plan import Instance
from testing.runner.results import CaseResult
from testing.runner.resuming import Earlier
from testing.runner.rounds import Listener, Round
from testing.runner.scope import is_of_a_case


class ShareExecution(Execution):
    """Runs the cases of a share whose lease we hold; the verdict of the run is somebody else's to give."""

    def __init__(self, share: Share, listener: Listener | None = None) -> None:
        assert share.lease_token is not None
        hold = ShareHold(share.run_id, share.lease_token, share.pk)
        super().__init__(share.run, share.lease_token, listener, hold)
        self.share = share

    @property
    def run_id(self) -> uuid.UUID:
        return self.share.run_id

    @property
    def only_waits(self) -> bool:
        """Say whether all that it could do waits for locks, which others hold."""
        return bool(self._locks.waiting) and not self._in_hand

    def _before_us(self, total: int) -> Earlier:
        return resuming.earlier(self.run, was_lost=self.share.losses > 0)

    async def _locked(self, suite: Suite, planned: Sequence[Instance], around: Round) -> None:
        """Run the share's cases; those they need are in it, too."""
        mine = set(self.share.numbers)
        late = {name: value for name, value in {**suite.vars, **self.run.vars}.items() if is_of_a_case(value)}
        cases = [instance for instance in planned if instance.number in mine]
        await self._cases(cases, around, late, fail_fast=suite.execution.fail_fast)


async def lead(run: Execution, planned: Sequence[Instance], around: Round) -> None:
    """Deal the cases of a run to workers and wait for all; what nobody wrote down was stopped, or is lost."""
    await around.recorder.flush()
    await run.ask(sharing.deal, run.run, planned)
    is_told, mine = False, None
    while True:
        if run.stopped and not is_told:
            await run.ask(sharing.stop, run.run.pk, *run.stopped)
            is_told = True
        if run.takes_shares and mine is None and not run.stopped:
            mine = await _take_one(run)
        if mine is not None:
            done, _ = await asyncio.wait({mine}, timeout=WATCH_S)
            mine = None if done else mine
        elif await run.ask(sharing.left, run.run.pk):
            await asyncio.sleep(WATCH_S)
        else:
            break
    found = await run.ask(resuming.recorded, run.run)
    for instance in planned:
        if (result := found.result_of(instance)) is not None:
            run.keep(result)
        else:
            reason, verdict = run.stopped or (leases.LOST, Verdict.ERRORED)
            run.note(CaseResult(instance, Verdict(verdict), reason), around)


async def _take_one(run: Execution) -> "asyncio.Task[object] | None":
    """Work a share here, as any worker would."""
    share = await run.ask(sharing.take, uuid.uuid4(), (run.run.location,), (), run.run.pk)
    return None if share is None else asyncio.ensure_future(ShareExecution(share, run.listener).work())
