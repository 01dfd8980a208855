"""The report's charts as numbers: where each bar begins and how long it is. The template draws them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from testing.reports.shown import span

WIDTH = 1000.0  # of a chart, in units of its own: it is stretched to the place there is
THINNEST = 4.0
SLOWEST = 8
# Steps whose time is that of others, or was asked for.
NOT_TIMED = ("group", "wait")
PHASES = ("dns", "connect", "tls", "first_byte")


def shares(counts: Sequence[tuple[str, int]]) -> list[dict[str, Any]]:
    """Return one bar of parts, the widths in proportion; the smallest part can still be seen."""
    total = sum(count for _, count in counts) or 1
    widths = [max(count / total * WIDTH, THINNEST * 3) for _, count in counts]
    scale = WIDTH / (sum(widths) or 1)
    found, at = [], 0.0
    for (name, count), width in zip(counts, widths, strict=True):
        found.append({"name": name, "count": count, "x": _n(at), "width": _n(width * scale)})
        at += width * scale
    return found


class Timeline:
    """Places the cases of a run on its time."""

    def __init__(self, run: Mapping[str, Any]) -> None:
        begun = run["started_at"] or run["created_at"]
        ends = [_end(case) for case in run["cases"] if case["started_at"]]
        self._start = _at(begun)
        self.whole_ms = max([(run["took_s"] or 0) * 1000, *(end - self._start for end in ends), 1.0])

    def bar(self, case: Mapping[str, Any]) -> dict[str, str] | None:
        """Return where a case stands; None for one that never began."""
        if not case["started_at"]:
            return None
        width = max(case["took_ms"] / self.whole_ms * WIDTH, THINNEST)
        start = min(max(0.0, (_at(case["started_at"]) - self._start) / self.whole_ms * WIDTH), WIDTH - width)
        return {"x": _n(max(0.0, start)), "width": _n(min(width, WIDTH))}

    def ticks(self) -> list[str]:
        """Return what stands at the quarters of the axis."""
        return [span(self.whole_ms * part / 4) for part in range(5)]


def slowest(run: Mapping[str, Any], name_of: Any, step_name: Any) -> list[dict[str, Any]]:
    """Return the steps that took longest, each with the phases of its last attempt."""
    steps = [
        (step["took_ms"], case, step)
        for case in run["cases"]
        for step in case["steps"]
        if step["kind"] not in NOT_TIMED and step["took_ms"] > 0
    ]
    steps.sort(key=lambda found: -found[0])
    longest = steps[0][0] if steps else 1.0
    return [
        {
            "case": name_of(case),
            "step": step_name(step),
            "verdict": step["verdict"],
            "took": span(took),
            "tries": step["tries"],
            "parts": _phases(step, took, longest),
            "phases": [(name, span(ms)) for name, ms in _phases_ms(step).items()],
        }
        for took, case, step in steps[:SLOWEST]
    ]


def _phases_ms(step: Mapping[str, Any]) -> dict[str, float]:
    given = step["attempts"][-1]["phases_ms"] if step["attempts"] else {}
    return {name: given[name] for name in PHASES if isinstance(given.get(name), (int, float)) and given[name] > 0}


def _phases(step: Mapping[str, Any], took: float, longest: float) -> list[dict[str, str]]:
    """Return the parts of a step's bar; what no phase accounts for comes last."""
    parts, at = [], 0.0
    phases = _phases_ms(step) if len(step["attempts"]) == 1 else {}
    for name, ms in [*phases.items(), ("rest", max(0.0, took - sum(phases.values())))]:
        width = min(ms / longest * WIDTH, WIDTH - at)
        if width > 0:
            parts.append({"name": name, "x": _n(at), "width": _n(max(width, 1.0))})
            at += width
    return parts


def _at(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp() * 1000


def _end(case: Mapping[str, Any]) -> float:
    return _at(case["started_at"]) + float(case["took_ms"])


def _n(value: float) -> str:
    return f"{value:.2f}"
