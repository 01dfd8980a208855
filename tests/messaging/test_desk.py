"""The desk where receivers fetch: what one caller does, or has done to it, costs the others nothing."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from django.utils import timezone

from endpoints.access.principal import Principal
from endpoints.models import System
from messaging.models import Delivery, State
from messaging.pulling import leasing
from messaging.pulling.desk import MOST_SERVED, Desk
from messaging.pulling.leasing import Parcel, Wish
from tests.messaging.factories import make_delivery, make_endpoint, make_system

pytestmark = pytest.mark.django_db(transaction=True)
BY = Principal("key:fetches", "operator")


@pytest.fixture(autouse=True)
def doors_are_read_anew() -> None:
    leasing._doors.clear()


@pytest.fixture
def systems() -> list[System]:
    """Return four systems that fetch; something is due for all but the last."""
    found = [make_system(f"fetcher-{number}") for number in range(4)]
    for system in found:
        make_endpoint(system, protocol="pull", host="", path="", max_in_flight=1000)
    for system in found[:3]:
        make_delivery(system=system, state=State.PENDING, due_at=timezone.now())
    return found


@pytest.fixture
def elsewhere() -> Iterator[ThreadPoolExecutor]:
    """Yield a thread that asks the database while the loop stands still."""
    with ThreadPoolExecutor(1) as pool:
        yield pool
        pool.submit(lambda: connection.close()).result()  # its own


def wish(system: System, most: int = 1) -> Wish:
    return Wish(BY, (system.pk, "main"), system.slug, None, most)


def leased() -> int:
    return Delivery.objects.filter(state=State.SENDING).count()


async def test_who_leaves_while_others_are_served_harms_none_of_them(
    systems: list[System], elsewhere: ThreadPoolExecutor
) -> None:
    """Two leave while the inbox of one of them is leased from: what came for them is given back, others wait on."""
    desk = Desk()
    calls = [asyncio.create_task(desk.fetch(wish(system), 30)) for system in systems]
    for call in calls[:3]:
        call.add_done_callback(lambda _: [other.cancel() for other in calls[:3]])
    await asyncio.sleep(0)
    await desk.open()
    got = await asyncio.gather(*calls[:3], return_exceptions=True)
    await asyncio.wait((calls[3],), timeout=0.3)
    desk.let_go()
    waited = await asyncio.gather(calls[3], return_exceptions=True)
    await desk.aclose()

    assert waited == [Parcel()]
    assert sum(isinstance(each, Parcel) and len(each.claims) for each in got) == 1
    assert elsewhere.submit(leased).result() == 1


async def test_who_does_not_want_to_wait_gets_what_is_due_however_many_ask(systems: list[System]) -> None:
    system, count = systems[3], 2 * MOST_SERVED + 1

    def fill() -> None:
        for _ in range(count):
            make_delivery(system=system, state=State.PENDING, due_at=timezone.now())
        connection.close()

    await asyncio.to_thread(fill)
    desk = Desk()
    calls = [asyncio.create_task(desk.fetch(wish(system), 0)) for _ in range(count + 1)]
    await asyncio.sleep(0)
    await desk.open()
    async with asyncio.timeout(20):
        parcels = await asyncio.gather(*calls)
    await desk.aclose()

    assert [len(parcel.claims) for parcel in parcels] == [1] * count + [0]


async def test_what_is_leased_while_it_closes_is_given_back(
    systems: list[System], elsewhere: ThreadPoolExecutor
) -> None:
    """The lease is stored, and its caller not answered yet: nobody has to wait until it runs out."""
    desk = Desk()
    call = asyncio.create_task(desk.fetch(wish(systems[0]), 30))
    await asyncio.sleep(0)
    serving = asyncio.create_task(desk._hand_out((systems[0].pk, "main")))
    await asyncio.sleep(0)

    def until_leased() -> None:
        while not leased():
            pass

    elsewhere.submit(until_leased).result(20)  # the loop stands still: it has not heard of it
    serving.cancel()
    await asyncio.wait((serving,))
    await desk.aclose()

    assert await call == Parcel()
    assert elsewhere.submit(leased).result() == 0
