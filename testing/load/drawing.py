"""A load as a template draws it: its thresholds with what they were, and its charts as paths in a box of their own."""

from collections.abc import Mapping, Sequence
from typing import Any

from testing.load.figures import lines_of
from testing.load.judging import in_unit

WIDTH, HEIGHT = 600.0, 150.0
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
Values = Sequence[float | None]
Line = tuple[str, str, Values]  # its name, its class, its values


def drawn(load: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `reports/load.html` shows of `testing.load.figures`."""
    chart = load["chart"]
    return {
        "said": lines_of(load)[0],
        "thresholds": load["thresholds"],
        "saturated": load["generator"]["saturated"],
        "generator": _generator(load["generator"]),
        "errors": list(load["figures"]["errors_by_class"].items()),
        "steps": _steps(load["figures"]["steps"]),
        "charts": [found for found in (_rates(chart), _latencies(chart), _distribution(chart)) if found],
        "width": WIDTH,
        "height": HEIGHT,
    }


def _generator(generator: Mapping[str, Any]) -> str:
    late = in_unit(generator["lag_p99_ms"], "ms")
    return f"The generator was at most {late} late in 99 of 100 cases, and took {generator['cpu']:.0%} of a core."


def _steps(steps: Mapping[str, Any]) -> list[dict[str, Any]]:
    shown = ("p50_ms", "p95_ms", "p99_ms", "max_ms")
    return [
        {"name": name, "count": found["count"], "latencies": [in_unit(found[key], "ms") for key in shown]}
        for name, found in steps.items()
        if found["count"]
    ]


def _rates(chart: Mapping[str, Any]) -> dict[str, Any] | None:
    series = chart["series"]
    spans = _spans(series["at_s"], chart["width_s"])
    per_s: dict[str, list[float]] = {
        name: [count / span for count, span in zip(series[name], spans, strict=True)]
        for name in ("done", "errors", "dropped")
    }
    lines: list[Line] = [("ended", "main", per_s["done"])]
    lines += [("asked for", "asked", series["target"])] if chart["unit"] == "arrivals/s" else []
    lines += [(name, "bad", per_s[name]) for name in ("errors", "dropped") if any(per_s[name])]
    return _over_time("Iterations a second", chart, lines, "per_s")


def _latencies(chart: Mapping[str, Any]) -> dict[str, Any] | None:
    series = chart["series"]
    lines: list[Line] = [
        ("99 of 100 within", "high", series["p99_ms"]),
        ("95 of 100", "middle", series["p95_ms"]),
        ("half", "main", series["p50_ms"]),
        ("99 of 100, from the actual send", "asked", series["service_p99_ms"]),
    ]
    return _over_time("Latency, from the intended start", chart, lines, "ms")


def _over_time(title: str, chart: Mapping[str, Any], lines: Sequence[Line], unit: str) -> dict[str, Any] | None:
    at_s = chart["series"]["at_s"]
    if len(at_s) < 2:
        return None
    ends_s = at_s[-1] + chart["width_s"]
    places = [(at + chart["width_s"] / 2) / ends_s * WIDTH for at in at_s]
    found = _chart(title, places, lines, unit)
    warm = min(chart["warmup_s"] / ends_s, 1.0) * WIDTH
    ticks = [f"{ends_s * part / 4:.3g} s" for part in range(5)]
    return {**found, "ticks": ticks, "warm": f"{warm:.1f}" if warm else ""}


def _distribution(chart: Mapping[str, Any]) -> dict[str, Any] | None:
    points = [point for point in chart["distribution"] if point["p"] >= 50]
    if not points:
        return None
    places = [index / (len(points) - 1) * WIDTH for index in range(len(points))]
    lines: list[Line] = [
        ("from the intended start", "high", [point["response_ms"] for point in points]),
        ("from the actual send", "asked", [point["service_ms"] for point in points]),
    ]
    found = _chart("How many were within what", places, lines, "ms")
    return {**found, "ticks": ["max" if point["p"] == 100 else f"{point['p']:g}" for point in points], "warm": ""}


def _chart(title: str, places: Sequence[float], lines: Sequence[Line], unit: str) -> dict[str, Any]:
    top = ceiling(max((value for _, _, values in lines for value in values if value is not None), default=1.0))
    return {
        "title": title,
        "top": in_unit(top, unit).replace(".0", ""),
        "lines": [
            {"name": name, "kind": kind, "path": _path(places, values, top), "last": _most(values, unit)}
            for name, kind, values in lines
        ],
    }


def _path(places: Sequence[float], values: Values, top: float) -> str:
    """Return a path through the values; where there is none, it has a gap."""
    parts, is_down = [], False
    for x, value in zip(places, values, strict=True):
        if value is not None:
            parts.append(f"{'L' if is_down else 'M'}{x:.1f} {HEIGHT - value / top * HEIGHT:.1f}")
        is_down = value is not None
    return " ".join(parts)


def _most(values: Values, unit: str) -> str:
    known = [value for value in values if value is not None]
    return f"at most {in_unit(max(known), unit)}" if known else ""


def _spans(at_s: Sequence[float], width_s: float) -> list[float]:
    """Return how long each point is: until the next one."""
    ends = [*at_s[1:], at_s[-1] + width_s] if at_s else []
    return [max(end - start, 0.001) for start, end in zip(at_s, ends, strict=True)]


def ceiling(value: float) -> float:
    """Return the next round number at or above a value."""
    if value <= 0:
        return 1.0
    size = 1.0
    while size * 10 < value:
        size *= 10
    while size >= value:
        size /= 10
    return next((step * size for step in STEPS if step * size >= value), size * 10)
