"""Results from outside as one shape, whatever format they came in, and what is refused of any."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from endpoints.errors import Malformed, Refused, TooLarge
from testing.models import Verdict

MAX_BYTES = 64 * 1024 * 1024
MAX_JSON_BYTES = 32 * 1024 * 1024  # is read as a whole
MAX_CASES = 20_000
MAX_EARLIER = 20_000  # tries before the last, of all cases together
KEPT_NAME, KEPT_REASON, KEPT_TEXT = 500, 1000, 16 * 1024
LONGEST_MS = 30 * 86_400_000.0


@dataclass(frozen=True, slots=True)
class Try:
    """One execution of a case; `text` is its trace or output."""

    verdict: Verdict
    message: str = ""
    text: str = ""
    took_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """One case; the last of `tries` is what its verdict says."""

    name: str
    verdict: Verdict
    tries: Sequence[Try]
    took_ms: float = 0.0
    started_at: datetime | None = None
    is_flaky: bool = False
    line: int = 0


@dataclass(frozen=True, slots=True)
class Results:
    """A whole report; without a time of its own it was made when it came."""

    title: str
    cases: list[Result]
    started_at: datetime | None = None
    took_ms: float = 0.0
    extra: dict[str, Any] = field(default_factory=dict)


class NotRead(Malformed):
    """The report is no XML or JSON, or more of it than anybody tests."""

    code, title = "bad_report", "Report refused"


class NotResults(Refused):
    """The report is well-formed, and no report of tests."""

    code, title = "bad_report", "Report refused"


def too_large(most: int = MAX_BYTES, what: str = "report") -> TooLarge:
    return TooLarge(f"the {what} is larger than {most // 1024**2} MiB; it was not read. Split it by suite")


def too_many() -> NotResults:
    return NotResults(f"the report holds more than {MAX_CASES} cases", code="too_many_cases")


def too_many_tries() -> NotResults:
    return NotResults(f"the report holds more than {MAX_EARLIER} tries before the last", code="too_many_tries")


def duration_ms(value: float) -> float:
    """Return a duration that can be kept; what is no duration took no time."""
    return round(value, 3) if isfinite(value) and 0 <= value <= LONGEST_MS else 0.0


def moment(text: str) -> datetime | None:
    """Return a time, None for what is none; one without a zone is taken for UTC."""
    try:
        found = datetime.fromisoformat(text.strip())
        found = found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # at the ends of the calendar another zone has no such time
        return None
    return found if 1970 < found.year < 9999 else None
