"""What a run takes over from the worker before: results that stand, and which cases may run again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from endpoints.access import secrets
from endpoints.errors import ControlPlaneError
from testing.document.nodes import Faults, placed
from testing.document.suite import Case, Step
from testing.models import Begun, CaseRun, Run, Verdict
from testing.runner.leases import LOST
from testing.runner.plan import Instance
from testing.runner.results import CaseResult
from testing.steps import step_class

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Earlier:
    """What was written down before us; `was_lost` says that what was not may have been begun.

    `begun` are the cases that write and did begin; None: nobody wrote that down.
    """

    done: Mapping[int, CaseRun] = field(default_factory=dict)
    handed: Mapping[str, Any] | None = None
    was_lost: bool = False
    begun: frozenset[int] | None = None

    def result_of(self, instance: Instance) -> CaseResult | None:
        """Return what stands of a case: its result, or that it was lost and cannot be run twice."""
        if (row := self.done.get(instance.number)) is not None:
            return CaseResult(instance, Verdict(row.verdict), row.reason, flaky=row.flaky, dirty=row.dirty)
        if self.was_lost and self._may_have_begun(instance) and not is_safe(instance.case):
            leaves_dirt = any(step.cleanup for step in instance.case.steps)
            return CaseResult(instance, Verdict.ERRORED, LOST, dirty=leaves_dirt)
        return None

    def _may_have_begun(self, instance: Instance) -> bool:
        return self.begun is None or instance.number in self.begun

    def stands(self, instance: Instance) -> bool:
        return instance.number in self.done


def earlier(run: Run, *, was_lost: bool) -> Earlier:
    """Return what was written down of a run."""
    done = CaseRun.objects.filter(run=run).only("number", "verdict", "reason", "flaky", "dirty")
    handed = secrets.decrypt(run.handed) if run.handed is not None else None
    begun = frozenset(Begun.objects.filter(run=run).values_list("number", flat=True)) if run.notes_begun else None
    return Earlier({row.number: row for row in done}, handed, was_lost, begun)


def recorded(run: Run) -> Earlier:
    """Return what was written down so far, by whomever."""
    return earlier(run, was_lost=False)


def hand_over(run: Run, vars: Mapping[str, Any], captures: Mapping[str, Any]) -> bool:
    """Keep what all cases share, for other workers; False when it cannot be kept, as without a key to encrypt it."""
    try:
        blob, _ = secrets.encrypt({"vars": dict(vars), "captures": dict(captures)})
    except (ControlPlaneError, TypeError) as exc:
        log.warning("run_not_handed_over", run=str(run.pk), error=str(exc))
        return False
    Run.objects.filter(pk=run.pk, lease_token=run.lease_token).update(handed=blob)
    return True


def is_safe(case: Case) -> bool:
    """Say whether a case can run twice: none of its steps writes anything."""
    return all(map(_is_safe_step, case.steps))


def _is_safe_step(step: Step) -> bool:
    action = step_class(step.kind)()
    ready = step.ready
    if ready is None:  # it holds references: as far as it can be told without them
        ready = action.SHAPE.read(placed(step.params, step.mark), step.kind, Faults())
    inner: Sequence[Step | None] = ready.get("steps") or () if isinstance(ready, Mapping) else ()
    within = [found for found in inner if isinstance(found, Step)]
    return not action.writes(ready) and all(map(_is_safe_step, within))
