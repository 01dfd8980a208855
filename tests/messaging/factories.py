"""Rows made directly, for tests of what reads them: each function takes what matters and fills in the rest."""

import itertools
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib.auth.models import Group
from django.utils import timezone

from endpoints.access import keys
from endpoints.ids import id_at
from endpoints.models import ApiKey, Endpoint, System
from messaging import store
from messaging.models import OPEN_STATES, Attempt, Delivery, Message, Reason, SearchKey, State

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
REASONS = {
    State.PENDING: Reason.NEW,
    State.SENDING: Reason.NEW,
    State.DELIVERED: Reason.SENT,
    State.DEAD: Reason.EXHAUSTED,
    State.EXPIRED: Reason.TTL,
    State.CANCELLED: Reason.OPERATOR,
    State.SKIPPED: Reason.DISABLED,
}
_numbers = itertools.count(1)


def make_team(name: str) -> Group:
    return Group.objects.get_or_create(name=name)[0]


def make_key(role: str = "admin", *, team: Group | None = None, system: System | None = None) -> str:
    """Return a usable API key."""
    key_id, plaintext, secret_hash = keys.make_key()
    ApiKey.objects.create(
        id=key_id,
        name=f"{role}-{next(_numbers)}",
        secret_hash=secret_hash,
        role=role,
        team=team,
        system=system,
        last_used_at=timezone.now(),  # else its first use is written from another thread
    )
    return plaintext


def make_system(slug: str, **fields: Any) -> System:
    found: System | None = System.objects.filter(slug=slug).first()
    return found or System.objects.create(slug=slug, name=fields.pop("name", slug.title()), **fields)


def make_endpoint(system: System, **fields: Any) -> Endpoint:
    defaults = {"protocol": "http", "host": "127.0.0.1", "port": 9, "path": "/in", "name": f"e{next(_numbers)}"}
    return Endpoint.objects.create(system=system, **(defaults | fields))


def make_message(
    source: System | str = "shop",
    *,
    payload: bytes | None = b'{"n":1}',
    search_keys: dict[str, str] | None = None,
    targets: list[str] | None = None,
    **fields: Any,
) -> Message:
    source = make_system(source) if isinstance(source, str) else source
    defaults: dict[str, Any] = {
        "message_id": f"made-{next(_numbers)}",
        "timestamp": NOW,
        "created_at": NOW,
        "size": len(payload or b""),
        "fingerprint": uuid.uuid4().bytes,
    }
    known = search_keys or {}
    row = Message(source=source, payload=payload, targets=targets, search_keys=known, **(defaults | fields))
    row.save(force_insert=True)
    SearchKey.objects.bulk_create(SearchKey(message=row, name=name, value=value) for name, value in known.items())
    return row


def make_delivery(
    message: Message | None = None, system: System | str = "crm", state: State = State.DELIVERED, **fields: Any
) -> Delivery:
    message = message or make_message()
    system = make_system(system) if isinstance(system, str) else system
    is_open = state in OPEN_STATES
    defaults: dict[str, Any] = {
        "interface": "main",
        "reason": REASONS[state],
        "max_attempts": 10,
        "recipient": message.recipient or None,
        "due_at": message.created_at,
        "created_at": message.created_at,
        "finished_at": None if is_open else message.created_at + timedelta(seconds=1),
    }
    if state == State.SENDING:
        defaults |= {"lease_token": uuid.uuid4(), "lease_until": message.created_at + timedelta(seconds=30)}
    minute = message.created_at.replace(second=0, microsecond=0)
    store.add_rollups({(minute, system.pk, "owed", ""): (1, 0.0)})
    return Delivery.objects.create(
        message=message, source=message.source, system=system, state=state, **(defaults | fields)
    )


def make_attempt(delivery: Delivery | None = None, **fields: Any) -> Attempt:
    delivery = delivery or make_delivery()
    defaults: dict[str, Any] = {
        "number": delivery.attempt_list.count() + 1,
        "started_at": NOW,
        "took_ms": 12.5,
        "outcome": "delivered",
        "status_code": 200,
        "request": {"method": "POST", "url": "http://crm.test/in", "headers": {"content-type": "application/json"}},
        "response_headers": {"content-type": "text/plain"},
        "response_body": b"ok",
    }
    row = defaults | fields
    return Attempt.objects.create(delivery=delivery, **({"id": id_at(row["started_at"])} | row))


def as_json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
