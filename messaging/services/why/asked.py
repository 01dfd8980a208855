"""What `why 4711` answers: everything known as 4711 in a line each, and the newest unsettled of it in full."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings

from endpoints.access.principal import Principal
from messaging.models import Delivery, Message, State
from messaging.services import finding
from messaging.services.why import as_json, brief, marks, why, why_message
from messaging.services.why.facts import Why

MOST_LINES = 20
UNSETTLED = (State.PENDING, State.SENDING, State.DEAD)


@dataclass(frozen=True, slots=True)
class Line:
    """One of several matches, in a line with times between marks."""

    marked: str
    state: str
    reason: str
    delivery: str
    message_id: str


@dataclass(frozen=True, slots=True)
class Asked:
    """All that is known as `query`, newest first; `answer` is None when nothing is."""

    query: str
    lines: list[Line]
    more: bool
    answer: Why | None
    marked: str  # what to say when nothing is known


def ask(query: str, principal: Principal, now: datetime) -> Asked:
    """Return what is known under an id or a key, of what the principal may see."""
    text = query.strip()
    if found := _one(text, principal):
        return Asked(text, [], False, why(found, principal, now), "")
    places = finding.places(text, None, MOST_LINES)
    messages = finding.messages(places.kinds, principal)
    if not messages:
        return Asked(text, [], False, None, unknown(text))
    pairs = [(message, delivery) for message in messages for delivery in _newest_first(message)]
    lines = [_line(message, delivery, now) for message, delivery in pairs]
    message, delivery = min(pairs, key=lambda pair: _rank(pair[1]))  # the newest of the least settled
    answer = why_message(message, principal, now) if delivery is None else why(delivery, principal, now)
    more = places.more or len(lines) > MOST_LINES
    return Asked(text, lines[:MOST_LINES] if len(lines) > 1 else [], more, answer, "")


def why_of(message: Message, principal: Principal, now: datetime) -> Why:
    """Return the answer for a message: of its delivery, or of several the one that is not settled, beside the others.

    Expects the deliveries that the principal may see as `seen`, as `finding.messages` gives them.
    """
    seen: Any = message
    deliveries = _newest_first(seen)
    first = min(deliveries, key=_rank)
    if first is None:
        return why_message(message, principal, now)
    answer = why(first, principal, now)
    lines = [_line(message, delivery, now) for delivery in seen.seen]
    others = [line for line in lines if line.delivery != answer.delivery]
    told = [line.marked for line in others[:MOST_LINES]]
    listed = [{"delivery": line.delivery, "state": line.state, "reason": line.reason} for line in lines]
    marked = answer.marked + "".join(f" Also {line}." for line in told)
    return replace(answer, marked=marked, facts={**answer.facts, "deliveries": listed})


def unknown(query: str) -> str:
    """Say that nothing is known under this name, and what that can mean."""
    kept = finding.kept_since()
    none = f", and none from before {marks.at(kept)} is there" if kept else ""
    days = settings.ENV.keep_metadata_days
    return (
        f"{marks.quoted(query)} is not known here: it was never accepted, or it is older than retention"
        f" (messages are kept for {days} days{none})."
    )


def asked_json(asked: Asked, now: datetime) -> dict[str, Any]:
    """Return what `--json` prints."""
    matches = [
        {
            "text": marks.plain(line.marked, now),
            "state": line.state,
            "reason": line.reason,
            "delivery": line.delivery or None,
            "message_id": line.message_id,
        }
        for line in asked.lines
    ]
    answer = as_json(asked.answer, now) if asked.answer else None
    text = answer["text"] if answer else marks.plain(asked.marked, now)
    return {"query": asked.query, "text": text, "matches": matches, "more": asked.more, "why": answer}


def _one(text: str, principal: Principal) -> Delivery | None:
    try:
        return finding.delivery(UUID(text), principal)
    except ValueError:
        return None


def _newest_first(message: Any) -> list[Delivery | None]:
    return list(message.seen[::-1]) or [None]


def _rank(delivery: Delivery | None) -> int:
    """Return how settled it is: what waits or lies dead first, then what nobody was sent, then what ended."""
    if delivery is None:
        return 1
    return 0 if delivery.state in UNSETTLED and delivery.resolved_at is None else 2


def _line(message: Message, delivery: Delivery | None, now: datetime) -> Line:
    if delivery is None:
        state = "unrouted" if message.unrouted else "kept"
        said = f"{message.source.slug} -> nobody, {state} since {marks.at(message.created_at)}"
        return Line(said, state, state, "", message.message_id)
    return Line(brief(delivery, now), delivery.state, delivery.reason, str(delivery.pk), message.message_id)
