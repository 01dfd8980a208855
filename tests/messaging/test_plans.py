"""How PostgreSQL does what the engine asks many times a second: planned for the table as it is, however it grew."""

import time
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest
from django.db import connection

from endpoints.ids import new_id
from endpoints.models import System
from messaging import store
from messaging.models import Priority
from messaging.store import Claim, Finish
from tests.messaging.dying import make_receiver
from tests.messaging.factories import make_message, make_system
from tests.messaging.filling import fill

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def on_postgresql(db: None) -> None:
    if not store.is_postgresql():
        pytest.skip("SQLite plans by no sizes")


def claim_at_once(system: System, token: UUID, limit: int) -> list[Claim]:
    rooms = {(system.pk, "main"): limit}
    return store.claim_at_once(rooms, protocols=("http",), token=token, lease_s=30).claims


def claim_one_by_one(system: System, token: UUID, limit: int) -> list[Claim]:
    target, now = (system.pk, "main", Priority.NORMAL), store.now() + timedelta(seconds=1)
    return store.claim(target, token=token, now=now, lease_s=30, limit=limit)


def turn(system: System, limit: int, claim: Callable[[System, UUID, int], list[Claim]] = claim_at_once) -> int:
    now, token = store.now(), new_id()
    claims = claim(system, token, limit)
    ends = [Finish(claim.id, token, system.pk, "delivered", "sent", 1, 0) for claim in claims]
    return len(store.finish(ends, now))


def scans() -> int:
    """Return how often this session read the table of deliveries from end to end."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = 'messaging_delivery'")
        return int(cursor.fetchone()[0])


def looks_at_leased() -> int:
    """Return how often this session read the index of what is leased."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_get_xact_numscans('delivery_leased'::regclass)")
        return int(cursor.fetchone()[0])


def test_what_ends_is_found_by_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """Among all that was ever leased since the last vacuum it would be looked for longer with each that ends."""
    system = make_receiver().system
    fill(system.pk, make_message(make_system("source")).pk, 500)
    for _ in range(40):
        turn(system, 10)
    monkeypatch.setattr(store, "PLANS_KEPT_S", 0.0)

    before = looks_at_leased()
    assert [turn(system, 3) for _ in range(3)] == [3, 3, 3]

    assert looks_at_leased() == before


@pytest.mark.parametrize("claim", [claim_at_once, claim_one_by_one])
def test_a_table_that_grew_is_not_read_from_end_to_end(
    monkeypatch: pytest.MonkeyPatch, claim: Callable[[System, UUID, int], list[Claim]]
) -> None:
    system = make_receiver().system
    message = make_message(make_system("source"))
    for _ in range(12):  # until the plans of these statements are kept
        turn(system, 1, claim)
    fill(system.pk, message.pk, 20_000)
    monkeypatch.setattr(store, "PLANS_KEPT_S", 0.0)  # their time is over

    before = scans()
    assert [turn(system, 10, claim) for _ in range(3)] == [10, 10, 10]

    assert scans() == before


@pytest.mark.django_db(transaction=True)
def test_what_comes_to_an_empty_queue_is_not_claimed_slowly_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """The statistics of an empty queue lead through all that waits, once for each system: they are renewed."""
    monkeypatch.setattr(store, "RENEWED_S", 0)  # they are of a moment ago
    systems = [make_receiver(f"receiver-{number}").system for number in range(40)]
    message = make_message(make_system("source"))
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE messaging_delivery SET (autovacuum_enabled = off)")
    try:
        for state in ("delivered", "pending"):
            for system in systems:
                fill(system.pk, message.pk, 500)
            with connection.cursor() as cursor:
                if state == "delivered":
                    cursor.execute(
                        "UPDATE messaging_delivery SET state = 'delivered', reason = 'sent', finished_at = now()"
                    )
                    cursor.execute("VACUUM ANALYZE messaging_delivery")
        took_s = []
        for _ in range(4):
            began = time.monotonic()
            rooms = {(system.pk, "main"): 2 for system in systems}
            taken = store.claim_at_once(rooms, protocols=("http",), token=new_id(), lease_s=30)
            took_s.append(time.monotonic() - began)
            assert len(taken.claims) == 2 * len(systems)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE messaging_delivery RESET (autovacuum_enabled)")

    assert min(took_s[1:]) < took_s[0] / 4, took_s
