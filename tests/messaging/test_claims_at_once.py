"""What PostgreSQL leases in one statement: where one priority alone is due, and durable where an order hangs on it."""

import pytest
from django.db import DataError, OperationalError, connection

from endpoints.ids import new_id
from messaging import store
from messaging.engine import record
from messaging.engine.judging import Tally
from messaging.engine.record import Wanted
from messaging.models import Priority, State
from tests.messaging.dying import make_receiver
from tests.messaging.factories import make_delivery, make_message, make_system

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def on_postgresql(db: None) -> None:
    if not store.is_postgresql():
        pytest.skip("SQLite has one writer, and claims in steps")


def waits_for_the_disk() -> bool:
    """Say whether this transaction's commit would wait."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW synchronous_commit")
        return bool(cursor.fetchone()[0] != "off")


@pytest.mark.parametrize("key", ["", "order-1"])
def test_a_claim_waits_for_the_disk_where_an_order_hangs_on_it(key: str) -> None:
    """Lost with the power it would be sent again: of a key the next could overtake what is on its way."""
    door = make_receiver()
    make_delivery(make_message(make_system("source"), ordering_key=key), door.system, State.PENDING, ordering_key=key)
    assert waits_for_the_disk()

    taken = store.claim_at_once({(door.system_id, "main"): 5}, protocols=("http",), token=new_id(), lease_s=30)

    assert [claim.ordering_key for claim in taken.claims] == [key]
    assert waits_for_the_disk() is bool(key)


def test_each_gets_as_much_as_it_has_room_for() -> None:
    source, doors = make_system("source"), [make_receiver(slug) for slug in ("crm", "erp", "full")]
    for door in doors:
        for _ in range(4):
            make_delivery(make_message(source), door.system, State.PENDING)
    rooms = {(doors[0].system_id, "main"): 3, (doors[1].system_id, "main"): 9, (doors[2].system_id, "main"): 0}

    turned = record.turn([], wanted := Wanted(dict(rooms), protocols=("http",)), 30.0, Tally(), ())

    found = [claim.target for claim in turned.claims]
    assert {slug: found.count(slug) for slug in set(found)} == {"crm": 3, "erp": 4}
    assert list(wanted.rooms.values()) == [0, 5, 0]
    assert [claim.position for claim in turned.claims] == sorted(claim.position for claim in turned.claims)


@pytest.mark.parametrize("error", [OperationalError("gone"), DataError("odd")])
def test_what_is_leased_goes_its_way_when_the_rest_fails(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Nobody else would send it before its lease is over, and then as one whose worker was lost."""
    source, mixed, plain = make_system("source"), make_receiver("mixed"), make_receiver("plain")
    for priority in (Priority.LOW, Priority.HIGH):
        make_delivery(make_message(source, priority=priority), mixed.system, State.PENDING, priority=priority)
    make_delivery(make_message(source), plain.system, State.PENDING)

    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(store, "due", fail)
    wanted = Wanted({(mixed.system_id, "main"): 2, (plain.system_id, "main"): 2}, protocols=("http",))

    assert [claim.target for claim in record.turn([], wanted, 30.0, Tally(), ()).claims] == ["plain"]


def test_where_several_priorities_are_due_the_engine_shares_the_room() -> None:
    """And the others are leased all the same, in the same turn."""
    source, mixed, plain = make_system("source"), make_receiver("mixed"), make_receiver("plain")
    for priority in (Priority.LOW, Priority.HIGH, Priority.HIGH):
        make_delivery(make_message(source, priority=priority), mixed.system, State.PENDING, priority=priority)
    make_delivery(make_message(source), plain.system, State.PENDING)
    rooms = {(mixed.system_id, "main"): 2, (plain.system_id, "main"): 2}

    taken = store.claim_at_once(rooms, protocols=("mqtt",), token=new_id(), lease_s=30)
    assert (taken.claims, taken.left_some) == ([], False)  # none of them speaks it
    turned = record.turn([], Wanted(dict(rooms), protocols=("http",)), 30.0, Tally(), ())

    assert sorted((claim.target, claim.priority) for claim in turned.claims) == [
        ("mixed", Priority.HIGH),
        ("mixed", Priority.HIGH),
        ("plain", Priority.NORMAL),
    ]
