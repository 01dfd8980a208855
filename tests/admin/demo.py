"""A made-up installation in every state, to look at the pages with and to test them on.

CONTROLPLANE_VAR=... python -m tests.admin.demo
"""

import json
import math
import os
import random
from datetime import datetime, timedelta
from typing import Any

import django

SYSTEMS = {
    "shop": ("Web shop", "service", "Commerce"),
    "billing": ("Billing", "service", "Finance"),
    "erp": ("ERP", "service", "Finance"),
    "crm": ("Customer relations", "service", "Sales"),
    "warehouse": ("Warehouse", "service", "Logistics"),
    "scanner-7": ("Dock scanner 7", "device", "Logistics"),
    "ledger-db": ("Ledger", "database", "Finance"),
}
ROUTES = [
    ("shop", "billing"),
    ("shop", "warehouse"),
    ("billing", "erp"),
    ("billing", "crm"),
    ("scanner-7", "warehouse"),
]
EVENTS = {
    "shop": ["order.created", "order.paid", "cart.abandoned"],
    "billing": ["invoice.paid", "invoice.sent", "refund.issued"],
    "scanner-7": ["parcel.scanned"],
}
FAILURES = [
    ("server_error", "500 Internal Server Error", 500),
    ("timeout", "no answer within 15 s", None),
    ("connect", "connection refused", None),
]
DEATHS = [
    ("client_error", "refused", "404 Not Found", 404),
    ("client_error", "refused", "422 Unprocessable Content", 422),
    ("auth", "exhausted", "401 Unauthorized", 401),
    ("server_error", "exhausted", "503 Service Unavailable", 503),
    ("protocol", "refused", "redirect to https://elsewhere.example/ is not followed", 302),
]


def build(now: datetime, messages: int = 3000, seed: int = 7) -> dict[str, Any]:
    """Fill an empty database with systems, messages, deliveries, attempts, rollups and processes."""
    chance = random.Random(seed)
    systems, endpoints = _registry()
    rows = _deliveries(now, chance, systems, endpoints, messages)
    _rollups(now, chance, systems)
    _processes(now)
    return {"systems": systems, "endpoints": endpoints, **rows}


def _registry() -> tuple[dict[str, Any], dict[str, Any]]:
    from django.contrib.auth.models import Group

    from endpoints.models import Endpoint, System

    systems, doors = {}, {}
    for slug, (name, kind, team) in SYSTEMS.items():
        owner, _ = Group.objects.get_or_create(name=team)
        systems[slug] = System.objects.create(
            slug=slug,
            name=name,
            kind=kind,
            owner=owner,
            environment="production",
            version="2.4.1",
            contact=f"{team.lower()}@example.com",
            tags=["core"] if kind == "service" else ["floor"],
            description=f"{name}, run by {team}.",
            accepts_from=["*"],
        )
        if slug not in ("scanner-7", "shop"):
            doors[slug] = Endpoint.objects.create(
                system=systems[slug],
                protocol="https",
                host=f"{slug}.internal.example",
                path="/hooks/inbox",
                health={"erp": "down", "crm": "degraded"}.get(slug, "healthy"),
            )
    crm = doors["crm"]
    crm.state, crm.pause_reason = "paused", "Moving to the new cluster, back at six"
    crm.save()
    return systems, doors


def _deliveries(now: datetime, chance: random.Random, systems: Any, endpoints: Any, count: int) -> dict[str, Any]:
    from django.core.management.color import no_style
    from django.db import connection

    from messaging.models import Attempt, Delivery, Message

    messages, deliveries, attempts = [], [], []
    for number in range(count):
        source, target = chance.choice(ROUTES)
        created = now - timedelta(seconds=3600 * (1 - number / count) + chance.random())
        payload = json.dumps(
            {
                "order": 4700 + number,
                "customer": {"name": "Müller & Söhne", "vip": number % 7 == 0},
                "total": 1299.90,
                "lines": [{"sku": "A-100", "quantity": 2}, {"sku": "B-7", "quantity": 1}],
            },
            ensure_ascii=False,
        ).encode()
        message = Message(
            position=number + 1,
            message_id=f"{source}-{number:06d}",
            source=systems[source],
            targets=[target],
            event_type=chance.choice(EVENTS[source]),
            timestamp=created,
            payload=payload,
            size=len(payload),
            fingerprint=number.to_bytes(16, "big"),
            created_at=created,
            correlation_id=f"order-{4700 + number}",
            search_keys={"order": str(4700 + number)},
            headers={"trace": f"t-{number}"},
        )
        messages.append(message)
        delivery, tries = _delivery(now, chance, message, systems[target], endpoints.get(target), created)
        deliveries.append(delivery)
        attempts.extend(tries)
    Message.objects.bulk_create(messages, batch_size=500)
    with connection.cursor() as cursor:  # positions were given by hand: PostgreSQL's sequence must follow
        for statement in connection.ops.sequence_reset_sql(no_style(), [Message]):
            cursor.execute(statement)
    Delivery.objects.bulk_create(deliveries, batch_size=500)
    Attempt.objects.bulk_create(attempts, batch_size=500)
    return {"messages": messages, "deliveries": deliveries, "attempts": attempts}


def _delivery(now: datetime, chance: random.Random, message: Any, system: Any, endpoint: Any, created: datetime) -> Any:
    from messaging.models import Delivery

    draw, late = chance.random(), (now - created).total_seconds()
    base: dict[str, Any] = {
        "message": message,
        "source": message.source,
        "system": system,
        "interface": "main",
        "endpoint": endpoint,
        "max_attempts": 10,
        "due_at": created,
        "created_at": created,
        "priority": message.priority,
    }
    if system.slug == "erp" and late < 2460 and draw < 0.1:
        kind, error, status = chance.choice(FAILURES[:2])
        delivery = Delivery(**base, state="pending", reason="retrying", error_class=kind, error=error, attempts=4)
        delivery.due_at = now + timedelta(seconds=chance.uniform(-20, 900))
        return delivery, [
            _attempt(delivery, n, created + timedelta(seconds=40 * n), "retry", kind, error, status, chance)
            for n in range(1, 5)
        ]
    if system.slug == "crm" and late < 300:
        return Delivery(**base, state="pending", reason="paused"), []
    if draw > 0.992:
        kind, reason, error, status = chance.choice(DEATHS)
        tries = 10 if reason == "exhausted" else 1
        ended = created + timedelta(seconds=30 * tries)
        delivery = Delivery(
            **base, state="dead", reason=reason, error_class=kind, error=error, attempts=tries, finished_at=ended
        )
        return delivery, [
            _attempt(
                delivery,
                n,
                created + timedelta(seconds=30 * n),
                "retry" if n < tries else "dead",
                kind,
                error,
                status,
                chance,
            )
            for n in range(1, tries + 1)
        ]
    if 0.985 < draw <= 0.99:
        state, reason = chance.choice([("expired", "ttl"), ("cancelled", "operator"), ("skipped", "disabled")])
        return Delivery(**base, state=state, reason=reason, finished_at=created + timedelta(seconds=60)), []
    delivery = Delivery(**base, state="delivered", reason="sent", ack_level="application", attempts=1)
    attempt = _attempt(delivery, 1, created, "delivered", "", "", 204, chance)
    delivery.finished_at = created + timedelta(milliseconds=attempt.took_ms)
    return delivery, [attempt]


def _attempt(
    delivery: Any,
    number: int,
    at: datetime,
    outcome: str,
    kind: str,
    error: str,
    status: int | None,
    chance: random.Random,
) -> Any:
    from messaging.models import Attempt

    slow = {"erp": 900.0, "crm": 260.0, "ledger-db": 40.0}.get(delivery.system.slug, 22.0)
    took = chance.lognormvariate(math.log(slow), 0.5)
    body = (
        json.dumps({"error": error, "trace": f"{chance.getrandbits(64):016x}"}).encode()
        if status and status >= 400
        else b""
    )
    return Attempt(
        delivery=delivery,
        endpoint=delivery.endpoint,
        number=number,
        started_at=at,
        took_ms=took,
        outcome=outcome,
        error_class=kind,
        error=error,
        status_code=status,
        phases_ms={
            "dns": took * 0.05,
            "connect": took * 0.1,
            "tls": took * 0.15,
            "first_byte": took * 0.6,
            "body": took * 0.1,
        },
        request={
            "method": "POST",
            "url": f"https://{delivery.system.slug}.internal.example/hooks/inbox",
            "headers": {
                "content-type": "application/json",
                "webhook-id": str(delivery.id),
                "webhook-timestamp": str(int(at.timestamp())),
                "webhook-signature": "v1,$ERP_SIGNING",
                "x-event-type": delivery.message.event_type,
                "x-attempt": str(number),
            },
        },
        response_headers={
            "content-type": "application/json",
            "server": "nginx",
            "date": at.strftime("%a, %d %b %Y %H:%M:%S GMT"),
        }
        if status
        else {},
        response_body=body if status else None,
    )


def _rollups(now: datetime, chance: random.Random, systems: Any) -> None:
    from messaging.models import Rollup

    rows, first = [], now.replace(second=0, microsecond=0)
    for back in range(60):
        minute, wave = first - timedelta(minutes=back), 1 + 0.5 * math.sin(back / 8)
        for source, target in ROUTES:
            accepted = int(chance.uniform(3, 8) * wave)
            dead = int(chance.random() > 0.97)
            held = 2 if target == "erp" and back < 41 else 0
            counts = [
                (source, "accepted", "", accepted),
                (target, "delivered", "", max(0, accepted - dead - held)),
                (target, "dead", "client_error" if dead else "", dead),
            ]
            rows += [(minute, slug, event, kind, count) for slug, event, kind, count in counts if count]
    sums: dict[Any, int] = {}
    for *key, count in rows:
        sums[tuple(key)] = sums.get(tuple(key), 0) + count
    Rollup.objects.bulk_create(
        [Rollup(minute=m, system=systems[s], event=e, error_class=k, count=c) for (m, s, e, k), c in sums.items()]
    )


def _processes(now: datetime) -> None:
    from messaging.models import Process

    for index, role in enumerate(("supervisor", "web", "deliver", "worker", "monitor")):
        Process.objects.create(
            role=role,
            host="node-1",
            pid=4100 + index,
            started_at=now - timedelta(hours=5, minutes=12),
            seen_at=now + timedelta(hours=8),
            restarts=int(role == "deliver"),
        )


def main() -> None:
    """Build it, with people of every role who sign in with their role as password."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
    django.setup()
    from django.contrib.auth.models import Group, User
    from django.utils import timezone

    from endpoints.models import Membership

    build(timezone.now())
    User.objects.create_superuser("admin", password="admin")
    for role in ("viewer", "operator", "editor"):
        user = User.objects.create_user(role, password=role, is_staff=True)
        user.groups.set(Group.objects.all())
        Membership.objects.create(user=user, role=role)


if __name__ == "__main__":
    main()
