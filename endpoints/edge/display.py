"""How values look on pages: states as badges, times in the reader's zone, sizes and spans in plain words."""

from datetime import UTC, datetime

from django.utils.html import format_html
from django.utils.safestring import SafeString

# The tone of a word of ours, whatever it describes: a state, a health, an outcome.
TONES = {
    "delivered": "ok",
    "enabled": "ok",
    "active": "ok",
    "healthy": "ok",
    "running": "ok",
    "done": "ok",
    "resolved": "ok",
    "passed": "ok",
    "pending": "wait",
    "sending": "info",
    "retry": "wait",
    "throttled": "wait",
    "degraded": "wait",
    "paused": "wait",
    "maintenance": "info",
    "upcoming": "muted",
    "draining": "wait",
    "cancelling": "wait",
    "expired": "wait",
    "stale": "wait",
    "warning": "wait",
    "lost": "wait",
    "waiting": "wait",
    "inconclusive": "wait",
    "flaky": "wait",
    "dirty": "wait",
    "dead": "bad",
    "failed": "bad",
    "errored": "bad",
    "down": "bad",
    "gone": "bad",
    "open": "bad",
    "revoked": "bad",
}
SPANS = ((86400, "d"), (3600, "h"), (60, "min"))
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def badge(word: str, label: str = "") -> SafeString:
    """Return `word` as a coloured badge; the colour repeats what the word says, it never replaces it."""
    return format_html(
        '<span class="cp-badge cp-badge--{}">{}</span>', TONES.get(word, "muted"), label or word.replace("_", " ")
    )


def when(at: datetime | None) -> SafeString | str:
    """Return a time that the browser rewrites to its own zone; UTC stays on hover and without scripts."""
    if at is None:
        return "–"
    utc = at.astimezone(UTC)
    return format_html(
        '<time class="cp-time" datetime="{}" title="{} UTC">{} UTC</time>',
        utc.isoformat(timespec="milliseconds"),
        utc.strftime("%Y-%m-%d %H:%M:%S.") + f"{utc.microsecond // 1000:03d}",
        utc.strftime("%Y-%m-%d %H:%M:%S"),
    )


def ago(at: datetime | None) -> SafeString | str:
    """Return how long ago a time was; the time itself on hover."""
    if at is None:
        return "never"
    since_s = max(0.0, (datetime.now(UTC) - at).total_seconds())
    utc = at.astimezone(UTC)
    return format_html(
        '<time datetime="{}" title="{} UTC">{} ago</time>',
        utc.isoformat(timespec="milliseconds"),
        utc.strftime("%Y-%m-%d %H:%M:%S"),
        span(since_s),
    )


def span(seconds: float) -> str:
    """Return a length of time in its largest fitting unit: `41 min`, `2 h 5 min`, `12 s`."""
    seconds = max(0.0, seconds)
    for index, (size, unit) in enumerate(SPANS):
        if seconds >= size:
            whole, rest = divmod(int(seconds), size)
            smaller = SPANS[index + 1] if index + 1 < len(SPANS) else None
            if smaller and rest >= smaller[0]:
                return f"{whole} {unit} {rest // smaller[0]} {smaller[1]}"
            return f"{whole} {unit}"
    return f"{seconds:.0f} s"


def milliseconds(value: float) -> str:
    """Return a duration with the digits that matter: `3.2 ms`, `412 ms`, `2.41 s`."""
    if value < 10:
        return f"{value:.1f} ms"
    return f"{value:.0f} ms" if value < 1000 else f"{value / 1000:.2f} s"


def size(count: int) -> str:
    """Return a number of bytes in its largest fitting unit."""
    value = float(count)
    for unit in UNITS:
        if value < 1024 or unit == UNITS[-1]:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{count} B"
