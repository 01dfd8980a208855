"""How PostgreSQL does what the engine asks many times a second: planned for the table as it is, however it grew."""

from datetime import timedelta

import pytest
from django.db import connection

from benchmarks.claims import fill
from endpoints.ids import new_id
from endpoints.models import System
from messaging import store
from messaging.models import Priority
from messaging.store import Finish
from tests.messaging.dying import make_receiver
from tests.messaging.factories import make_message, make_system

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def on_postgresql(db: None) -> None:
    if not store.is_postgresql():
        pytest.skip("SQLite plans by no sizes")


def turn(system: System, limit: int) -> int:
    now, token = store.now(), new_id()
    claims = store.claim(
        (system.pk, "main", Priority.NORMAL), token=token, now=now + timedelta(seconds=1), lease_s=30, limit=limit
    )
    ends = [Finish(claim.id, token, system.pk, "delivered", "sent", 1, 0) for claim in claims]
    return len(store.finish(ends, now))


def scans() -> int:
    """Return how often this session read the table of deliveries from end to end."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = 'messaging_delivery'")
        return int(cursor.fetchone()[0])


def test_a_table_that_grew_is_not_read_from_end_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    system = make_receiver().system
    message = make_message(make_system("source"))
    for _ in range(12):  # until the plans of these statements are kept
        turn(system, 1)
    fill(system.pk, message.pk, 20_000)
    monkeypatch.setattr(store, "PLANS_KEPT_S", 0.0)  # their time is over

    before = scans()
    assert [turn(system, 10) for _ in range(3)] == [10, 10, 10]

    assert scans() == before
