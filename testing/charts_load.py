"""Charts of a load as inline SVG: how much was done each moment, and how long it took."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from endpoints.edge.display import milliseconds
from testing.charts import HEIGHT, WIDTH, ceiling

MOST_POINTS = 300
LATENCIES = ("p50_ms", "p95_ms", "p99_ms", "service_p99_ms")  # the last of the actual send, the others of the intended


def rate_chart(chart: Mapping[str, Any]) -> SafeString:
    """Draw what was done a second as an area, what was to arrive as a line, what failed or was dropped as bars."""
    series, width_s = _series(chart)
    done, wrong = series.get("done", []), series.get("errors", [])
    lost = [_number(bad) + _number(gone) for bad, gone in zip(wrong, series.get("dropped", []), strict=False)]
    meant = series.get("target" if chart.get("unit") == "arrivals/s" else "arrivals", [])
    is_open = chart.get("unit") == "arrivals/s"
    rates = [_number(value) / width_s for value in done]
    wanted = [_number(value) for value in meant] if is_open else []
    top = ceiling(max([*rates, *wanted, 1.0]))
    line = " ".join(_points(rates, top))
    step = WIDTH / max(1, len(lost))
    heights = [
        (index, min(HEIGHT, max(3.0, count / width_s / top * HEIGHT))) for index, count in enumerate(lost) if count
    ]
    bars = (
        (f"{index * step:.1f}", f"{HEIGHT - high:.1f}", f"{step * 0.7:.1f}", f"{high:.1f}") for index, high in heights
    )
    return format_html(
        '<div class="cp-chart cp-chart--load"><span class="cp-chart-top">{} a second</span>'
        '<svg viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="Iterations a second">'
        '{}<polygon class="cp-area" points="0,{} {} {},{}"/><polyline class="cp-line cp-line--delivered" points="{}"/>'
        '<polyline class="cp-line cp-line--accepted" points="{}"/>{}</svg></div>',
        f"{top:g}",
        WIDTH,
        HEIGHT,
        _grid(),
        HEIGHT,
        line,
        WIDTH,
        HEIGHT,
        line,
        " ".join(_points(wanted, top)),
        format_html_join("", '<rect class="cp-dead" x="{}" y="{}" width="{}" height="{}"/>', bars),
    )


def latency_chart(chart: Mapping[str, Any]) -> SafeString:
    """Draw the percentiles of each moment; where nothing came the line is broken."""
    series, _ = _series(chart)
    known = {name: series.get(name, []) for name in LATENCIES}
    top = ceiling(max((value for values in known.values() for value in values if value is not None), default=1.0))
    lines = (
        (name.removesuffix("_ms").replace("_", "-"), piece)
        for name, values in known.items()
        for piece in _pieces(values, top)
    )
    return format_html(
        '<div class="cp-chart cp-chart--load"><span class="cp-chart-top">{}</span>'
        '<svg viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" '
        'aria-label="Latency over time">{}{}</svg></div>',
        milliseconds(top),
        WIDTH,
        HEIGHT,
        _grid(),
        format_html_join("", '<polyline class="cp-line cp-line--{}" points="{}"/>', lines),
    )


def _series(chart: Mapping[str, Any]) -> tuple[dict[str, Sequence[Any]], float]:
    """Return the series with as many points as a chart can show."""
    series = chart.get("series") or {}
    every = -(-max((len(values) for values in series.values()), default=1) // MOST_POINTS)
    return {name: values[::every] for name, values in series.items()}, float(chart.get("width_s") or 1.0)


def _number(value: Any) -> float:
    return float(value or 0.0)


def _points(values: Sequence[float], top: float) -> list[str]:
    step = WIDTH / max(1, len(values) - 1)
    return [f"{index * step:.1f},{HEIGHT - value / top * HEIGHT:.1f}" for index, value in enumerate(values)]


def _pieces(values: Sequence[float | None], top: float) -> Iterator[str]:
    """Yield the unbroken pieces of a line."""
    step, piece = WIDTH / max(1, len(values) - 1), []
    for index, value in enumerate([*values, None]):
        if value is not None:
            piece.append(f"{index * step:.1f},{HEIGHT - value / top * HEIGHT:.1f}")
        elif piece:
            yield " ".join(piece)
            piece = []


def _grid() -> SafeString:
    lines = ((WIDTH, y, y) for y in (0.5, HEIGHT / 2))
    return format_html_join("", '<line class="cp-grid-line" x1="0" x2="{}" y1="{}" y2="{}"/>', lines)
