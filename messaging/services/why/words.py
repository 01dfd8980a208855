"""The sentence: what the table's row says, with what holds it besides, who shares it, and whose it is."""

from collections.abc import Iterable
from datetime import datetime

from messaging.models import MessageType, State
from messaging.services.why.facts import (
    Facts,
    MessageFacts,
    Others,
)
from messaging.services.why.marks import at, quoted
from messaging.services.why.phrases import answers, counted, owner, removed, said_of
from messaging.services.why.rows import row_of


def sentence(facts: Facts) -> str:
    """Return the whole paragraph, with times between marks."""
    row = row_of(facts)
    is_open = facts.state == State.PENDING
    holds = [said_of(hold, facts) for hold in facts.holds if hold.kind not in row.explains] if is_open else []
    parts = [
        f"{facts.source} -> {facts.target}, {row.what(facts)}",
        *(f"besides, {text}" for text in holds),
        answers(facts) if facts.state != State.DELIVERED else "",
        counted(facts.others, row.counts) if row.counts else "",
        _held_up(facts),
        f"resolved {at(facts.resolved_at)}" if facts.resolved_at else "",
        row.then(facts),
        f"it expires {at(facts.expires_at)}" if is_open and facts.expires_at else "",
        removed(facts),
        owner(facts.owner) if facts.state != State.DELIVERED else "",
    ]
    return _joined(parts)


def _held_up(facts: Facts) -> str:
    if facts.held_up is None or not facts.held_up.count:
        return ""
    one = facts.held_up.count == 1
    return f"{facts.held_up.text} of the same key {'waits' if one else 'wait'} behind it"


def short(facts: Facts) -> str:
    """Return one line: where it is and why, no more."""
    error = facts.error and facts.state not in (State.DELIVERED, State.CANCELLED, State.SKIPPED)
    last = f", last {quoted(facts.error)}" if error else ""
    return f"{facts.source} -> {facts.target}, {row_of(facts).what(facts)}{last}"


def since(facts: Facts) -> datetime:
    """Return since when it is in its state."""
    if facts.finished_at is not None:
        return facts.finished_at
    return facts.by_at if facts.by and facts.by_at else facts.created_at


# --- messages ------------------------------------------------------------------


def of_message(facts: MessageFacts) -> str:
    """Return the paragraph of a message that nothing is owed for."""
    return _joined(
        [
            f"{facts.source} -> nobody, {_unsent(facts)}",
            _unrouted_others(facts.others),
            removed(facts),
            owner(facts.owner),
        ]
    )


def _unsent(facts: MessageFacts) -> str:
    if facts.is_hidden:
        return f"accepted {at(facts.created_at)}: its deliveries are other teams'"
    if facts.is_unrouted:
        named = facts.event_type or facts.message_type
        return f"unrouted since {at(facts.created_at)}: no target was named and no route takes {quoted(named)}"
    if facts.message_type == MessageType.HEARTBEAT:
        return f"kept since {at(facts.created_at)}: a heartbeat, it says that {facts.source} is there"
    return f"kept since {at(facts.created_at)}: it asked for no receiver, so nothing is owed"


def _unrouted_others(others: Others | None) -> str:
    if others is None or not others.count:
        return ""
    return f"{others.text} other{'s' if others.count != 1 else ''} of this sender matched no target either"


def _joined(parts: Iterable[str]) -> str:
    return "; ".join(part for part in parts if part) + "."
