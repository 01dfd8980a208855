"""A suite as it runs: what the document says, checked, with durations in seconds and sizes in bytes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from testing.assertions.judge import Assertion
from testing.assertions.subjects import Read
from testing.document.load import Load


@dataclass(frozen=True, slots=True)
class Poll:
    """Ask again until the assertions hold; waiting is no flakiness."""

    within_s: float
    every_s: float


@dataclass(frozen=True, slots=True)
class Retry:
    """Run a case again from its start when it ends for one of these reasons; a rescue marks it flaky."""

    max: int = 0
    every_s: float = 0.0
    backoff: float = 1.0
    reasons: tuple[str, ...] = ("any",)

    def wait_s(self, number: int) -> float:
        """Return how long to wait before retry `number`, which counts from 1."""
        return float(self.every_s * self.backoff ** (number - 1))

    def covers(self, reason: str) -> bool:
        return "any" in self.reasons or reason in self.reasons


@dataclass(frozen=True, slots=True)
class Step:
    """One step. `params` are as written; `ready` are the same read by its kind, unless they hold references."""

    kind: str
    id: str
    params: Any
    ready: Any
    assertions: tuple[Assertion, ...] = ()
    asserts_nothing: bool = False
    captures: Mapping[str, tuple[str, Read]] = field(default_factory=dict)
    poll: Poll | None = None
    timeout_s: float = 30.0
    cleanup: "tuple[Step, ...]" = ()
    mark: tuple[int, int] = (0, 0)

    @property
    def inner(self) -> "tuple[Step, ...]":
        """The steps of a group; of any other kind none."""
        return tuple(step for step in self.ready["steps"] if step) if self.kind == "group" else ()


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    needs: tuple[str, ...]
    timeout_s: float
    retry: Retry
    steps: tuple[Step, ...]
    locks: tuple[str, ...] = ()
    load: Load | None = None


@dataclass(frozen=True, slots=True)
class Need:
    """Another suite whose last verdict this one waits for."""

    suite: str
    condition: str
    within_s: float | None


@dataclass(frozen=True, slots=True)
class Execution:
    mode: str = "sequential"
    max: int = 8
    fail_fast: bool = False
    timeout_s: float = 3600.0
    location: str = ""
    locks: tuple[str, ...] = ()

    @property
    def at_once(self) -> int:
        return 1 if self.mode == "sequential" else self.max


@dataclass(frozen=True, slots=True)
class Schedule:
    """When it runs by itself: five fields of cron, read in a time zone."""

    cron: str
    timezone: str
    overlap: str
    missed: str


@dataclass(frozen=True, slots=True)
class Data:
    """Rows for iterations; `csv` is a file beside the suite's, read by whoever runs it from a file."""

    rows: Sequence[Mapping[str, Any]]
    csv: str
    pick: str


@dataclass(frozen=True, slots=True)
class Gate:
    flaky: str = "warn"
    min_cases: int = 0


@dataclass(frozen=True, slots=True)
class Suite:
    slug: str
    title: str
    type: str
    labels: tuple[str, ...]
    systems: Mapping[str, str]
    needs: tuple[Need, ...]
    vars: Mapping[str, Any]
    matrix: Mapping[str, Sequence[Any]]
    data: Data | None
    execution: Execution
    gate: Gate
    setup: tuple[Step, ...]
    teardown: tuple[Step, ...]
    cases: tuple[Case, ...]
    text: str = field(repr=False)
    schedule: Schedule | None = None
    triggers: tuple[str, ...] = ()

    @property
    def case_runs(self) -> int:
        """Return what it comes to: cases times combinations times rows; a load has its rows within itself."""
        loads = sum(case.load is not None for case in self.cases)
        rows = max(1, len(self.data.rows) if self.data else 0)
        return (loads + (len(self.cases) - loads) * rows) * prod(map(len, self.matrix.values()))
