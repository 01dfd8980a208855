"""What a WebSocket peer's frames mean for a delivery: which message one answers, and how."""

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jiter

from endpoints.transports.base import ErrorClass, Outgoing, Reply, TransportError
from endpoints.transports.http_answers import MAX_RETRY_AFTER_S

# Members of a JSON object that name a message; the first of them that names one of ours decides.
NAMES = ("delivery_id", "message_id", "correlation_id", "ref")
KEPT_BODY = 16 * 1024
NACKS = frozenset({"nack", "error"})


class Closed(Exception):
    """The peer closed the connection, with a code and a reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"closed with {code} {reason}".rstrip())
        self.code, self.reason = code, reason


class NoPong(Exception):
    """The peer answered no ping: it is there no more."""


class TooBig(Exception):
    """A frame of the peer is over the cap."""


@dataclass(slots=True)
class Answer:
    """One message of the peer; `members` when it is a JSON object."""

    data: bytes
    is_text: bool
    members: Mapping[str, Any] | None

    @property
    def content_type(self) -> str:
        if self.is_text:
            return "text/plain; charset=utf-8" if self.members is None else "application/json"
        return "application/octet-stream"

    @property
    def is_nack(self) -> bool:
        """Say whether it refuses the message: `{"type": "nack"}` or `"error"`."""
        return self.members is not None and self.members.get("type") in NACKS


def read_answer(data: bytes, *, is_text: bool) -> Answer:
    """Return a frame with its members, when it is a JSON object."""
    members = None
    if data[:1] == b"{":
        with contextlib.suppress(ValueError):  # it only looks like one
            members = jiter.from_json(data)
    return Answer(data, is_text, members if isinstance(members, dict) else None)


def names(members: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield what names a message in a JSON object, the surest first."""
    for name in NAMES if members else ():
        value = (members or {}).get(name)
        if isinstance(value, (str, int)) and not isinstance(value, bool) and value != "":
            yield str(value)


def names_of(outgoing: Outgoing, payload: bytes) -> set[str]:
    """Return all a peer may call this message by: its ids, and those its payload holds."""
    own = {outgoing.delivery_id, outgoing.message_id, outgoing.correlation_id}
    return {name for name in own | set(names(read_answer(payload, is_text=True).members)) if name}


def nacked(answer: Answer, reply: Reply, detail: str) -> TransportError:
    """Return the error that a frame of refusal is; `retry_after_s` in it is heard."""
    asked = (answer.members or {}).get("retry_after_s")
    is_time = isinstance(asked, int | float) and not isinstance(asked, bool) and math.isfinite(asked) and asked >= 0
    return TransportError(
        f"refused by a frame: {detail}"[:200],
        error_class=ErrorClass.NACK,
        reply=reply,
        retry_after_s=min(float(asked), MAX_RETRY_AFTER_S) if is_time and asked is not None else None,
    )


def reason_of(answer: Answer) -> str:
    """Return why a frame refuses, in its own words."""
    members = answer.members or {}
    said = (members.get(name) for name in ("detail", "reason", "code", "message"))
    return next((text for text in said if isinstance(text, str) and text), "without a reason")
