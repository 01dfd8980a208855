"""Storing what was planned: everything of one transaction, for the group-commit writer and for services alike."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import orjson
from django.db import IntegrityError, transaction

from endpoints.errors import ControlPlaneError, Refused
from endpoints.ids import new_key, new_name
from messaging import store
from messaging.intake.heartbeats import HEARTBEAT, LAST_SEEN
from messaging.intake.plan import Owed, Planned
from messaging.models import Reason, State

IDEMPOTENCY_KEPT = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The answer for one message, true once the transaction is committed."""

    message_id: str
    status: str  # accepted | duplicate
    deliveries: int


Answer = Accepted | ControlPlaneError
Rollups = dict[tuple[datetime, int, str, str], tuple[int, float]]


def store_planned(planned: Sequence[Planned]) -> list[Answer]:
    """Store `planned` in one transaction, in order, and return an answer for each.

    Duplicates and conflicts are answers, not exceptions; what raises has stored nothing.
    """
    if not planned:
        return []
    answers = _store_at_once(planned) if store.can_accept_at_once() else None
    if answers is None:
        answers = _store_in_steps(planned)
    LAST_SEEN.note(planned)
    return answers


def _store_at_once(planned: Sequence[Planned]) -> list[Answer] | None:
    """Store it in one statement: nobody holds the lock of all intake who still has rows to make.

    Return None, with nothing stored, when something may have come before, or must wait behind another.
    """
    if any(item.draft.idempotency_key or item.draft.ordering_key for item in planned):
        return None
    named = [(item.source.id, item.draft.message_id) for item in planned if item.draft.message_id]
    if len(set(named)) < len(named) or store.find_messages(named):
        return None
    answers = [Accepted(item.draft.message_id or new_name(), "accepted", len(item.owed)) for item in planned]
    rows = _rows(planned, answers, range(1, len(planned) + 1), set(), store.EPOCH, None)
    try:
        store.accept_at_once(rows.messages, rows.deliveries, rows.keys, rows.counts)
    except IntegrityError:  # one of the names was stored just now; or what else it is comes out step by step
        return None
    return list(answers)


def _store_in_steps(planned: Sequence[Planned]) -> list[Answer]:
    with transaction.atomic():
        now, positions = store.begin_intake(len(planned))
        answers, fresh, keys = _sort_out(planned, now)
        if fresh:
            _insert([planned[index] for index in fresh], [answers[index] for index in fresh], positions, now)
        store.put_idempotency_keys(keys)
    return answers


def _sort_out(planned: Sequence[Planned], now: datetime) -> tuple[list[Answer], list[int], list[store.Row]]:
    """Return the answers, the places of what is neither a duplicate nor a conflict, and the rows of keys to keep."""
    named = [(item.source.id, item.draft.message_id) for item in planned if item.draft.message_id]
    keyed = [(item.source.id, item.draft.idempotency_key) for item in planned if item.draft.idempotency_key]
    stored = store.find_messages(named)
    answered = store.find_idempotency_keys(keyed, now - IDEMPOTENCY_KEPT)
    answers: list[Answer] = []
    fresh: list[int] = []
    keys: list[store.Row] = []
    for index, item in enumerate(planned):
        draft, source_id = item.draft, item.source.id
        answer = _seen_before(item, stored, answered)
        if answer is None:
            answer = Accepted(draft.message_id or new_name(), "accepted", len(item.owed))
            fresh.append(index)
            # The rest of the batch compares with this one as with a stored one.
            stored[source_id, answer.message_id] = (item.fingerprint, answer.deliveries)
        key = draft.idempotency_key
        # A duplicate that its id told may bring a key of its own: that answers from now on, too.
        if key and isinstance(answer, Accepted) and (source_id, key) not in answered:
            first = answered[source_id, key] = (item.fingerprint, answer.message_id, answer.deliveries)
            keys.append((source_id, key, *first, now))
        answers.append(answer)
    return answers, fresh, keys


def _seen_before(
    item: Planned,
    stored: dict[tuple[int, str], tuple[bytes, int]],
    answered: dict[tuple[int, str], tuple[bytes, str, int]],
) -> Answer | None:
    key, name = item.draft.idempotency_key, item.draft.message_id
    if key and (first := answered.get((item.source.id, key))):
        fingerprint, message_id, deliveries = first
        if not _is_same(item, fingerprint):
            return Refused(f"idempotency key '{key}' was used for another message", code="idempotency_conflict")
        return Accepted(message_id, "duplicate", deliveries)
    if name and (same := stored.get((item.source.id, name))):
        if not _is_same(item, same[0]):
            return Refused(f"message_id '{name}' was used for another message", code="id_conflict")
        return Accepted(name, "duplicate", same[1])
    return None


def _is_same(item: Planned, fingerprint: bytes) -> bool:
    """Say whether what was stored is this one; earlier versions counted the keys that its system declared as said."""
    return fingerprint == item.fingerprint or fingerprint == item.draft.fingerprint()


def _insert(planned: Sequence[Planned], answers: Sequence[Answer], positions: Sequence[int], now: datetime) -> None:
    rows = _rows(planned, answers, positions, _held(planned), now, now)
    minute = now.replace(second=0, microsecond=0)
    rollups = {(minute, system, event, ""): (count, 0.0) for (system, event), count in rows.counts.items()}
    store.insert_accepted(rows.messages, rows.deliveries, rollups)
    store.insert_search_keys(rows.keys)


@dataclass(slots=True)
class Rows:
    """What is to be inserted, and how much of which event to count for which system."""

    messages: list[store.Row] = field(default_factory=list)
    deliveries: list[store.Row] = field(default_factory=list)
    keys: list[store.Row] = field(default_factory=list)
    counts: dict[tuple[int, str], int] = field(default_factory=lambda: defaultdict(int))


def _rows(
    planned: Sequence[Planned],
    answers: Sequence[Answer],
    positions: Sequence[int],
    held: set[store.Line],
    now: datetime,
    said_at: datetime | None,
) -> Rows:
    """Return the rows of what is accepted; `said_at` is the time of those that bring none themselves."""
    rows = Rows()
    counts = rows.counts
    for position, item, answer in zip(positions, planned, answers, strict=False):
        assert isinstance(answer, Accepted)
        rows.messages.append(_message_row(position, item, answer.message_id, said_at))
        rows.deliveries.extend(_delivery_row(position, item, owed, held, now) for owed in item.owed)
        rows.keys.extend((position, name, value) for name, value in item.draft.search_keys.items())
        counts[item.source.id, "accepted"] += 1
        for owed in item.owed:
            counts[owed.system_id, "owed"] += 1
            if owed.state == State.SKIPPED:
                counts[owed.system_id, "skipped"] += 1
    return rows


def _held(planned: Sequence[Planned]) -> set[store.Line]:
    """Return the ordering keys that have a head: whoever comes to them waits behind it.

    One that has none keeps none, since only intake makes one and we hold its lock; one
    that has may lose it any moment, and that is waited for before we add to it.
    """
    lines = {_line(item, owed) for item in planned if item.draft.ordering_key for owed in item.owed}
    held = store.held(lines)
    if held and store.is_postgresql():
        store.lock_lines(held, alone=True)
        held = store.held(held)
    return held


def _line(item: Planned, owed: Owed) -> store.Line:
    return (owed.system_id, owed.interface, item.draft.ordering_key)


def _message_row(position: int, item: Planned, message_id: str, now: datetime | None) -> store.Row:
    draft = item.draft
    return (
        position,
        message_id,
        item.source.id,
        None if draft.target_system is None else orjson.dumps(draft.target_system).decode(),
        draft.message_type,
        draft.event_type,
        draft.priority,
        draft.timestamp or now,
        draft.payload,
        draft.content_type,
        orjson.dumps(draft.headers).decode() if draft.headers else "{}",
        draft.correlation_id,
        draft.reply_to,
        draft.ordering_key,
        draft.recipient,
        orjson.dumps(draft.search_keys).decode() if draft.search_keys else "{}",
        draft.ttl,
        draft.deliver_at,
        draft.max_retries,
        item.size,
        item.fingerprint,
        # A heartbeat that names nobody has done its work by being here.
        not item.owed and draft.target_system != [] and draft.message_type != HEARTBEAT,
        now,
    )


def _delivery_row(position: int, item: Planned, owed: Owed, held: set[store.Line], now: datetime) -> store.Row:
    """Return the row of a delivery; one that has an ordering key waits behind the head, or becomes it (in `held`)."""
    draft, reason = item.draft, owed.reason
    if draft.ordering_key and owed.state == State.PENDING:
        line = _line(item, owed)
        reason = Reason.BLOCKED.value if line in held else reason
        held.add(line)
    return (
        new_key(),
        position,
        item.source.id,
        owed.system_id,
        owed.interface,
        owed.state,
        reason,
        draft.priority,
        draft.ordering_key,
        owed.max_attempts,
        max(draft.deliver_at, now) if draft.deliver_at else now,
        now + timedelta(seconds=draft.ttl) if draft.ttl is not None else None,
        now,
        now if owed.state == State.SKIPPED else None,
        "",
        "",
        "",
        0,
        0,
        0,
        "scheduled",
        draft.recipient or None,
    )
