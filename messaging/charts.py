"""Charts as inline SVG, drawn by the server: no script, no request, readable in light and dark."""

from collections.abc import Sequence
from datetime import UTC

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from messaging.services.overview import Minute

WIDTH, HEIGHT, FLOOR = 600.0, 150.0, 2.0
STEPS = (1, 2, 5)


def traffic_chart(minutes: Sequence[Minute], label: str = "Messages per minute") -> SafeString:
    """Draw accepted as a line over delivered as an area, and dead as bars, one point a minute."""
    top = ceiling(max((max(m.accepted, m.delivered, m.dead) for m in minutes), default=0))
    step = WIDTH / max(1, len(minutes) - 1)
    delivered = _points([m.delivered for m in minutes], top, step)
    return format_html(
        '<div class="cp-chart"><span class="cp-chart-top">{}</span>'
        '<svg viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<line class="cp-grid-line" x1="0" x2="{}" y1="1" y2="1"/>'
        '<line class="cp-grid-line" x1="0" x2="{}" y1="{}" y2="{}"/>'
        '<polygon class="cp-area" points="0,{} {} {},{}"/><polyline class="cp-line cp-line--delivered" points="{}"/>'
        '<polyline class="cp-line cp-line--accepted" points="{}"/>{}{}</svg></div>',
        f"{top:,}",
        WIDTH,
        HEIGHT,
        label,
        WIDTH,
        WIDTH,
        HEIGHT / 2,
        HEIGHT / 2,
        HEIGHT,
        delivered,
        WIDTH,
        HEIGHT,
        delivered,
        _points([m.accepted for m in minutes], top, step),
        _dead_bars(minutes, top, step),
        _hover(minutes, step),
    )


def ceiling(value: int) -> int:
    """Return the round number (1, 2 or 5 times a power of ten) that `value` fits under; at least 5."""
    power = 1
    while True:
        for factor in STEPS:
            if factor * power >= max(value, 5):
                return factor * power
        power *= 10


def _points(values: Sequence[int], top: int, step: float) -> str:
    return " ".join(f"{i * step:.1f},{HEIGHT - value / top * (HEIGHT - FLOOR):.1f}" for i, value in enumerate(values))


def _dead_bars(minutes: Sequence[Minute], top: int, step: float) -> SafeString:
    width = step * 0.6
    heights = ((i, max(3.0, m.dead / top * (HEIGHT - FLOOR))) for i, m in enumerate(minutes) if m.dead)
    bars = ((f"{i * step - width / 2:.1f}", f"{HEIGHT - h:.1f}", f"{width:.1f}", f"{h:.1f}") for i, h in heights)
    return format_html_join("", '<rect class="cp-dead" x="{}" y="{}" width="{}" height="{}"/>', bars)


def _hover(minutes: Sequence[Minute], step: float) -> SafeString:
    """Draw one invisible column a minute, whose title is what the pointer reads."""
    columns = (
        (
            f"{i * step - step / 2:.1f}",
            f"{step:.1f}",
            HEIGHT,
            f"{m.at.astimezone(UTC):%H:%M} UTC: {m.accepted:,} accepted, {m.delivered:,} delivered, {m.dead:,} dead",
        )
        for i, m in enumerate(minutes)
    )
    return format_html_join(
        "", '<rect class="cp-hover" x="{}" y="0" width="{}" height="{}"><title>{}</title></rect>', columns
    )
