"""Filters and tags of the pages of suites; what they draw is in `testing.charts`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import orjson
from django import template
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from endpoints.edge.display import span
from testing import charts, charts_load
from testing.document.cron_words import in_words
from testing.models import Attempt, Run
from testing.reports.telling import expected_of
from testing.services.flaky import RULES
from testing.services.trends import Point, Trend

register = template.Library()
register.filter("cron_words", in_words)
register.simple_tag(charts.hours_chart)
register.simple_tag(charts_load.rate_chart, name="load_rate_chart")
register.simple_tag(charts_load.latency_chart, name="load_latency_chart")


@register.simple_tag
def runs_chart(trend: Trend) -> SafeString:
    """Draw how the runs of a suite went."""
    return charts.bars(trend.points, case_url, "How long each run took, in the colour of its verdict")


@register.simple_tag
def case_chart(trend: Trend) -> SafeString:
    """Draw how a case did, with the times that half and 95 of 100 of its passed runs kept."""
    named = (("p50", trend.p50_ms), ("p95", trend.p95_ms))
    lines = [(name, value) for name, value in named if value is not None]
    return charts.bars(trend.points, case_url, "How long each run took, in the colour of its verdict", lines=lines)


@register.simple_tag
def trend_url(suite: str, case: str = "") -> str:
    """Return where the history of a suite, or of one of its cases, is shown."""
    return f"{reverse('suites:trend')}?{urlencode({'suite': suite, **({'case': case} if case else {})})}"


@register.simple_tag
def runs_url(**filters: str) -> str:
    """Return the address of the list of runs that a number counts."""
    return f"{reverse('suites:runs')}?{urlencode(filters)}"


@register.filter
def case_url(point: Point) -> str:
    return reverse("suites:run" if point.number is None else "suites:case", args=_place(point))


@register.simple_tag
def counts_bar(run: Run) -> SafeString:
    """Draw the verdicts of a run's cases as one bar; the numbers on hover and for those who do not see it."""
    counts = {verdict: count for verdict in ORDER if (count := run.counts.get(verdict))}
    total = max(run.total or 0, sum(counts.values()))
    said = ", ".join(f"{count:,} {verdict}" for verdict, count in counts.items()) or "nothing has ended"
    parts = ((verdict, f"{count / total * 100:.2f}") for verdict, count in counts.items())
    inner = format_html_join("", '<i class="cp-cell--{}" style="width: {}%"></i>', parts)
    return format_html('<span class="cp-split" role="img" aria-label="{}" title="{}">{}</span>', said, said, inner)


# The order in which verdicts are told.
ORDER = ("failed", "errored", "inconclusive", "blocked", "cancelled", "skipped", "passed")


@register.filter
def verdicts(run: Run) -> Sequence[tuple[str, int]]:
    """Return how many cases ended how, the worst first; none of what is none."""
    return [(verdict, run.counts[verdict]) for verdict in ORDER if run.counts.get(verdict)]


@register.filter
def done(run: Run) -> int:
    """Return how many of its cases have ended."""
    return int(sum(run.counts.values()))


@register.filter
def pretty(value: Any) -> str:
    """Return a value as it is read: text as it is, anything else as indented JSON."""
    if isinstance(value, str):
        return value
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


@register.filter
def body_text(value: Any) -> str:
    """Return a body as it is read: JSON is indented, anything else stays as it came."""
    try:
        return orjson.dumps(orjson.loads(value), option=orjson.OPT_INDENT_2).decode()
    except (orjson.JSONDecodeError, TypeError):
        return value if isinstance(value, str) else pretty(value)


@register.filter
def as_value(value: Any) -> str:
    """Return an expected or actual value in the notation of the document: texts are quoted, so that 1 is not "1"."""
    short = orjson.dumps(value).decode()
    return short if isinstance(value, str) or len(short) <= SHORT else pretty(value)


@register.filter
def wanted(check: Mapping[str, Any]) -> str:
    """Return what an assertion wanted: its operator with its operand, unless it is plain equality."""
    return expected_of(check)


@dataclass(frozen=True, slots=True)
class Sides:
    """A request or an answer in the parts that a page shows."""

    lead: Sequence[tuple[str, str]] = ()
    headers: Sequence[tuple[str, str]] = ()
    body: str = ""
    cut: bool = False
    more: Sequence[tuple[str, str]] = ()


SHORT = 80  # characters that stay in one line
OWN_PARTS = ("method", "url", "headers", "body", "truncated", "status")


@register.filter
def sides(kept: Any) -> Sides:
    """Return what was kept of a request or an answer, whatever kind of step it is of."""
    if not isinstance(kept, dict):
        return Sides()
    headers = kept.get("headers")
    return Sides(
        lead=[(str(kept.get("method", "")), str(kept["url"]))] if kept.get("url") else [],
        headers=[(str(name), str(value)) for name, value in headers.items()] if isinstance(headers, dict) else [],
        body=body_text(kept["body"]) if kept.get("body") not in (None, "") else "",
        cut=bool(kept.get("truncated")),
        more=[
            (name, pretty(value)) for name, value in kept.items() if name not in OWN_PARTS and value not in (None, "")
        ],
    )


@register.filter
def phases(attempt: Attempt) -> Sequence[tuple[str, float, float]]:
    """Return where the time of an attempt went: (phase, milliseconds, percent of all)."""
    known = {name: ms for name, ms in attempt.phases_ms.items() if isinstance(ms, int | float)}
    whole = sum(known.values())
    return [(name, ms, 100 * ms / whole) for name, ms in known.items()] if whole else []


@register.filter
def percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"


@register.filter
def seconds(value: float | None) -> str:
    """Return how long something took, of what may not have ended."""
    if value is None:
        return "–"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s" if value < 60 else span(value)


@register.filter
def rule(name: str) -> str:
    return RULES.get(name, name)


@register.filter
def line_tone(line: str) -> str:
    """Return the element that shows a line of a difference."""
    return {"+": "ins", "-": "del"}.get(line[:1], "span")


def _place(point: Point) -> list[Any]:
    return [point.run_id] if point.number is None else [point.run_id, point.number]
