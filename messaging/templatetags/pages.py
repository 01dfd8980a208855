"""Filters and tags of our page templates; what they do is in `endpoints.edge.display` and `messaging.charts`."""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from django import template
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from endpoints.edge import display
from messaging.charts import traffic_chart
from messaging.services.answer import counted

register = template.Library()

register.filter("badge", display.badge)
register.filter("when", display.when)
register.filter("span", display.span)
register.filter("ms", display.milliseconds)
register.filter("size", display.size)
register.filter("counted", counted)
register.simple_tag(traffic_chart)


@register.filter
def words(value: str) -> str:
    """Return a word of ours as it is read: without underscores."""
    return value.replace("_", " ")


@register.filter
def share(value: float, whole: float) -> str:
    """Return `value` as a percentage of `whole`, for the width of a bar; never less than a visible sliver."""
    return f"{max(1.5, min(100.0, 100.0 * value / whole)):.1f}" if whole else "0"


@register.simple_tag
def deliveries_url(**filters: str) -> str:
    """Return the address of the list of deliveries that a number counts."""
    given = {name: value for name, value in filters.items() if value not in ("", None)}
    return reverse("admin:messaging_delivery_changelist") + ("?" + urlencode(given) if given else "")


@register.simple_tag
def page_link(name: str, *args: object, **query: object) -> str:
    """Return the address of a page of ours with its query, "" when there is no such page."""
    try:
        address = reverse(name, args=args)
    except NoReverseMatch:
        return ""
    given = {key: value for key, value in query.items() if value not in ("", None)}
    return address + ("?" + urlencode(given) if given else "")


@register.filter
def thousands(value: int) -> str:
    """Return a count with separators: `1,204`."""
    return f"{value:,}"


@register.filter
def clock(at: datetime) -> SafeString:
    """Return the hour and minute of a time; the browser rewrites it to its own zone."""
    utc = at.astimezone(UTC)
    return format_html(
        '<time class="cp-time" data-short datetime="{}" title="{} UTC">{} UTC</time>',
        utc.isoformat(),
        utc.strftime("%Y-%m-%d %H:%M"),
        utc.strftime("%H:%M"),
    )


@register.filter
def tone(word: str) -> str:
    """Return the tone of a word of ours, for parts that are coloured without being a badge."""
    return display.TONES.get(word, "muted")


@register.filter
def lasted(row: Any, until: datetime) -> str:
    """Return how long an incident lasted until then."""
    return display.span((until - row.opened_at).total_seconds())


@register.filter
def after_label(summary: str, label: str) -> str:
    """Return a summary without the name it begins with, which stands beside it."""
    return summary.removeprefix(f"{label} ")
