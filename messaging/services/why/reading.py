"""Reads what a sentence needs: a bounded number of queries, each along an index, whatever the history holds."""

from collections import Counter
from datetime import datetime
from typing import Any

from django.conf import settings

from endpoints.access.principal import Principal
from endpoints.models import Endpoint, System, SystemState
from messaging.models import (
    Attempt,
    Delivery,
    Message,
    Outcome,
    Reason,
    State,
    Trigger,
)
from messaging.services.why.counting import behind, held_up, others_of, unrouted_others
from messaging.services.why.facts import (
    Answered,
    Facts,
    MessageFacts,
    Owner,
    Tries,
)
from messaging.services.why.holding import holds, last_entry
from messaging.services.why.marks import clean

MOST_TRIES = 200
SAID_BYTES = 2_000


def facts_of(delivery: Delivery, principal: Principal, now: datetime) -> Facts:
    """Return all that is known of a delivery the principal may see; expects `message`, `source`, `system` loaded."""
    is_open = delivery.state in (State.PENDING, State.SENDING)
    is_seen = principal.sees_team(delivery.system.owner_id)
    endpoints = _endpoints(delivery)
    tries = _tries(delivery, may_read=principal.may("operator"))
    by, by_at = _by(delivery)
    has_doubt = is_open or delivery.reason == Reason.DISABLED
    return Facts(
        **_plain(delivery, now),
        endpoint=str(delivery.endpoint_id or (endpoints[0].pk if endpoints else "")) if is_seen else "",
        rate_per_s=(sum(endpoint.rate_per_s or 0 for endpoint in endpoints) or None) if is_seen else None,
        owner=_owner(delivery.system, principal),
        tries=tries,
        others=others_of(delivery, principal),
        holds=tuple(holds(delivery, endpoints, now, is_seen=is_seen)) if has_doubt else (),
        behind=behind(delivery, principal),
        held_up=held_up(delivery, principal),
        by=by if is_seen else "",
        by_at=by_at if is_seen else None,
        is_fetched=any(endpoint.protocol == "pull" for endpoint in endpoints),
        asked_at=max((row.inbox.asked_at for row in endpoints if hasattr(row, "inbox")), default=None),
    )


def brief_of(delivery: Delivery, now: datetime) -> Facts:
    """Return what one row alone says of a delivery: no query; for lines of a list."""
    spent = Tries(delivery.attempts, delivery.unspent, delivery.max_attempts)
    return Facts(**_plain(delivery, now), tries=spent, is_brief=True)


def facts_of_message(message: Message, principal: Principal, now: datetime, hidden: int) -> MessageFacts:
    """Return what is known of a message with no delivery that the principal may see."""
    return MessageFacts(
        now=now,
        position=message.pk,
        message_id=message.message_id,
        source=message.source.slug,
        message_type=message.message_type,
        event_type=message.event_type,
        targets=message.targets,
        created_at=message.created_at,
        is_unrouted=message.unrouted,
        is_removed=_is_removed(message),
        kept_bodies_days=settings.ENV.keep_bodies_days,
        owner=_owner(message.source, principal),
        others=unrouted_others(message) if message.unrouted else None,
        is_hidden=hidden,
    )


def _plain(delivery: Delivery, now: datetime) -> dict[str, Any]:
    message = delivery.message
    return {
        "now": now,
        "delivery": str(delivery.pk),
        "position": delivery.message_id,
        "message_id": message.message_id,
        "source": delivery.source.slug,
        "system": delivery.system.slug,
        "interface": delivery.interface,
        "state": delivery.state,
        "reason": delivery.reason,
        "created_at": delivery.created_at,
        "due_at": delivery.due_at,
        "finished_at": delivery.finished_at,
        "expires_at": delivery.expires_at,
        "lease_until": delivery.lease_until,
        "throttled_since": delivery.throttled_since,
        "resolved_at": delivery.resolved_at,
        "ttl_s": message.ttl_s,
        "event_type": message.event_type,
        "ordering_key": delivery.ordering_key,
        "error_class": delivery.error_class,
        "error": delivery.error,
        "ack_level": delivery.ack_level,
        "trigger": delivery.trigger,
        "is_halting": delivery.halting,
        "is_removed": _is_removed(message),
        "is_retired": delivery.system.state == SystemState.RETIRED,
        "dead_group": str(delivery.group_id or ""),
        "kept_bodies_days": settings.ENV.keep_bodies_days,
    }


def _is_removed(message: Message) -> bool:
    """Say whether retention took the body; a payload that was not loaded is asked for, not fetched."""
    if "payload" in message.get_deferred_fields():
        known = getattr(message, "is_removed", None)
        return Message.objects.filter(pk=message.pk, payload__isnull=True).exists() if known is None else bool(known)
    return message.payload is None


def _owner(system: System, principal: Principal) -> Owner:
    is_seen = principal.sees_team(system.owner_id)
    team = clean(system.owner.name) if system.owner else ""
    if not is_seen:
        return Owner(system.slug, team, is_seen=False)
    return Owner(system.slug, team, clean(system.contact), clean(system.runbook_url))


def _endpoints(delivery: Delivery) -> list[Endpoint]:
    rows = Endpoint.objects.filter(system=delivery.system_id, interface=delivery.interface)
    return [row for row in rows.select_related("breaker", "inbox").order_by("tier", "name") if "deliver" in row.use]


# --- the tries -----------------------------------------------------------------


def _tries(delivery: Delivery, *, may_read: bool) -> Tries:
    """Return how the latest tries ended; what was answered last only to who may read it."""
    fields = ("pk", "outcome", "status_code", "error_class", "error", "started_at", "took_ms")
    latest = Attempt.objects.filter(delivery=delivery).order_by("-number", "-id").values_list(*fields)[:MOST_TRIES]
    rows = list(latest)
    failed = [row for row in rows if row[1] != Outcome.DELIVERED]
    ends = Counter((row[1], row[2], row[3]) for row in failed)
    delivered = next((row for row in rows if row[1] == Outcome.DELIVERED), None)
    return Tries(
        spent=delivery.attempts,
        unspent=delivery.unspent,
        most=delivery.max_attempts,
        ends=tuple(Answered(*end, times) for end, times in ends.most_common()),
        last_said=_last_said(failed[0], may_read=may_read) if failed else "",
        first_at=rows[-1][5] if rows else None,
        last_at=rows[0][5] if rows else None,
        took_ms=delivered[6] if delivered else None,
    )


def _last_said(row: tuple[Any, ...], *, may_read: bool) -> str:
    if may_read:
        body = Attempt.objects.filter(pk=row[0]).values_list("response_body", flat=True).first()
        text = bytes(body or b"")[:SAID_BYTES].decode(errors="replace").strip()
        if text and "\ufffd" not in text[:-1]:
            return text
    return str(row[4])


def _by(delivery: Delivery) -> tuple[str, datetime | None]:
    """Return who cancelled it, or sent it again, and when: from the audit."""
    if delivery.reason == Reason.RETIRED:
        found = last_entry("system", [str(delivery.system_id)], "retire")
        return (clean(found.actor), found.at) if found else ("", None)
    wanted = {State.CANCELLED: "cancel"}.get(State(delivery.state))
    if delivery.state in (State.PENDING, State.SENDING) and delivery.trigger in (Trigger.MANUAL, Trigger.REDRIVE):
        wanted = "resend"
    if wanted is None:
        return "", None
    found = last_entry("delivery", [str(delivery.pk)], wanted)
    return (clean(found.actor), found.at) if found else ("", None)
