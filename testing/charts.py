"""Charts of runs as inline SVG: a bar for each, as high as it took long, in the colour of its verdict, and a link."""

from collections.abc import Callable, Sequence
from datetime import UTC

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from endpoints.edge.display import milliseconds
from testing.services.overview import Hour
from testing.services.trends import Point

WIDTH, HEIGHT, LEAST = 600.0, 120.0, 4.0
FEWEST = 24  # slots: a few bars are not drawn as wide as the page
STEPS = (1.0, 2.0, 5.0)
LinkOf = Callable[[Point], str]


def bars(
    points: Sequence[Point], link_of: LinkOf, label: str, *, lines: Sequence[tuple[str, float]] = ()
) -> SafeString:
    """Draw one bar a run, the latest at the right; `lines` are named times drawn across."""
    top = ceiling(max([point.took_ms for point in points] + [value for _, value in lines], default=0.0))
    slots = max(FEWEST, len(points))
    step = WIDTH / slots
    first = slots - len(points)
    drawn = [
        format_html(
            '<a href="{}" tabindex="-1"><rect class="cp-hover" x="{}" y="0" width="{}" height="{}"/>'
            '<rect class="cp-run cp-run--{}" x="{}" y="{}" width="{}" height="{}" rx="1.5"/><title>{}</title></a>',
            link_of(point),
            f"{(first + index) * step:.1f}",
            f"{step:.1f}",
            HEIGHT,
            "flaky" if point.flaky and point.verdict == "passed" else point.verdict,
            f"{(first + index) * step + step * 0.12:.1f}",
            f"{HEIGHT - height:.1f}",
            f"{step * 0.76:.1f}",
            f"{height:.1f}",
            _told(point),
        )
        for index, point in enumerate(points)
        for height in (max(LEAST, point.took_ms / top * HEIGHT),)
    ]
    across = format_html_join(
        "",
        '<line class="cp-across" x1="0" x2="{}" y1="{}" y2="{}"/>',
        ((WIDTH, f"{y:.1f}", f"{y:.1f}") for _, value in lines for y in (HEIGHT - value / top * HEIGHT,)),
    )
    return format_html(
        '<div class="cp-chart cp-chart--runs"><span class="cp-chart-top">{}</span>'
        '<svg viewBox="0 0 {} {}" preserveAspectRatio="none" aria-label="{}">'
        '<line class="cp-grid-line" x1="0" x2="{}" y1="0.5" y2="0.5"/>{}{}</svg></div>',
        milliseconds(top),
        WIDTH,
        HEIGHT,
        label,
        WIDTH,
        format_html_join("", "{}", ((bar,) for bar in drawn)),
        across,
    )


def hours_chart(hours: Sequence[Hour], label: str = "Runs by the hour") -> SafeString:
    """Draw one stacked bar an hour: what passed, above it what did not."""
    top = max([hour.passed + hour.other + hour.bad for hour in hours] + [1])
    step = WIDTH / max(1, len(hours))
    return format_html(
        '<div class="cp-chart cp-chart--hours"><svg viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" '
        'aria-label="{}"><line class="cp-grid-line" x1="0" x2="{}" y1="{}" y2="{}"/>{}</svg></div>',
        WIDTH,
        HEIGHT,
        label,
        WIDTH,
        HEIGHT,
        HEIGHT,
        format_html_join("", "{}", ((_hour(hour, index, step, top),) for index, hour in enumerate(hours))),
    )


def ceiling(value_ms: float) -> float:
    """Return the round time (1, 2 or 5 times a power of ten) that `value_ms` fits under; at least 1 ms."""
    power = 1.0
    while True:
        for factor in STEPS:
            if factor * power >= value_ms:
                return factor * power
        power *= 10


def _hour(hour: Hour, index: int, step: float, top: int) -> SafeString:
    parts, y = [], HEIGHT
    for name, count in (("passed", hour.passed), ("blocked", hour.other), ("failed", hour.bad)):
        if count:
            height = max(LEAST, count / top * HEIGHT)
            y -= height
            parts.append((name, f"{index * step + step * 0.1:.1f}", f"{y:.1f}", f"{step * 0.8:.1f}", f"{height:.1f}"))
    return format_html(
        '<g><rect class="cp-hover" x="{}" y="0" width="{}" height="{}"/>{}<title>{}</title></g>',
        f"{index * step:.1f}",
        f"{step:.1f}",
        HEIGHT,
        format_html_join("", '<rect class="cp-run cp-run--{}" x="{}" y="{}" width="{}" height="{}"/>', parts),
        f"{hour.at.astimezone(UTC):%H:%M} UTC: {hour.passed:,} passed, {hour.bad:,} failed or errored",
    )


def _told(point: Point) -> str:
    version = f", version {point.version}" if point.version is not None else ""
    flaky = ", flaky" if point.flaky else ""
    at = point.at.astimezone(UTC)
    return f"{at:%Y-%m-%d %H:%M} UTC: {point.verdict}{flaky}, {milliseconds(point.took_ms)}{version}"
