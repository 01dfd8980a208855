"""What a WebSocket peer's frames mean for a delivery: which message one answers, and how."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from endpoints.transports.acknowledgements import json_object, members_of
from endpoints.transports.base import Outgoing

# Members of a JSON object that name a message; the first of them that names one of ours decides.
NAMES = ("delivery_id", "message_id", "correlation_id", "ref")
# What a value is to a message, the surest first: another's payload may well hold an id of ours.
KINDS = ("delivery", "message", "correlation", "payload")
Name = tuple[str, str]  # kind, value


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
    """One message of the peer; `members` as far as it is a JSON object."""

    data: bytes
    is_text: bool
    members: Mapping[str, Any] | None
    is_json: bool

    @property
    def content_type(self) -> str:
        if self.is_text:
            return "application/json" if self.is_json else "text/plain; charset=utf-8"
        return "application/octet-stream"


def read_answer(data: bytes, *, is_text: bool) -> Answer:
    """Return a frame with its members, when it is a JSON object."""
    whole = json_object(data)
    return Answer(data, is_text, members_of(data) if whole is None else whole, is_json=whole is not None)


def names(members: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield what names a message in a JSON object, the surest first."""
    for name in NAMES if members else ():
        value = (members or {}).get(name)
        if isinstance(value, (str, int)) and not isinstance(value, bool) and value != "":
            yield str(value)


def names_of(outgoing: Outgoing, payload: bytes) -> set[Name]:
    """Return all a peer may call this message by: its ids, and those its payload holds."""
    own = (outgoing.delivery_id, outgoing.message_id, outgoing.correlation_id)
    held = {("payload", value) for value in names(read_answer(payload, is_text=True).members)}
    return held | {(kind, value) for kind, value in zip(KINDS, own, strict=False) if value}
