"""Whether a message came before is looked up by its name, however many came; every batch asks."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection

from messaging import store
from messaging.models import IdempotencyKey, Message
from tests.messaging.factories import make_message, make_system

pytestmark = pytest.mark.django_db

MANY = 20_000
STEPS = 1000  # of SQLite's machine: to read a row takes it some ten


def effort(ask: Callable[[], object], table: str) -> int:
    """Return what it took to answer: on PostgreSQL how often the table was read from end to end."""
    if store.is_postgresql():
        count = f"SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = '{table}'"
        with connection.cursor() as cursor:
            cursor.execute(count)
            before = cursor.fetchone()[0]
            ask()
            cursor.execute(count)
            return int(cursor.fetchone()[0]) - int(before)
    thousands: list[None] = []
    connection.connection.set_progress_handler(lambda: thousands.append(None), STEPS)
    try:
        ask()
    finally:
        connection.connection.set_progress_handler(None, STEPS)
    return len(thousands)


def test_an_idempotency_key_is_found_among_many() -> None:
    source, now = make_system("source"), store.now()
    IdempotencyKey.objects.bulk_create(
        IdempotencyKey(source=source, key=f"k-{n}", fingerprint=b"f", message_id=f"m-{n}", deliveries=1, created_at=now)
        for n in range(MANY)
    )
    asked = [(source.pk, f"k-{MANY - 1}"), (source.pk, "new"), (source.pk + 1, "k-1")]

    found = store.find_idempotency_keys(asked, now - timedelta(hours=24))
    assert found == {(source.pk, f"k-{MANY - 1}"): (b"f", f"m-{MANY - 1}", 1)}
    assert store.find_idempotency_keys(asked, now + timedelta(hours=1)) == {}
    assert (
        effort(lambda: store.find_idempotency_keys(asked, now - timedelta(hours=24)), "messaging_idempotencykey") == 0
    )


def test_a_message_is_found_among_many() -> None:
    source = make_system("source")
    first = make_message(source)
    values = {field.attname: getattr(first, field.attname) for field in Message._meta.concrete_fields}
    Message.objects.bulk_create(
        Message(**{**values, "position": first.position + n, "message_id": f"many-{n}"}) for n in range(1, MANY)
    )
    asked = [(source.pk, f"many-{n}") for n in range(MANY - 10, MANY + 10)] + [(source.pk + 1, "many-1")]

    found = store.find_messages(asked)
    assert found == {(source.pk, f"many-{n}"): (bytes(first.fingerprint), 0) for n in range(MANY - 10, MANY)}
    assert effort(lambda: store.find_messages(asked), "messaging_message") <= 3
