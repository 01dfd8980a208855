"""What came of a case while it runs: plain values, which the recorder writes down."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from testing.assertions.judge import Check
from testing.assertions.observation import Observation
from testing.models import Attempt, Part, Phase, Verdict
from testing.runner.plan import Instance

# Of several, the one that speaks for all of them: the first there is of these.
WORST = (
    Verdict.CANCELLED,
    Verdict.FAILED,
    Verdict.ERRORED,
    Verdict.INCONCLUSIVE,
    Verdict.BLOCKED,
    Verdict.PASSED,
    Verdict.SKIPPED,
)


@dataclass(slots=True)
class AttemptResult:
    """`reasons` are what a retry can be asked to cover: error classes, and `assertion`; `broke`: a bug ended it.

    Of one that was let go, `row` is what will be stored; what was seen is no longer there.
    """

    number: int
    intended_at: datetime
    started_at: datetime
    verdict: Verdict = Verdict.PASSED
    reason: str = ""
    reasons: frozenset[str] = frozenset()
    error_class: str = ""
    seen: Observation = field(default_factory=Observation)
    checks: list[Check] = field(default_factory=list)
    captures: dict[str, Any] = field(default_factory=dict)
    row: Attempt | None = None
    broke: bool = False


@dataclass(slots=True)
class StepResult:
    """`tries` counts all attempts, of which the first and the last are kept; see `run_step`."""

    number: int
    path: str
    round: int
    phase: Phase
    kind: str
    step: str
    line: int
    attempts: list[AttemptResult] = field(default_factory=list)
    tries: int = 0
    dirty: bool = False
    verdict: Verdict = Verdict.PASSED
    reason: str = ""
    took_ms: float = 0.0

    @property
    def reasons(self) -> frozenset[str]:
        return self.attempts[-1].reasons if self.attempts else frozenset()

    @property
    def error_class(self) -> str:
        return self.attempts[-1].error_class if self.attempts else ""

    @property
    def broke(self) -> bool:
        return bool(self.attempts) and self.attempts[-1].broke

    @property
    def name(self) -> str:
        return self.step or f"{self.kind} in line {self.line}"


@dataclass(slots=True)
class CaseResult:
    instance: Instance
    verdict: Verdict = Verdict.PASSED
    reason: str = ""
    error_class: str = ""
    blocked_by: str = ""
    flaky: bool = False
    dirty: bool = False
    rounds: int = 1
    started_at: datetime | None = None
    took_ms: float = 0.0
    steps: list[StepResult] = field(default_factory=list)
    captures: Mapping[str, Any] = field(default_factory=dict)
    judged_at: float = 0.0  # of `time.perf_counter`: before its cleanups
    load: Mapping[str, Any] | None = None  # of a case with load: see `testing.load.figures`

    @property
    def part(self) -> Part:
        return self.instance.part


@dataclass(frozen=True, slots=True)
class InHand:
    """A case that runs, the step it is in, and since when (`time.perf_counter`)."""

    case: str
    step: str
    since: float


@dataclass(frozen=True, slots=True)
class RunResult:
    verdict: Verdict
    reason: str
    flaky: bool
    dirty: bool
