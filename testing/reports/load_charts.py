"""Loads in the report: what each was held to, and its latency and throughput over time, as numbers to draw."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from testing.load.figures import lines_of
from testing.reports.charts import WIDTH
from testing.reports.shown import span

LATENCY = (  # the series, the colour it is drawn in, and what it says
    ("p50_ms", "p50", "half were answered within"),
    ("p95_ms", "p95", "19 of 20 within"),
    ("service_p99_ms", "service", "99 of 100, counted from the actual send"),
    ("p99_ms", "p99", "99 of 100, counted from when they were to be sent"),
)
HIGH, LOW = 200.0, 90.0


def loads(run: Mapping[str, Any], name_of: Callable[[Any], str], tones: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the cases with a load, each with what a person wants to know of it."""
    return [
        {
            "case": name_of(case),
            "verdict": case["verdict"],
            "tone": tones[case["verdict"]],
            "summary": lines_of(case["load"])[0],
            "saturated": case["load"]["generator"]["saturated"],
            "thresholds": case["load"]["thresholds"],
            "distribution": _distribution(case["load"]["chart"]["distribution"]),
            **_over_time(case["load"]["chart"]),
        }
        for case in run["cases"]
        if case.get("load")
    ]


def _over_time(chart: Mapping[str, Any]) -> dict[str, Any]:
    """Return both charts over time; without a point there is none."""
    series, width = chart["series"], float(chart["width_s"])
    at = series.get("at_s") or []
    if not at:
        return {"latency": None, "rate": None}
    whole = at[-1] + width
    highest = _highest(series, [name for name, *_ in LATENCY])
    rates = {name: [value / width for value in series[name]] for name in ("done", "errors")}
    most = max([*rates["done"], *_numbers(series["target"]), 1e-9])
    return {
        "until": span(whole * 1000),
        "warm": f"{min(1.0, chart['warmup_s'] / whole) * WIDTH:.1f}" if chart["warmup_s"] else "",
        "latency": {
            "top": span(highest),
            "lines": [
                {"name": name, "said": said, "path": _path(at, series[key], whole, width, highest, HIGH)}
                for key, name, said in LATENCY
            ],
        },
        "rate": {
            "top": f"{most:,.0f}/s" if most >= 10 else f"{most:,.1f}/s",
            "done": _bars(at, rates["done"], whole, width, most),
            "errors": _bars(at, rates["errors"], whole, width, most),
            "target": _path(at, series["target"], whole, width, most, LOW) if chart["unit"] != "users" else "",
        },
    }


def _distribution(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    return [(f"{row['p']:g}", span(row["response_ms"]), span(row["service_ms"])) for row in rows]


def _numbers(values: Sequence[Any]) -> list[float]:
    return [float(value) for value in values if isinstance(value, (int, float))]


def _highest(series: Mapping[str, Sequence[Any]], names: Sequence[str]) -> float:
    return max([value for name in names for value in _numbers(series.get(name, ()))], default=1.0) or 1.0


def _path(at: Sequence[float], values: Sequence[Any], whole: float, width: float, highest: float, height: float) -> str:
    """Return an SVG path through the middle of the points; where nothing came it is broken off."""
    parts, drawing = [], False
    for start, value in zip(at, values, strict=False):
        if not isinstance(value, (int, float)):
            drawing = False
            continue
        x, y = (start + width / 2) / whole * WIDTH, height - min(1.0, value / highest) * height
        parts.append(
            f"{'L' if drawing else 'M'}{x:.1f} {y:.1f}" if drawing else f"M{x - 1:.1f} {y:.1f}L{x:.1f} {y:.1f}"
        )
        drawing = True
    return "".join(parts)


def _bars(at: Sequence[float], rates: Sequence[float], whole: float, width: float, most: float) -> list[dict[str, str]]:
    step = width / whole * WIDTH
    return [
        {"x": f"{start / whole * WIDTH:.1f}", "w": f"{max(step - 1, 1):.1f}", "y": f"{LOW - rate / most * LOW:.1f}",
         "h": f"{rate / most * LOW:.1f}"}
        for start, rate in zip(at, rates, strict=False)
        if rate > 0
    ]  # fmt: skip
