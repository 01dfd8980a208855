"""Filters and tags of our page templates; what they do is in `endpoints.edge.display` and `messaging.charts`."""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from django import template
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from endpoints.edge import display
from messaging.charts import traffic_chart
from messaging.services.answer import counted
from messaging.services.why import marks
from messaging.services.why.facts import Action
from messaging.signature import parts

register = template.Library()

register.filter("badge", display.badge)
register.filter("when", display.when)
register.filter("ago", display.ago)
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
def redrive_url(group: Any) -> str:
    """Return where all of a cause are sent again: the page of a new job; where there is none, the list of them."""
    try:
        new_job = reverse("pages:job-new")
    except NoReverseMatch:
        return deliveries_url(dead_group=str(group))
    return f"{new_job}?{urlencode({'action': 'redrive', 'dead_group': group})}"


@register.filter
def signed(signature: str) -> SafeString:
    """Return a signature of an error with its placeholders dimmed."""
    marks = ('<span class="cp-slot">{}</span>' if is_slot else "{}" for is_slot, _ in parts(signature))
    return format_html("".join(marks), *(text for _, text in parts(signature)))


@register.filter
def said(marked: str) -> SafeString:
    """Return what is said as HTML; its times are the browser's to rewrite."""
    parts = marks.pieces(marked)
    return format_html_join("", "{}", [(display.when(part) if isinstance(part, datetime) else part,) for part in parts])


# What a button does here, where the page can do it itself: the pattern's name, the word it posts.
POSTS = {
    "resend": ("admin:messaging_delivery_act_one", "resend"),
    "resend_head": ("admin:messaging_delivery_act_one", "resend"),
    "cancel": ("admin:messaging_delivery_act_one", "cancel"),
    "skip": ("admin:messaging_delivery_act_one", "cancel"),
    "skip_head": ("admin:messaging_delivery_act_one", "cancel"),
    "resume_system": ("pages:switch_system", "resume"),
}


@register.inclusion_tag("controlplane/parts/why_button.html", takes_context=True)
def why_button(context: Any, action: Action) -> dict[str, Any]:
    """Return the button of an action: it posts where a page can do it, else it leads to where that is done."""
    name, value = POSTS.get(action.name, ("", ""))
    # The path names the row: /api/v1/deliveries/<id>/resend/
    subject = action.path.split("/")[-3] if name else ""
    return {
        "action": action,
        "form_url": reverse(name, args=[subject]) if name else "",
        "value": value,
        "is_final": value == "cancel",
        "csrf_token": context.get("csrf_token"),
    }


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
    """Return how long an incident lasted until then, since it opened or came back."""
    return display.span((until - row.broken_since).total_seconds())


@register.filter
def after_label(summary: str, label: str) -> str:
    """Return a summary without the name it begins with, which stands beside it."""
    return summary.removeprefix(f"{label} ")
