"""`load:` of a case in the document: how often its steps run, for how long, and what must hold of all of it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from testing.document.kinds import FIXED_DURATION_S, Field, ListOf, Scalar, Shape, choice, integer
from testing.document.nodes import Faults, Node
from testing.document.thresholds import RATE, Threshold, ThresholdKind, rate_per_s

AGAINST = re.compile(r"last ([1-9][0-9]?) passed")
PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]+)?)%")
FASTEST, MOST_USERS, MOST_IN_FLIGHT = 100_000.0, 10_000, 50_000


# --- what it comes to ----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stage:
    """A stretch of time: `level` is arrivals a second, or users; with `ramps` it is reached at the stage's end."""

    for_s: float
    level: float
    ramps: bool


@dataclass(frozen=True, slots=True)
class Baseline:
    """Nothing may be worse than in the `last` passed runs, by more than `tolerance` (a share)."""

    last: int
    tolerance: float


@dataclass(frozen=True, slots=True)
class Load:
    """A case as load: each run of its steps is an iteration."""

    model: str
    stages: tuple[Stage, ...]
    max_in_flight: int
    at_once: int
    think_s: float
    warmup_s: float
    abort_if: tuple[Threshold, ...]
    thresholds: tuple[Threshold, ...]
    min_samples: int
    baseline: Baseline | None

    @property
    def for_s(self) -> float:
        return sum(stage.for_s for stage in self.stages)

    @property
    def most_at_once(self) -> int:
        """Return how many iterations can run at the same time."""
        return self.at_once if self.model == "open" else int(max(stage.level for stage in self.stages))


# --- kinds ---------------------------------------------------------------------


def _level(value: Any) -> float | int:
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value <= MOST_USERS:
            raise ValueError(f"must be 0 to {MOST_USERS} users")
        return value
    found = rate_per_s(value)
    if found > FASTEST:
        raise ValueError(f"must be at most {FASTEST:g}/s")
    return float(found)


def _against(value: Any) -> int:
    match = AGAINST.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("must read `last 5 passed`, with 1 to 99")
    return int(match[1])


def _percent(value: Any) -> float:
    match = PERCENT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"must be a percentage such as 15%, not {value!r:.60}")
    return float(match[1]) / 100


LEVEL = Scalar(
    _level,
    {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": f"^{RATE.pattern}$"}]},
    fixed=True,
)
LOAD = Shape(
    {
        "model": Field(choice("open", "closed"), "open: arrivals at a rate; closed: users.", default="open"),
        "stages": Field(
            ListOf(
                Shape(
                    {
                        "for": Field(FIXED_DURATION_S, "How long.", required=True),
                        "to": Field(LEVEL, "Grow or shrink to it: 200/s when open, a number of users when closed."),
                        "at": Field(LEVEL, "Stay at it."),
                    },
                    one_of=("to", "at"),
                ),
                at_least=1,
                at_most=100,
            ),
            "One after the other; the first `to` grows from 0.",
            required=True,
        ),
        "max_in_flight": Field(
            integer(1, MOST_IN_FLIGHT, fixed=True), "Arrivals beyond it are counted as dropped.", default=None
        ),
        "at_once": Field(
            integer(1, MOST_IN_FLIGHT, fixed=True),
            "So many iterations run at once; arrivals beyond it wait, which counts in latency.response.",
            default=None,
        ),
        "think": Field(FIXED_DURATION_S, "How long a user pauses after an iteration.", default=0.0),
        "warmup": Field(FIXED_DURATION_S, "What starts before is not judged.", default=0.0),
        "abort_if": Field(ListOf(ThresholdKind(aborts=True), at_most=20), "End early, as failed.", default=[]),
        "thresholds": Field(ListOf(ThresholdKind(), at_most=50), "What must hold of all of it.", default=[]),
        "min_samples": Field(integer(1, 1_000_000_000, fixed=True), "Fewer: inconclusive.", default=1),
        "baseline": Field(
            Shape(
                {
                    "against": Field(
                        Scalar(_against, {"type": "string", "pattern": f"^{AGAINST.pattern}$"}, True), required=True
                    ),
                    "tolerance": Field(
                        Scalar(_percent, {"type": "string", "pattern": f"^{PERCENT.pattern}$"}, True), required=True
                    ),
                }
            ),
            "Latency and throughput may be worse than in earlier passed runs by no more than the tolerance.",
        ),
    }
)
DEFAULT_IN_FLIGHT = 1000


# --- what one place cannot tell by itself --------------------------------------


def check_load(case: Node, values: Mapping[str, Any], place: str, faults: Faults) -> None:
    """Note what does not fit together in a case's `load`; the case has one."""
    node, load = case.value["load"], values["load"]
    is_open = load["model"] == "open"
    for index, stage in enumerate(load["stages"]):
        level = stage["at"] if stage["to"] is None else stage["to"]
        if isinstance(level, float) != is_open:
            wanted = "arrivals at a rate, such as 200/s" if is_open else "a number of users, such as 20"
            at = node.value["stages"].value[index]
            faults.add(at, f"{place}.load.stages.{index}", f"the {load['model']} model needs {wanted}")
    for name in ("max_in_flight", "at_once") if not is_open else ("think",):
        if name in node.value:
            other = "open" if not is_open else "closed"
            faults.add(node.keys[name], f"{place}.load", f"{name} is of the {other} model")
    if load["warmup"] and load["warmup"] >= sum(stage["for"] or 0.0 for stage in load["stages"]):
        faults.add(node.value["warmup"], f"{place}.load.warmup", "must be shorter than the stages together")
    if (load["at_once"] or 1) > (load["max_in_flight"] or DEFAULT_IN_FLIGHT):
        faults.add(node.value["at_once"], f"{place}.load.at_once", "must be at most max_in_flight")
    if values["retry"]:
        faults.add(case.keys["retry"], place, "a case with load is not retried: its errors are counted")


def make_load(load: Mapping[str, Any]) -> Load:
    """Return the load that checked values describe."""
    most = load["max_in_flight"] or DEFAULT_IN_FLIGHT
    baseline = load["baseline"]
    return Load(
        model=load["model"],
        stages=tuple(_stage(stage) for stage in load["stages"]),
        max_in_flight=most,
        at_once=load["at_once"] or most,
        think_s=load["think"],
        warmup_s=load["warmup"],
        abort_if=tuple(load["abort_if"]),
        thresholds=tuple(load["thresholds"]),
        min_samples=load["min_samples"],
        baseline=Baseline(baseline["against"], baseline["tolerance"]) if baseline else None,
    )


def _stage(stage: Mapping[str, Any]) -> Stage:
    ramps = stage["to"] is not None
    return Stage(stage["for"], float(stage["to"] if ramps else stage["at"]), ramps)
