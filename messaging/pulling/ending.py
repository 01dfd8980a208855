"""What receivers say of what they fetched: each word ends one lease, if it is still theirs. Sync, many at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from endpoints.access.principal import Principal
from endpoints.errors import Conflict, ControlPlaneError, NotFound, TooLarge
from endpoints.transports.base import AckLevel, ErrorClass, Reply, TransportError
from endpoints.transports.outcomes import first_match
from messaging import store
from messaging.engine.attempt import concluded
from messaging.engine.record import Ended, write
from messaging.engine.responses import answer_of
from messaging.models import State
from messaging.pulling.leasing import Box, Door, doors_of
from messaging.pulling.rights import began_at, is_lease_of, require_receiver
from messaging.store import Finish, Leased

Doors = dict[Box, Door]
DELETED = Door(None, (), (), 0.0, 0, None, None)  # stands for an endpoint that is gone


@dataclass(frozen=True, slots=True)
class Word:
    """An ack, or a nack with its reason, of one delivery; `attempt` says of which lease."""

    by: Principal
    delivery: UUID
    is_ack: bool
    attempt: int | None = None
    reply: bytes | None = None
    content_type: str = "application/json"
    reason: str = ""
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the delivery stands after the word."""

    delivery: UUID
    state: str
    reason: str
    due_at: datetime | None

    def as_json(self) -> dict[str, Any]:
        return {"delivery_id": str(self.delivery), "state": self.state, "reason": self.reason, "due_at": self.due_at}


def settle(words: Sequence[Word]) -> list[Outcome | ControlPlaneError]:
    """Write down what was said, of different deliveries each; return how they stand, or why a word does not count."""
    rows = store.leased([word.delivery for word in words])
    doors = doors_of([(row.claim.system_id, row.claim.interface) for row in rows.values()])
    now = store.now()
    judged = [_judge(word, rows.get(word.delivery), doors, now) for word in words]
    ends = [item for item in judged if isinstance(item, Ended)]
    written = write(ends) if ends else set()
    return [_told(item.finish, written, now) if isinstance(item, Ended) else item for item in judged]


def _told(finish: Finish, written: set[UUID], now: datetime) -> Outcome | ControlPlaneError:
    if finish.id not in written:
        return _lost("it ended a moment ago")
    due_at = now + timedelta(seconds=finish.delay_s) if finish.state == State.PENDING else None
    return Outcome(finish.id, finish.state, finish.reason, due_at)


def _judge(word: Word, row: Leased | None, doors: Doors, now: datetime) -> Ended | Outcome | ControlPlaneError:
    if row is None:
        return NotFound("there is no such delivery")
    try:
        require_receiver(word.by, row.claim.system_id, row.owner_id)
    except NotFound:  # in the words of one that there is not
        return NotFound("there is no such delivery")
    except ControlPlaneError as exc:
        return exc
    if row.state != State.SENDING:
        return _said_before(word, row)
    if word.attempt not in (None, _number(row) + 1) or not is_lease_of(row.claim.token, word.by):
        return _lost(f"attempt {_number(row) + 1} of it was fetched by another")
    if word.reply is not None and len(word.reply) > row.most_bytes:
        return TooLarge(f"the reply has {len(word.reply)} bytes, {row.claim.target} may send {row.most_bytes}")
    return _end(word, row, doors.get((row.claim.system_id, row.claim.interface)), now)


def _number(row: Leased) -> int:
    """Return how many tries of it have ended."""
    return row.claim.attempts + row.claim.unspent


def _said_before(word: Word, row: Leased) -> Outcome | ControlPlaneError:
    """Return what was answered before to a word that is repeated; raises nothing, but answers that it came too late."""
    is_same = row.state == State.DELIVERED if word.is_ack else row.error_class == ErrorClass.NACK
    if is_same and word.attempt in (None, _number(row)):
        return Outcome(word.delivery, row.state, row.reason, row.due_at if row.state == State.PENDING else None)
    return _lost(f"it is {row.state} now, and not leased to you")


def _lost(detail: str) -> Conflict:
    return Conflict(f"this lease is over: {detail}", code="lease_lost")


def _end(word: Word, row: Leased, door: Door | None, now: datetime) -> Ended:
    claim, started_at = row.claim, began_at(row.claim.token)
    request = {"by": word.by.label}
    took_ms = max(0.0, (now - started_at).total_seconds() * 1000)
    headers = {} if word.reply is None else {"content-type": word.content_type}
    reply = Reply(AckLevel.APPLICATION, took_ms, headers=headers, body=word.reply or b"", request=request)
    result: Reply | TransportError = reply
    if not word.is_ack:
        detail = word.reason or "the receiver refused it"
        result = TransportError(detail, error_class=ErrorClass.NACK, retry_after_s=word.retry_after_s, request=request)
    tried = door or DELETED
    finish, kept, _ = concluded(claim, tried, result, first_match(tried.rules, result), started_at, took_ms)
    response = answer_of(claim, kept) if kept and word.reply is not None else None
    return Ended(finish, response)
