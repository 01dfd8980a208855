"""Why: where a delivery or a message is, since when, what it waits for or died of, and what to do about it.

Facts are read with a bounded number of queries (`reading`), a table says them
(`words`), another what can be done (`actions`).
"""

from datetime import datetime
from typing import Any

from endpoints.access.principal import Principal
from messaging.models import Delivery, Message, State
from messaging.services.why import actions, marks, reading, words
from messaging.services.why.facts import Action, Behind, Facts, Hold, MessageFacts, Others, Why

__all__ = ["Action", "Why", "as_json", "brief", "why", "why_message"]


def why(delivery: Delivery, principal: Principal, now: datetime) -> Why:
    """Return the whole answer for a delivery the principal may see."""
    facts = reading.facts_of(delivery, principal, now)
    return Why(
        words.sentence(facts),
        words.short(facts),
        facts.state,
        facts.reason,
        words.since(facts),
        _as_facts(facts),
        actions.actions(facts, principal),
        facts.delivery,
        facts.position,
    )


def brief(delivery: Delivery, now: datetime) -> str:
    """Return one line of a delivery, with times between marks, from its row alone."""
    return words.short(reading.brief_of(delivery, now))


def why_message(message: Message, principal: Principal, now: datetime) -> Why:
    """Return the answer for a message that has no delivery the principal may see: unrouted, or nothing was owed."""
    hidden = 0 if message.unrouted else Delivery.objects.filter(message=message).count()
    facts = reading.facts_of_message(message, principal, now, hidden)
    state = "unrouted" if message.unrouted else "kept"
    shown = {
        "message_id": facts.message_id,
        "source_system": facts.source,
        "target_system": facts.targets,
        "others": _others(facts.others),
        "payload_removed": facts.is_removed,
        "owner": _owner(facts),
    }
    marked = words.of_message(facts)
    page = actions.message_url(facts.position)
    todo = [Action("see_message", "see the message", "GET", f"{actions.API}/messages/{facts.message_id}/", url=page)]
    return Why(marked, marked, state, state, facts.created_at, shown, tuple(todo), "", facts.position)


def as_json(found: Why, now: datetime) -> dict[str, Any]:
    """Return an answer as the API and `--json` give it."""
    return {
        "text": marks.plain(found.marked, now),
        "short": marks.plain(found.short_marked, now),
        "state": found.state,
        "reason": found.reason,
        "since": found.since,
        "facts": found.facts,
        "actions": [actions.as_json(action) for action in found.actions],
    }


def next_try_at(facts: Facts) -> datetime | None:
    """Return when it is tried next, None when nobody knows: a person must act first, or it ended."""
    if facts.state != State.PENDING:
        return None
    if facts.holds:
        hold = facts.holds[0]
        return hold.until
    if facts.reason == "blocked":
        head = facts.behind
        return head.due_at if head is not None and head.state == State.PENDING else None
    return facts.due_at


def _as_facts(facts: Facts) -> dict[str, Any]:
    tries = facts.tries
    return {
        "delivery": facts.delivery,
        "message_id": facts.message_id,
        "source_system": facts.source,
        "system": facts.system,
        "interface": facts.interface,
        "created_at": facts.created_at,
        "due_at": facts.due_at,
        "finished_at": facts.finished_at,
        "expires_at": facts.expires_at,
        "next_try_at": next_try_at(facts),
        "attempts": tries.spent,
        "unspent": tries.unspent,
        "max_attempts": tries.most,
        "answers": [
            {"outcome": end.outcome, "status_code": end.status_code, "error_class": end.error_class, "times": end.times}
            for end in tries.ends
        ],
        "last_said": tries.last_said or facts.error or None,
        "others": _others(facts.others),
        "behind": _behind(facts.behind),
        "held_up": _others(facts.held_up),
        "holds": [_hold(hold) for hold in facts.holds],
        "by": facts.by or None,
        "ordering_key": facts.ordering_key or None,
        "dead_group": facts.dead_group or None,
        "resolved_at": facts.resolved_at,
        "payload_removed": facts.is_removed,
        "owner": _owner(facts),
    }


def _others(others: Others | None) -> dict[str, Any] | None:
    return None if others is None else {"count": others.count, "at_least": others.is_least}


def _behind(head: Behind | None) -> dict[str, Any] | None:
    if head is None:
        return None
    names = ("delivery", "message_id", "state", "reason", "since", "due_at")
    return {name: getattr(head, name) for name in names} | {"error": head.error or None}


def _hold(hold: Hold) -> dict[str, Any]:
    said = {"by": hold.by or None, "reason": hold.reason or None}
    return {"kind": hold.kind, "since": hold.since, "until": hold.until, **said}


def _owner(facts: Facts | MessageFacts) -> dict[str, Any]:
    owner = facts.owner
    return {
        "system": owner.system,
        "team": owner.team or None,
        "contact": owner.contact or None,
        "runbook_url": owner.runbook_url or None,
    }
