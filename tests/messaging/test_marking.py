"""Marking what waits, step by step, beside those who ask for more of it."""

import asyncio

import pytest

from messaging.engine.doors import Interface
from messaging.engine.holding import Place, release_to_clients
from messaging.engine.marking import Marker, Step


@pytest.mark.parametrize("ends", [True, False])
async def test_what_is_asked_for_during_a_step_is_done_from_the_beginning(ends: bool) -> None:
    """Rows behind the place the step has reached may have begun to wait since."""
    places: list[Place] = []
    done = asyncio.Event()

    async def in_database(step: Step, interface: Interface, place: Place) -> Place:
        places.append(place)
        if len(places) == 1:
            marker.ask(step, interface)
            return Place(0, is_end=ends)
        done.set()
        return Place(is_end=True)

    marker = Marker(in_database)
    marker.ask(release_to_clients, (1, "main"))
    running = asyncio.create_task(marker.run())
    async with asyncio.timeout(5):
        await done.wait()
    running.cancel()

    assert places == [Place(), Place()]
