"""Reads what a sentence needs: a bounded number of queries, each along an index, whatever the history holds."""

from collections import Counter
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Q, QuerySet

from endpoints.access.principal import Principal
from endpoints.models import AuditEntry, BreakerState, Endpoint, EndpointState, Maintenance, System, SystemState
from endpoints.services import emergency_stop
from messaging.models import (
    RARE,
    Attempt,
    Delivery,
    Message,
    Outcome,
    Process,
    Reason,
    State,
    Trigger,
)
from messaging.services.order import head_of
from messaging.services.status import is_alive
from messaging.services.why.facts import (
    BREAKER,
    DISABLED,
    INTERFACE,
    MAINTENANCE,
    NO_ENDPOINT,
    NO_PROCESS,
    RETIRED,
    STOP,
    SYSTEM,
    Answered,
    Behind,
    Facts,
    Hold,
    MessageFacts,
    Others,
    Owner,
    Tries,
)

MOST_COUNTED = 10_000
MOST_TRIES = 200
SAID_BYTES = 2_000
RARE_STATES = frozenset({State.DEAD, State.EXPIRED, State.CANCELLED, State.SKIPPED})


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
        rate_per_s=sum(endpoint.rate_per_s or 0 for endpoint in endpoints) or None,
        owner=_owner(delivery.system, principal),
        tries=tries,
        others=_others(delivery, principal),
        holds=tuple(_holds(delivery, endpoints, now, is_seen=is_seen)) if has_doubt else (),
        behind=_behind(delivery, principal),
        held_up=_held_up(delivery, principal),
        by=by,
        by_at=by_at,
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
        others=_unrouted_others(message) if message.unrouted else None,
        is_hidden=hidden,
    )


def clean(text: str) -> str:
    """Return text of others' without what could pass for a mark of ours."""
    return "".join(char for char in text if char.isprintable())


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
    return [row for row in rows.select_related("breaker").order_by("tier", "name") if "deliver" in row.use]


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
    wanted = {State.CANCELLED: "cancel"}.get(State(delivery.state))
    if delivery.state in (State.PENDING, State.SENDING) and delivery.trigger in (Trigger.MANUAL, Trigger.REDRIVE):
        wanted = "resend"
    if wanted is None:
        return "", None
    found = _last_entry("delivery", [str(delivery.pk)], wanted)
    return (clean(found.actor), found.at) if found else ("", None)


def _last_entry(kind: str, ids: list[str], *actions: str) -> AuditEntry | None:
    entries = AuditEntry.objects.filter(object_type=kind, object_id__in=ids, action__in=actions)
    return entries.order_by("-at", "-id").first()


# --- what holds it -------------------------------------------------------------


def _holds(delivery: Delivery, endpoints: list[Endpoint], now: datetime, *, is_seen: bool) -> list[Hold]:
    """Return all that keeps deliveries of this interface from being sent now."""
    system, found = delivery.system, []
    if stop := emergency_stop():
        found.append(Hold(STOP, stop.since, stop.until, clean(stop.by), clean(stop.reason)))
    if system.state == SystemState.PAUSED:
        since, by = _switched("system", [str(system.pk)], "pause")
        found.append(Hold(SYSTEM, since, system.pause_until, by, clean(system.pause_reason)))
    if system.state == SystemState.RETIRED:
        found.append(Hold(RETIRED))
    for window in Maintenance.objects.filter(system=system, starts_at__lte=now, ends_at__gt=now)[:1]:
        found.append(
            Hold(MAINTENANCE, window.starts_at, window.ends_at, clean(window.created_by), clean(window.reason))
        )
    found += _of_endpoints(endpoints)
    if delivery.state == State.PENDING and delivery.due_at <= now and not found and not _is_delivering(now):
        found.append(Hold(NO_PROCESS))
    return found if is_seen else [_bare(hold) for hold in found]


def _of_endpoints(endpoints: list[Endpoint]) -> list[Hold]:
    """Return what holds every endpoint of an interface alike; one that is free sends for all."""
    used = [endpoint for endpoint in endpoints if endpoint.state != EndpointState.DISABLED]
    alone = str(used[0].pk) if len(used) == 1 else ""
    if not endpoints:
        return [Hold(NO_ENDPOINT)]
    if not used:
        since, by = _switched("endpoint", [str(endpoint.pk) for endpoint in endpoints], "disable", "update")
        return [Hold(DISABLED, since, by=by, endpoint=str(endpoints[0].pk))]
    enabled = [endpoint for endpoint in used if endpoint.state == EndpointState.ENABLED]
    if not enabled:
        since, by = _switched("endpoint", [str(endpoint.pk) for endpoint in used], "pause")
        until = [endpoint.pause_until for endpoint in used if endpoint.pause_until]
        reason = next((endpoint.pause_reason for endpoint in used if endpoint.pause_reason), "")
        ends = min(until) if until else None
        return [Hold(INTERFACE, since, ends, by, clean(reason), alone)]
    breakers = [getattr(endpoint, "breaker", None) for endpoint in enabled]
    shut = [row for row in breakers if row is not None and row.state != BreakerState.CLOSED]
    if len(shut) < len(enabled):
        return []
    opened = [row.opened_at for row in shut if row.opened_at]
    tried = [row.try_at for row in shut if row.state == BreakerState.OPEN and row.try_at]
    first, error = min(opened, default=None), clean(shut[0].error or shut[0].error_class)
    return [Hold(BREAKER, first, min(tried, default=None), reason=error, endpoint=alone)]


def _switched(kind: str, ids: list[str], *actions: str) -> tuple[datetime | None, str]:
    entry = _last_entry(kind, ids, *actions)
    return (entry.at, clean(entry.actor)) if entry else (None, "")


def _bare(hold: Hold) -> Hold:
    """Return a hold as other teams may know it: that it is, and until when."""
    return hold if hold.kind in (STOP, NO_PROCESS) else Hold(hold.kind, hold.since, hold.until)


def _is_delivering(now: datetime) -> bool:
    rows = Process.objects.filter(role="deliver", stopped_at__isnull=True).order_by("-seen_at")[:5]
    return any(is_alive(row, now) for row in rows)


# --- the others ----------------------------------------------------------------


def _behind(delivery: Delivery, principal: Principal) -> Behind | None:
    head = head_of(delivery, principal)
    if head is None:
        return None
    fields = ("delivery", "position", "message_id", "state", "reason", "since", "due_at")
    return Behind(**{name: getattr(head, name) for name in fields}, error=head.error)


def _held_up(delivery: Delivery, principal: Principal) -> Others | None:
    """Return how many wait behind this one, if it is the head of its ordering key."""
    if not delivery.ordering_key or not delivery.holds:
        return None
    return _counted(_blocked(delivery), principal)


def _blocked(delivery: Delivery) -> QuerySet[Delivery]:
    line = {"system": delivery.system_id, "interface": delivery.interface, "ordering_key": delivery.ordering_key}
    found: QuerySet[Delivery] = Delivery.objects.filter(state=State.PENDING, reason=Reason.BLOCKED, **line)
    return found


def _others(delivery: Delivery, principal: Principal) -> Others | None:
    """Return how many more share the state and its reason at the same interface; None where that says nothing."""
    place = Q(system=delivery.system_id)
    if delivery.state == State.PENDING and delivery.reason == Reason.BLOCKED:
        return _counted(_blocked(delivery).exclude(pk=delivery.pk), principal)
    if delivery.state == State.PENDING:
        # In the words of the index that claims are made along: what is blocked is not in it.
        ahead = Delivery.objects.filter(
            place & ~Q(reason=Reason.BLOCKED), state=State.PENDING, interface=delivery.interface
        ).order_by("-priority", "due_at")
    elif delivery.state in RARE_STATES:
        ahead = Delivery.objects.filter(place & RARE, state=delivery.state).order_by("-message_id")
    else:
        return None
    looked = ahead.values("pk")[: MOST_COUNTED + 1]
    same = Delivery.objects.filter(pk__in=looked, interface=delivery.interface, reason=delivery.reason)
    if delivery.state == State.DEAD:
        same = same.filter(error_class=delivery.error_class, resolved_at=None)
    count = _seen(same.exclude(pk=delivery.pk), principal).count()
    return Others(count, is_least=ahead.values("pk")[MOST_COUNTED : MOST_COUNTED + 1].count() > 0)


def _counted(rows: QuerySet[Delivery], principal: Principal) -> Others:
    count = _seen(rows, principal).order_by().values("pk")[: MOST_COUNTED + 1].count()
    return Others(min(count, MOST_COUNTED), is_least=count > MOST_COUNTED)


def _seen(rows: QuerySet[Delivery], principal: Principal) -> QuerySet[Delivery]:
    seen: Any = rows
    found: QuerySet[Delivery] = seen.visible_to(principal)
    return found


def _unrouted_others(message: Message) -> Others:
    latest = Message.objects.filter(unrouted=True).order_by("-position").values("pk")[: MOST_COUNTED + 1]
    ids = Message.objects.filter(pk__in=latest, source=message.source_id).exclude(pk=message.pk)
    count = ids.count()
    return Others(min(count, MOST_COUNTED), is_least=count >= MOST_COUNTED)


def endpoint_ids(facts: Facts) -> list[UUID]:
    """Return the endpoints that actions may name."""
    named = [hold.endpoint for hold in facts.holds if hold.endpoint] or [facts.endpoint]
    return [UUID(text) for text in named if text]
