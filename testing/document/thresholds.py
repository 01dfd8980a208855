"""Thresholds in the document: a metric of a load, a statistic of it, and the limits to that, with their units."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from endpoints.transports.base import ErrorClass
from testing.assertions.operators import Prepared, prepare_operators
from testing.document.kinds import FIXED_DURATION_S, Kind, duration_s, named
from testing.document.nodes import Faults, Node, plain, unknown

RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?)/(s|m|h)")
SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
LONGEST_WINDOW_S = 60.0
LIMITS = ("lt", "lte", "gt", "gte", "eq", "between")


@dataclass(frozen=True, slots=True)
class Threshold:
    """A statistic of a metric and the limits to it. `over_s` is the window of one that aborts, 0.0 of the others."""

    metric: str
    stat: str
    p: float
    limit: Prepared
    written: Mapping[str, Any]
    over_s: float = 0.0
    line: int = 0

    @property
    def name(self) -> str:
        return f"{self.metric} {f'p{self.p:g}' if self.stat == 'p' else self.stat}"

    @property
    def unit(self) -> str:
        return unit_of(self.metric, self.stat)


# --- metrics and their units ---------------------------------------------------

METRICS: dict[str, tuple[str, ...]] = {
    "latency.response": ("p", "min", "max", "mean"),
    "latency.service": ("p", "min", "max", "mean"),
    "errors": ("rate", "value"),
    "dropped": ("rate", "value"),
    "throughput": ("value",),
    "iterations": ("value",),
}
ERRORS = (*[kind.value for kind in ErrorClass], "assertion")
STATS = ("p", "rate", "min", "max", "mean", "value")


def stats_of(metric: str) -> tuple[str, ...]:
    """Return what can be asked of a metric; `errors.timeout` is one as `errors` is; raises ValueError."""
    root, dot, below = metric.partition(".")
    if root == "errors" and dot:
        if below not in ERRORS:
            raise ValueError(unknown("class of errors", below, list(ERRORS)))
        return METRICS["errors"]
    if metric not in METRICS:
        raise ValueError(unknown("metric", metric, [*METRICS, "errors.<class>"]))
    return METRICS[metric]


def unit_of(metric: str, stat: str) -> str:
    if metric.startswith("latency."):
        return "ms"
    return "per_s" if metric == "throughput" else "share" if stat == "rate" else "count"


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"must be a number, not {named(value)}")
    return value


def rate_per_s(value: Any) -> float:
    """Return what `200/s`, `30/m` or `10/h` is a second; raises ValueError."""
    match = RATE.fullmatch(value) if isinstance(value, str) and len(value) < 30 else None
    if match is None:
        raise ValueError(f"must be a rate such as 200/s or 30/m, not {value!r:.60}")
    return float(match[1]) / SECONDS[match[2]]


UNITS: dict[str, Callable[[Any], float]] = {
    "ms": lambda value: duration_s(value) * 1000,
    "per_s": rate_per_s,
    "share": _number,
    "count": _number,
}


class ThresholdKind(Kind):
    """`{metric: latency.response, p: 99, lt: 400ms}` or `{metric: errors, rate: {lt: 0.01}}`."""

    def __init__(self, *, aborts: bool = False) -> None:
        self._aborts = aborts

    def read(self, node: Node, place: str, faults: Faults) -> Threshold | None:
        if not isinstance(node.value, dict) or "metric" not in node.value:
            faults.add(node, place, "must be an object with `metric`, such as {metric: errors, rate: {lt: 0.01}}")
            return None
        given = plain(node)
        try:
            return self._threshold(given, node.mark[0])
        except ValueError as exc:
            faults.add(node, place, str(exc))
            return None

    def _threshold(self, given: dict[str, Any], line: int) -> Threshold:
        metric, over = str(given.pop("metric")), given.pop("over", None)
        stats = stats_of(metric)
        asked = [name for name in STATS if name in given]
        if len(asked) != 1:
            raise ValueError(f"needs exactly one of {', '.join(stats)}")
        stat = asked[0]
        if stat not in stats:
            raise ValueError(f"{metric} has no {stat}; it has {', '.join(stats)}")
        below, p = given.pop(stat), 0.0
        if stat == "p":
            p = _number(below)
            if not 0 < p <= 100:
                raise ValueError("p must be over 0 and at most 100")
            below = given
        elif given:
            raise ValueError(unknown("key", next(iter(given)), ["metric", *stats, *(["over"] if self._aborts else [])]))
        limit = _limit(below, UNITS[unit_of(metric, stat)])
        return Threshold(metric, stat, p, limit, below, self._over(over), line)

    def _over(self, over: Any) -> float:
        if not self._aborts:
            if over is not None:
                raise ValueError("`over` is of abort_if only; a threshold is about the whole load")
            return 0.0
        found = duration_s(over)
        if not 1 <= found <= LONGEST_WINDOW_S:
            raise ValueError(f"over must be 1s to {LONGEST_WINDOW_S:g}s")
        return found

    def schema(self) -> dict[str, Any]:
        limits: dict[str, Any] = {name: {} for name in LIMITS}
        of_stat = {"type": "object", "properties": limits, "additionalProperties": False, "minProperties": 1}
        properties: dict[str, Any] = {"metric": {"type": "string"}, "p": {"type": "number"}, **limits}
        properties |= {name: of_stat for name in STATS if name != "p"}
        required = ["metric"]
        if self._aborts:
            properties["over"] = FIXED_DURATION_S.schema()
            required.append("over")
        return {
            "type": "object",
            "properties": properties,
            "additionalProperties": False,
            "required": required,
            "oneOf": [{"required": [name]} for name in STATS],
        }


def _limit(written: Any, read: Callable[[Any], float]) -> Prepared:
    if not isinstance(written, dict) or not written:
        raise ValueError(f"needs a limit, such as lt; known are {', '.join(LIMITS)}")
    for name in written:
        if name not in LIMITS:
            raise ValueError(unknown("limit", str(name), list(LIMITS)))
    return prepare_operators(
        {
            name: [read(item) for item in operand] if isinstance(operand, list) else read(operand)
            for name, operand in written.items()
        }
    )
