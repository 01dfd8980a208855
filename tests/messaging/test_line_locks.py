"""Lines before rows, everywhere: on PostgreSQL nobody waits for a line while holding what another needs first."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from endpoints.models import EndpointState
from messaging import moves, store
from messaging.engine import holding, recovery
from messaging.engine.holding import Place
from messaging.models import Delivery, Reason, State
from tests.messaging.dying import leased, make_receiver
from tests.messaging.factories import make_delivery
from tests.stack import wait_for

pytestmark = pytest.mark.django_db(transaction=True)
WAITS = (
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


@pytest.fixture(autouse=True)
def on_postgresql(db: None) -> None:
    if not store.is_postgresql():
        pytest.skip("SQLite has one writer")


@contextmanager
def beside(work: Callable[[], object]) -> Iterator[None]:
    """Hold what is held in this transaction until `work`, in another, waits for a line; then let it go on."""

    def run() -> None:
        try:
            work()
        finally:
            connection.close()

    def is_waiting() -> bool:
        with connection.cursor() as cursor:
            cursor.execute(WAITS)
            return bool(cursor.fetchone()[0])

    thread = threading.Thread(target=run)
    thread.start()
    try:
        wait_for(is_waiting, 20, "the other transaction to wait for the line")
        yield
    finally:
        if not connection.needs_rollback:
            transaction.on_commit(lambda: thread.join(20))


def test_who_takes_lost_deliveries_back_waits_for_their_lines_without_holding_them() -> None:
    """Else it waits for a line behind somebody who waits for an end that waits for the row."""
    make_receiver()
    (row,) = leased(1, ordering_key="k", losses=3)
    Delivery.objects.update(lease_until=timezone.now() - timedelta(seconds=5))
    with transaction.atomic():
        store.lock_lines(moves.lines_of([row.pk]), alone=True)
        with beside(recovery.sweep):
            held = Delivery.objects.select_for_update(nowait=True).get(pk=row.pk)

    found = Delivery.objects.get(pk=row.pk)
    assert (held.state, found.state, found.reason) == (State.SENDING, State.DEAD, Reason.POISON)


def test_nobody_joins_a_line_whose_head_is_being_ended() -> None:
    """What came to wait behind it meanwhile is not left waiting for nobody."""
    endpoint = make_receiver()
    type(endpoint).objects.update(state=EndpointState.DISABLED)
    head = make_delivery(state=State.PENDING, ordering_key="k")
    with transaction.atomic():
        store.lock_lines(moves.lines_of([head.pk]), alone=True)
        with beside(lambda: holding.skip_disabled((endpoint.system_id, "main"), Place(priority=head.priority))):
            later = make_delivery(state=State.PENDING, ordering_key="k", reason=Reason.BLOCKED)

    head.refresh_from_db()
    later.refresh_from_db()
    assert (head.state, later.state, later.reason) == (State.SKIPPED, State.PENDING, Reason.PAUSED)
