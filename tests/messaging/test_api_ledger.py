"""The ledger: it balances when every delivery owed is there, and says so when one is not."""

from datetime import timedelta

import pytest

from messaging.models import Delivery, State
from tests.messaging.api_client import Api
from tests.messaging.factories import NOW, make_delivery, make_key, make_message, make_system, make_team

SPAN = {"from": "2026-01-02T03:00:00Z", "to": "2026-01-02T04:00:00Z"}


def test_the_books_balance_over_every_state(viewer: Api) -> None:
    for state in State:
        make_delivery(state=state)
    make_message(unrouted=True)
    status, body = viewer.get("ledger/", **SPAN)

    assert status == 200
    assert body["states"] == dict.fromkeys(State.values, 1)
    assert (body["expected"], body["balanced"], body["unrouted"]) == (len(State), True, 1)


def test_a_delivery_that_vanished_is_noticed(viewer: Api) -> None:
    make_delivery()
    Delivery.objects.filter(pk=make_delivery().pk).delete()
    _, body = viewer.get("ledger/", **SPAN)

    assert (body["expected"], body["states"]["delivered"], body["balanced"]) == (2, 1, False)


def test_a_system_has_its_own_balance(viewer: Api) -> None:
    make_delivery(system="crm")
    make_delivery(system="erp", state=State.DEAD)
    _, body = viewer.get("ledger/", system="erp", **SPAN)

    assert (body["system"], body["expected"], body["states"]["dead"]) == ("erp", 1, 1)


def test_a_team_balances_what_its_systems_receive(db: None) -> None:
    north, south = make_team("north"), make_team("south")
    make_delivery(system=make_system("a", owner=north))
    make_delivery(system=make_system("b", owner=south), state=State.DEAD)
    _, body = Api(make_key("viewer", team=north)).get("ledger/", **SPAN)

    assert (body["expected"], body["states"]["delivered"], body["balanced"]) == (1, 1, True)


def test_the_span_is_widened_to_whole_minutes(viewer: Api) -> None:
    """Acceptance is counted by the minute, so half a minute of it cannot be balanced."""
    make_delivery(make_message(created_at=NOW))
    make_delivery(make_message(created_at=NOW.replace(second=0)))
    make_delivery(make_message(created_at=NOW + timedelta(minutes=1)))
    _, body = viewer.get("ledger/", **{"from": NOW.isoformat(), "to": (NOW + timedelta(seconds=1)).isoformat()})

    assert (body["from"], body["to"]) == ("2026-01-02T03:04:00Z", "2026-01-02T03:05:00Z")
    assert (body["expected"], body["balanced"]) == (2, True)


def test_without_a_span_it_is_the_last_day(viewer: Api) -> None:
    make_delivery()
    status, body = viewer.get("ledger/")

    assert (status, body["expected"], body["balanced"]) == (200, 0, True)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"from": "x"}, "from"),
        ({"to": "0001-01-01T00:00:00Z"}, "to"),
        ({"to": "9999-12-31T23:59:59Z"}, "to"),
        ({"from": SPAN["to"], "to": SPAN["from"]}, "from"),
        ({"system": ""}, "system"),
        ({"page_size": "5"}, "page_size"),
    ],
)
def test_a_bad_span_is_400(viewer: Api, query: dict[str, str], field: str) -> None:
    status, body = viewer.get("ledger/", **query)

    assert (status, body["errors"][0]["field"]) == (400, field)


def test_the_widest_span_is_answered(viewer: Api) -> None:
    make_delivery()

    assert viewer.get("ledger/", **{"from": "1970-01-01", "to": "9998-12-31T23:59:59Z"})[1]["balanced"]
