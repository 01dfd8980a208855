"""Times stay times in what is said: they stand between marks, and each reader gets them in an own way.

A page shows them in the reader's zone, a terminal and the API in UTC.
"""

from datetime import UTC, datetime, timedelta

MARK = "\x1f"
RECENT = timedelta(minutes=10)
SAID_LENGTH = 160
NUMBERS = ("three", "four", "five", "six", "seven", "eight", "nine", "ten")
COUNTED = ("no", "once", "twice", *(f"{number} times" for number in NUMBERS))


def at(moment: datetime | None) -> str:
    """Return a time as it stands in what is said."""
    return "a moment ago" if moment is None else f"{MARK}{moment.astimezone(UTC).isoformat()}{MARK}"


def pieces(marked: str) -> list[str | datetime]:
    """Return texts and times in turn."""
    parts = marked.split(MARK)
    return [datetime.fromisoformat(part) if index % 2 else part for index, part in enumerate(parts)]


def plain(marked: str, now: datetime) -> str:
    """Return what is said as text, with times in UTC, the day only of another day."""
    return "".join(part if isinstance(part, str) else _clock(part, now) for part in pieces(marked))


def _clock(moment: datetime, now: datetime) -> str:
    today = now.astimezone(UTC).date() == moment.date()
    seconds = ":%S" if abs(now - moment) < RECENT else ""
    return moment.strftime(f"{'' if today else '%Y-%m-%d '}%H:%M{seconds} UTC")


def quoted(text: str) -> str:
    """Return what somebody else said: on one line, and no longer than a line."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return f"'{line[:SAID_LENGTH]}{'…' if len(line) > SAID_LENGTH else ''}'"


def times(count: int) -> str:
    return COUNTED[count] if count < len(COUNTED) else f"{count:,} times"


def clean(text: str) -> str:
    """Return text of others' without what could pass for a mark of ours."""
    return "".join(char for char in text if char.isprintable())
