"""Keeps what waits in step with pauses and changes, in small steps beside everything else the engine does."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Set

from messaging.engine.doors import Interface
from messaging.engine.holding import Place, mark_rate_limited, release_held, release_retries

HOLD_AGAIN_S = 2.0  # intake may take an interface for usable a moment longer than we do
HOLD_EVERY_S = 60.0  # what was on its way when the pause began has come back since
BOUND_S = 1.0  # a rate that binds no longer than this is no news

Step = Callable[[Interface, Place], Place]
# Runs a step in the engine's database thread; None when the database failed, after a while.
InDatabase = Callable[[Step, Interface, Place], Awaitable[Place | None]]


class Marker:
    """A list of what is to be marked, and the loop that works it off; one a worker.

    The steps take turns in the database thread with claims, finishes and the renewal
    of leases: marking a million rows must not cost the leases of those on their way.
    """

    def __init__(self, in_database: InDatabase) -> None:
        self._in_database = in_database
        self._todo: dict[tuple[Step, Interface], Place] = {}
        self._held: dict[Interface, tuple[Step, float]] = {}  # how, and when to look after them once more
        self._bound: dict[Interface, float] = {}  # those that a rate holds up, and when to say so
        self._wanted = asyncio.Event()

    def follow(self, held: Mapping[Interface, Step], changed: Set[Interface], *, is_first: bool) -> None:
        """Mark what must wait now, each interface of `held` by its step, and let go what need not any more."""
        for interface, (step, _) in list(self._held.items()):
            if held.get(interface) != step:
                del self._held[interface]
                self._todo.pop((step, interface), None)
        for interface in changed - held.keys():
            self.ask(release_held, interface)
            if not is_first:  # a start of ours is no news of theirs
                self.ask(release_retries, interface)
        for interface in held.keys() - self._held.keys():
            for release in (release_held, release_retries):
                self._todo.pop((release, interface), None)
            self._held[interface] = (held[interface], time.monotonic() + HOLD_AGAIN_S)
            self.ask(held[interface], interface)

    def look_again(self) -> None:
        """Hold what slipped in since."""
        now = time.monotonic()
        for interface, (step, again_at) in self._held.items():
            if now >= again_at:
                self._held[interface] = (step, now + HOLD_EVERY_S)
                self.ask(step, interface)

    def limit(self, bound: Set[Interface]) -> None:
        """Mark what waits for one of the interfaces that a rate has held up for a while now."""
        now = time.monotonic()
        self._bound = {interface: self._bound.get(interface, now + BOUND_S) for interface in bound}
        for interface, at in self._bound.items():
            if now >= at:
                self._bound[interface] = now + HOLD_EVERY_S
                self.ask(mark_rate_limited, interface)

    async def run(self) -> None:
        """Work the list off, for ever."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while self._todo:
                key = step, interface = next(iter(self._todo))
                asked = self._todo[key]
                place = await self._in_database(step, interface, asked)
                if place is None or self._todo.get(key) is not asked:  # called off, or asked for anew meanwhile
                    continue
                if place.is_end:
                    del self._todo[key]
                else:
                    self._todo[key] = place

    def ask(self, step: Step, interface: Interface) -> None:
        """Have a step made for an interface, from its beginning."""
        self._todo[step, interface] = Place()  # one of its own: a step that is being made now does not count for it
        self._wanted.set()
