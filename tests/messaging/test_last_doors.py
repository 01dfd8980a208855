"""What waits is never left without an endpoint that would deliver it; where it is all the same, that is said."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from endpoints.models import Endpoint, System
from messaging import store
from messaging.models import Delivery, Process, Reason, State
from messaging.services.status import status
from tests.messaging.api_client import Api
from tests.messaging.factories import make_delivery, make_endpoint, make_system

OPEN: dict[str, dict[str, Any]] = {
    "it waits": {"state": State.PENDING},
    "it waits behind its head": {"state": State.PENDING, "reason": Reason.BLOCKED, "ordering_key": "k"},
    "it is on its way": {"state": State.SENDING},
}
LEAVING = {
    "another interface": {"interface": "other"},
    "another use": {"use": ["probe"]},
    "another system": {"system": "b"},
}


@pytest.fixture
def door(db: None) -> Endpoint:
    """The only endpoint of an interface."""
    return make_endpoint(make_system("erp"), interface="orders")


def owed(**fields: Any) -> Delivery:
    return make_delivery(system="erp", **({"interface": "orders", "state": State.PENDING} | fields))


@pytest.mark.parametrize("fields", OPEN.values(), ids=OPEN.keys())
def test_the_last_door_stays_while_something_is_open_there(admin: Api, door: Endpoint, fields: dict[str, Any]) -> None:
    """The refusal says how much waits and what to do; with another door, or nothing open, it goes."""
    delivery = owed(**fields)
    code, problem = admin.delete(f"endpoints/{door.pk}/")

    assert (code, problem["code"]) == (409, "in_use")
    assert problem["detail"] == (
        "1 delivery waits for erp/orders, and no other endpoint would deliver there:"
        " cancel what waits, or add another endpoint of the interface first"
    )
    sibling = make_endpoint(door.system, interface="orders")
    assert admin.delete(f"endpoints/{door.pk}/")[0] == 204
    assert admin.delete(f"endpoints/{sibling.pk}/")[0] == 409
    Delivery.objects.filter(pk=delivery.pk).delete()
    assert admin.delete(f"endpoints/{sibling.pk}/")[0] == 204


@pytest.mark.parametrize("change", LEAVING.values(), ids=LEAVING.keys())
def test_a_change_that_takes_the_last_door_away_is_refused(admin: Api, door: Endpoint, change: dict[str, Any]) -> None:
    """An endpoint that delivers no more, or elsewhere, is none for what waits; any other change is free."""
    make_system("b")
    make_endpoint(door.system, interface="orders", use=["probe"])  # no door either
    make_endpoint(door.system, interface="bills")
    owed()
    code, problem = admin.patch(f"endpoints/{door.pk}/", change)

    assert (code, problem["code"], [error["field"] for error in problem["errors"]]) == (409, "in_use", [*change])
    assert admin.patch(f"endpoints/{door.pk}/", {"port": 10, "use": ["deliver", "probe"]})[0] == 200


def test_what_has_ended_holds_no_door(admin: Api, door: Endpoint) -> None:
    owed(state=State.DEAD)
    owed(interface="main")

    assert admin.delete(f"endpoints/{door.pk}/")[0] == 204


def test_the_pages_refuse_it_alike(door: Endpoint) -> None:
    owed()
    client = Client()
    client.force_login(User.objects.create_superuser("anna"))
    page = client.post(reverse("admin:endpoints_endpoint_delete", args=[door.pk]), {"post": "yes"}, follow=True)

    assert "1 delivery waits for erp/orders" in page.content.decode()
    assert Endpoint.objects.filter(pk=door.pk).exists()


def running() -> None:
    """Have all processes that a healthy installation needs."""
    now = store.now()
    for role in ("web", "deliver", "worker", "monitor"):
        Process.objects.create(role=role, host="here", pid=1, started_at=now, seen_at=now)


def test_what_is_due_without_a_door_makes_the_status_degraded(db: None) -> None:
    """Nobody will send it, so it is late however little else waits; the reason names the place."""
    running()
    make_endpoint(make_system("erp"), interface="bills")
    make_endpoint(System.objects.get(), interface="letters", use=["probe"])
    now = store.now()
    for interface, minutes in (("orders", 10), ("letters", 20), ("new", 1)):
        owed(interface=interface, due_at=now - timedelta(minutes=minutes))
    owed(interface="later", due_at=now + timedelta(hours=1))
    found = status()

    assert (found["state"], 1200 <= found["oldest_due_s"] < 1260) == ("degraded", True)
    left = "has no endpoint to deliver what waits for it: add one, or cancel what waits"
    assert found["reasons"][1:] == [f"erp/letters {left}", f"erp/orders {left}"]


def test_what_waits_at_a_paused_door_is_not_late(db: None) -> None:
    """A person holds it, and may let it go."""
    running()
    make_endpoint(make_system("erp"), interface="orders", state="paused")
    owed(due_at=store.now() - timedelta(hours=1))
    found = status()

    assert (found["state"], found["oldest_due_s"]) == ("healthy", None)
