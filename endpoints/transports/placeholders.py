"""`${{ message.<field> }}` in an endpoint's path, query, headers and template: read, never evaluated.

A text is compiled once when the endpoint is opened; filling it is one join. What
makes a value safe in its place (a path segment, a header) is the caller's `escape`.
"""

import re
from collections.abc import Callable
from difflib import get_close_matches

from endpoints.transports.base import Advice, ErrorClass, Outgoing, TransportError

PLACEHOLDER = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
# What an envelope says of a message, in its order.
ENVELOPE_FIELDS = (
    "message_id",
    "delivery_id",
    "source_system",
    "target_system",
    "message_type",
    "event_type",
    "priority",
    "timestamp",
    "content_type",
    "correlation_id",
    "reply_to",
    "ordering_key",
    "recipient",
)
FIELDS = (*ENVELOPE_FIELDS, "attempt", "payload")
_KNOWN = re.compile(r"\s*message\.([a-z_]+)\s*")

Escape = Callable[[str, str], str]  # (field, value) -> what stands in the text


def unchanged(_field: str, value: str) -> str:
    """Escape nothing."""
    return value


def cannot_be_made(detail: str) -> TransportError:
    """Return the error for a message that does not fit what the endpoint is configured to send."""
    return TransportError(detail, error_class=ErrorClass.TRANSFORM, advice=Advice.DEAD)


def faults(text: str) -> list[str]:
    """Return what is wrong with the placeholders of `text`, in words; empty when nothing is."""
    found = []
    for inner in PLACEHOLDER.findall(text):
        match = _KNOWN.fullmatch(inner)
        if match is None:
            found.append(f"'${{{{{inner}}}}}' is not '${{{{ message.<field> }}}}'")
        elif match[1] not in FIELDS:
            nearest = get_close_matches(match[1], FIELDS, 1)
            found.append(
                f"there is no field 'message.{match[1]}'" + (f"; did you mean '{nearest[0]}'?" * bool(nearest))
            )
    return found


def value_of(outgoing: Outgoing, field: str) -> str:
    """Return one field as text; a payload that is not UTF-8 cannot be put into a text."""
    if field != "payload":
        return str(getattr(outgoing, field))
    try:
        return outgoing.payload.decode()
    except UnicodeDecodeError as exc:
        raise cannot_be_made("the payload is not text, so it cannot be put into the request") from exc


class Text:
    """A text with its placeholders found; `fixed` is the whole text when there are none, else None."""

    def __init__(self, text: str, *, escape: Escape = unchanged, escape_fixed: Callable[[str], str] = str) -> None:
        self._escape = escape
        parts = PLACEHOLDER.split(text)  # fixed, field, fixed, field, ... fixed
        self._between = [escape_fixed(part) for part in parts[::2]]
        self._fields = [part.strip().removeprefix("message.") for part in parts[1::2]]
        self.fixed = None if self._fields else self._between[0]

    def fill(self, outgoing: Outgoing) -> str:
        """Return the text for this message, each value escaped."""
        if self.fixed is not None:
            return self.fixed
        parts = [self._between[0]]
        for field, after in zip(self._fields, self._between[1:], strict=True):
            parts += (self._escape(field, value_of(outgoing, field)), after)
        return "".join(parts)
