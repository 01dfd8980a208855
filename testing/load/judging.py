"""The verdict of a load, out of its measures and what stopped it: pure.

What was not measured enough, or not as it was asked for, is inconclusive, never passed. A
generator that could not keep up makes things look worse than they are, and an open one has
not made the load that was asked for at all.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from testing.assertions.operators import apply, prepare_operators
from testing.document.load import Load
from testing.document.thresholds import Threshold
from testing.load.meter import LATE_S, Lag
from testing.load.tally import Latencies, Tally
from testing.models import Verdict

MOST_LATE = 0.05  # of the starts
MOST_CPU = 0.95
MOST_DROPPED = 0.01
WORDS = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">=", "eq": "=", "between": "between"}


@dataclass(frozen=True, slots=True)
class Judged:
    """A threshold and what came of it; `is_implied` is one that nobody wrote down."""

    name: str
    metric: str
    stat: str
    p: float | None
    limit: Mapping[str, Any]
    unit: str
    actual: float | None
    ok: bool
    is_implied: bool = False

    @property
    def said(self) -> str:
        return f"{self.name} {limit_in_words(self.limit)}"


@dataclass(slots=True)
class Facts:
    """What a load is judged by. `stopped` ends it early, as `stopped_as`; `cannot` is why nothing could run.

    `caps` is what else bounds it than what it asks of, in words.
    """

    whole: Tally
    judged_s: float
    lag: Lag
    stopped: str = ""
    stopped_as: Verdict = Verdict.CANCELLED
    cannot: str = ""
    caps: str = ""
    baseline: Sequence[Judged] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Judgement:
    verdict: Verdict
    reason: str
    thresholds: Sequence[Judged]
    saturated: str


LATENCY: dict[str, Callable[[Latencies, float], float]] = {
    "p": lambda latencies, p: latencies.p_ms(p),
    "min": lambda latencies, _: latencies.min_ms(),
    "max": lambda latencies, _: latencies.max_ms(),
    "mean": lambda latencies, _: latencies.mean_ms(),
}
COUNTS: dict[str, Callable[[Tally], tuple[int, int]]] = {  # of how many
    "errors": lambda tally: (tally.failed, tally.done),
    "dropped": lambda tally: (tally.dropped, tally.arrivals),
    "iterations": lambda tally: (tally.done, tally.done),
}


def measured(tally: Tally, seconds: float, metric: str, stat: str, p: float = 0.0) -> float | None:
    """Return a statistic; None where nothing was measured."""
    if metric.startswith("latency."):
        latencies: Latencies = getattr(tally, metric.partition(".")[2])
        return LATENCY[stat](latencies, p) if latencies.count else None
    if metric == "throughput":
        return round((tally.done - tally.failed) / seconds, 3) if seconds > 0 else None
    if metric.startswith("errors."):
        part, of = tally.errors[metric.partition(".")[2]], tally.done
    else:
        part, of = COUNTS[metric](tally)
    if stat == "value":
        return part
    return _share(part, of)


def _share(part: int, of: int) -> float | None:
    """Return a share to six digits, of however many: one of two million is not none."""
    return float(f"{part / of:.6g}") if of else None


def judge_threshold(threshold: Threshold, tally: Tally, seconds: float) -> Judged:
    """Return what comes of one; what was not measured holds nothing."""
    actual = measured(tally, seconds, threshold.metric, threshold.stat, threshold.p)
    return Judged(
        name=threshold.name,
        metric=threshold.metric,
        stat=threshold.stat,
        p=threshold.p if threshold.stat == "p" else None,
        limit=threshold.written,
        unit=threshold.unit,
        actual=actual,
        ok=actual is not None and apply(threshold.limit, actual) is None,
    )


def judge_load(load: Load, facts: Facts) -> Judgement:
    """Return the verdict with its reason."""
    thresholds = [judge_threshold(threshold, facts.whole, facts.judged_s) for threshold in load.thresholds]
    if not any(threshold.metric == "errors" for threshold in load.thresholds):
        thresholds.append(_no_errors(load, facts))
    saturated = saturation(load, facts.lag)
    wrong = [judged for judged in (*thresholds, *facts.baseline) if not judged.ok]
    verdict, reason = _verdict(load, facts, wrong, saturated)
    if facts.caps and verdict in (Verdict.FAILED, Verdict.INCONCLUSIVE) and not facts.stopped:
        reason = f"{reason}; {facts.caps}"
    return Judgement(verdict, reason, [*thresholds, *facts.baseline], saturated)


def saturation(load: Load, lag: Lag) -> str:
    """Return why the generator was the limit, "" when it was not."""
    if lag.late_share > MOST_LATE:
        p99 = lag.latencies.percentiles_ms([99]).get(99, 0.0)
        return (
            f"the generator was saturated: {lag.late_share:.0%} of its starts were over {LATE_S * 1000:g} ms late"
            f" (p99 {p99:g} ms)"
        )
    if load.model == "closed" and lag.cpu >= MOST_CPU:
        return f"the generator was saturated: it took {lag.cpu:.0%} of a core"
    return ""


def _no_errors(load: Load, facts: Facts) -> Judged:
    """Return what is asked where nothing else is said of errors: that there are none, but of classes that are named."""
    named = {threshold.metric.partition(".")[2] for threshold in load.thresholds} & facts.whole.errors.keys()
    others = facts.whole.failed - sum(facts.whole.errors[error] for error in named)
    rate = _share(others, facts.whole.done)
    name = "errors rate of the other classes" if named else "errors rate"
    return Judged(name, "errors", "rate", None, {"eq": 0}, "share", rate, not others, is_implied=True)


def _verdict(load: Load, facts: Facts, wrong: Sequence[Judged], saturated: str) -> tuple[Verdict, str]:
    whole, told = facts.whole, "; ".join(map(told_wrong, wrong))
    behind = f"; {told}" if told else ""
    if facts.cannot:
        return Verdict.ERRORED, facts.cannot
    if facts.stopped:
        return facts.stopped_as, facts.stopped
    if saturated and (load.model == "open" or any(judged.metric != "errors" for judged in wrong)):
        return Verdict.INCONCLUSIVE, f"{saturated}{behind}"
    if whole.done < load.min_samples:
        return Verdict.INCONCLUSIVE, f"{whole.done} samples, {load.min_samples} are needed{behind}"
    if wrong:
        return Verdict.FAILED, told
    dropped = measured(whole, facts.judged_s, "dropped", "rate") or 0.0
    if dropped > MOST_DROPPED and not any(threshold.metric == "dropped" for threshold in load.thresholds):
        return Verdict.INCONCLUSIVE, (
            f"{whole.dropped} of {whole.arrivals} arrivals were dropped: {load.max_in_flight} were in flight already,"
            " so the load asked for was not made"
        )
    return Verdict.PASSED, ""


def told_wrong(judged: Judged) -> str:
    return f"{judged.said}, but it was {in_unit(judged.actual, judged.unit)}"


def limit_in_words(limit: Mapping[str, Any]) -> str:
    return " and ".join(f"{WORDS.get(name, name)} {_operand(operand)}" for name, operand in limit.items())


def _operand(operand: Any) -> str:
    return " and ".join(map(str, operand)) if isinstance(operand, list) else str(operand)


def in_unit(value: float | None, unit: str) -> str:
    """Return a figure for people."""
    if value is None:
        return "not measured"
    said: dict[str, Callable[[float], str]] = {
        "ms": lambda ms: f"{ms:,.1f} ms" if ms < 10_000 else f"{ms / 1000:,.1f} s",
        "per_s": lambda rate: f"{rate:,.1f}/s",
        "share": lambda share: f"{share * 100:.3g} %",
        "count": lambda count: f"{count:,.0f}",
    }
    return said[unit](value)


def judge_against(actual: float | None, before: float, tolerance: float, metric: str, p: float | None) -> Judged:
    """Return what comes of comparing a figure with what it was before: latency may not grow, throughput not shrink."""
    is_latency = metric.startswith("latency.")
    limit = {"lte": before * (1 + tolerance)} if is_latency else {"gte": before * (1 - tolerance)}
    unit = "ms" if is_latency else "per_s"
    return Judged(
        name=f"{metric}{f' p{p:g}' if p is not None else ''} against {in_unit(before, unit)} before",
        metric=metric,
        stat="p" if p is not None else "value",
        p=p,
        limit={name: in_unit(value, unit) for name, value in limit.items()},
        unit=unit,
        actual=actual,
        ok=actual is not None and apply(prepare_operators(limit), actual) is None,
    )
