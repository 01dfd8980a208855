"""What an HTTP status means for a delivery, as a table."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from endpoints.transports.base import MAX_RETRY_AFTER_S, Advice, ErrorClass, Reply, TransportError

Meaning = tuple[ErrorClass, Advice]

STATUS: dict[int, Meaning] = {
    401: (ErrorClass.AUTH, Advice.RETRY),
    403: (ErrorClass.AUTH, Advice.RETRY),
    408: (ErrorClass.TIMEOUT, Advice.RETRY),
    410: (ErrorClass.CLIENT_ERROR, Advice.GONE),
    425: (ErrorClass.CLIENT_ERROR, Advice.RETRY),
    429: (ErrorClass.THROTTLED, Advice.THROTTLED),
}
FAMILY: dict[int, Meaning] = {
    3: (ErrorClass.PROTOCOL, Advice.DEAD),  # redirects are not followed
    4: (ErrorClass.CLIENT_ERROR, Advice.DEAD),
    5: (ErrorClass.SERVER_ERROR, Advice.RETRY),
}
OTHER: Meaning = (ErrorClass.PROTOCOL, Advice.DEAD)


def refusal(status: int, reason: str | None, reply: Reply, now: datetime) -> TransportError:
    """Return the error that an answer other than 2xx is."""
    error_class, advice = STATUS.get(status) or FAMILY.get(status // 100, OTHER)
    waits = status in (429, 503)
    return TransportError(
        f"answered {status} {reason or ''}".rstrip()[:200],
        error_class=error_class,
        advice=advice,
        reply=reply,
        retry_after_s=retry_after_s(reply.headers, now) if waits else None,
    )


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds `Retry-After` asks for, within 0..3600; None when absent or unreadable (RFC 9110, 10.2.3)."""
    text = next((value.strip() for name, value in headers.items() if name.lower() == "retry-after"), "")
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return MAX_RETRY_AFTER_S if len(text) > 9 else min(float(text), MAX_RETRY_AFTER_S)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError, TypeError):
        return None
    wait_s = (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds()
    return min(max(math.ceil(wait_s), 0), MAX_RETRY_AFTER_S)
