"""What a worker has in hand, written beside its run about once a second: a page shows it, and a loss is explained."""

import time
import uuid
from collections.abc import Mapping
from typing import Any, Protocol

from django.utils import timezone

from testing.models import Underway
from testing.runner.masking import Masker
from testing.runner.plan import Instance
from testing.runner.results import CaseResult

EVERY_S = 1.0
MOST_SHOWN = 20


class Worked(Protocol):
    """A case run, of whatever make; `how_far` is what a load says of itself."""

    @property
    def instance(self) -> Instance: ...

    @property
    def result(self) -> CaseResult: ...

    @property
    def how_far(self) -> str: ...


class Telling:
    """Says what is under way when it is another than before, and not more often than is of use."""

    def __init__(self, run_id: uuid.UUID, holder: uuid.UUID, masker: Masker) -> None:
        self._run_id, self._holder, self._masker = run_id, holder, masker
        self._told: list[dict[str, Any]] = []
        self._next_at = 0.0

    def news(self, running: Mapping[int, Worked]) -> list[dict[str, Any]] | None:
        """Return what there is to tell, None when nothing is new or something was told only just now."""
        if time.monotonic() < self._next_at:
            return None
        steps = [self._masker.value(_step(runner)) for runner in list(running.values())[:MOST_SHOWN]]
        if steps == self._told:
            return None
        self._told, self._next_at = steps, time.monotonic() + EVERY_S
        return steps

    def write(self, steps: list[dict[str, Any]]) -> None:
        Underway.objects.update_or_create(
            run_id=self._run_id, holder=self._holder, defaults={"steps": steps, "at": timezone.now()}
        )


def forget(run_id: uuid.UUID, holder: uuid.UUID) -> None:
    """Let go of what was told, once its worker has nothing more in hand."""
    Underway.objects.filter(run_id=run_id, holder=holder).delete()


def _step(runner: Worked) -> dict[str, Any]:
    steps, started = runner.result.steps, runner.result.started_at
    told: dict[str, Any] = {"case": runner.instance.label, "since": started.isoformat() if started else None}
    if runner.how_far:
        told["how_far"] = runner.how_far
    if steps:
        step = steps[-1]
        told |= {"step": step.step, "kind": step.kind, "line": step.line, "attempt": step.tries}
        if step.attempts:
            told["since"] = step.attempts[0].started_at.isoformat()
    return told
