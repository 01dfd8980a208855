"""Makes the load: starts iterations as the pace says, whatever comes of those before them.

Open: arrivals start when they are to. Those for which there is no room wait, up to
`max_in_flight`, and keep their intended start; beyond that they are dropped and counted.
Closed: so many users, each starting again when its last iteration is over.
"""

import asyncio
import contextlib
import itertools
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Protocol

from testing.document.load import Load
from testing.load.meter import Meter
from testing.load.pace import arrivals, level_at

SHORTEST_S = 0.001  # a shorter sleep is none, and would spin
MOST_AT_A_TIME = 64  # starts before others have their turn
USERS_EVERY_S = 0.05
LOST = "timeout"  # the error class of what waited for its turn until it was too late


class Iteration(Protocol):
    """What is run over and over."""

    async def run(self, number: int) -> tuple[str, float]:
        """Run it once; return the class of its error, "" when it passed, and when what counts was over.

        0.0 stands for now. Raises Stopped when it was ended before there was anything to judge.
        """

    def stop(self, reason: str) -> bool:
        """End those under way; False when they have to be cancelled for that."""


class Stopped(Exception):
    """An iteration was ended from outside, and counts for nothing."""


class Generator(ABC):
    """Runs one load once."""

    def __init__(self, load: Load, timeout_s: float, iteration: Iteration, meter: Meter) -> None:
        self._load, self._timeout_s, self._iteration, self.meter = load, timeout_s, iteration, meter
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting: asyncio.Task[None] | None = None
        self._broken: BaseException | None = None
        self._is_stopped = False

    async def run(self, look: Callable[[], None]) -> None:
        """Run the stages and wait for what is under way; `look` is called every tick.

        A bug in an iteration ends the load and is raised.
        """
        self.meter.begin()
        looking = asyncio.ensure_future(self._look(look))
        try:
            self._starting = asyncio.ensure_future(self._start())
            await asyncio.wait({self._starting})
            while self._tasks:
                await asyncio.wait(self._tasks)
        finally:
            for task in (looking, self._starting, *self._tasks):
                if task is not None:
                    task.cancel()
            self.meter.finish()
        for error in (self._broken, None if self._starting.cancelled() else self._starting.exception()):
            if error is not None:
                raise error

    def stop(self, reason: str) -> None:
        """Start nothing more, and end what is under way."""
        self._is_stopped = True
        if self._starting is not None:
            self._starting.cancel()
        if not self._iteration.stop(reason):
            for task in self._tasks:
                task.cancel()

    @property
    @abstractmethod
    def in_flight(self) -> int:
        """Return how many have started, or wait for their turn."""

    @abstractmethod
    async def _start(self) -> None:
        """Start iterations until the stages are over."""

    async def _look(self, look: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(self.meter.tick_s)
            self.meter.look(self.in_flight)
            look()

    async def _one(self, number: int, intended: float) -> None:
        started = time.perf_counter()
        error, ended = await self._iteration.run(number)
        self.meter.done(intended or started, started, ended or time.perf_counter(), error)
        if error:
            await asyncio.sleep(0)  # what fails at once would let nobody else have a turn

    def _keep(self, task: "asyncio.Task[None]") -> None:
        self._tasks.add(task)
        task.add_done_callback(self._let_go)

    def _let_go(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, Stopped):
            self._broken = error
            if not self._is_stopped:
                self.stop("broken")


class OpenModel(Generator):
    """Arrivals at a rate."""

    def __init__(self, load: Load, timeout_s: float, iteration: Iteration, meter: Meter) -> None:
        super().__init__(load, timeout_s, iteration, meter)
        self._waiting: deque[tuple[int, float]] = deque()

    @property
    def in_flight(self) -> int:
        return len(self._tasks) + len(self._waiting)

    def stop(self, reason: str) -> None:
        self._waiting.clear()
        super().stop(reason)

    async def _start(self) -> None:
        begun, at_once = 0, self._load.at_once
        for number, offset in enumerate(arrivals(self._load.stages)):
            intended = self.meter.started + offset
            now = time.perf_counter()
            while now < intended:
                await asyncio.sleep(max(intended - now, SHORTEST_S))
                now, begun = time.perf_counter(), 0
            if begun >= MOST_AT_A_TIME:
                await asyncio.sleep(0)
                begun = 0
            begun += 1
            self.meter.arrive(intended, now)
            if len(self._tasks) < at_once:
                self._keep(asyncio.ensure_future(self._work(number, intended)))
            elif len(self._tasks) + len(self._waiting) < self._load.max_in_flight:
                self._waiting.append((number, intended))
            else:
                self.meter.drop(intended)

    async def _work(self, number: int, intended: float) -> None:
        """Run an arrival, and then those that wait; one that waited too long is lost without being sent."""
        while True:
            if time.perf_counter() - intended <= self._timeout_s:
                await self._one(number, intended)
            else:
                self.meter.done(intended, 0.0, time.perf_counter(), LOST)
            if not self._waiting:
                return
            number, intended = self._waiting.popleft()


class ClosedModel(Generator):
    """Users that come and go with the stages; one that is to go ends its iteration first."""

    def __init__(self, load: Load, timeout_s: float, iteration: Iteration, meter: Meter) -> None:
        super().__init__(load, timeout_s, iteration, meter)
        self._numbers = itertools.count()
        self._wanted = 0
        self._users: set[int] = set()
        self._over = asyncio.Event()

    def stop(self, reason: str) -> None:
        self._over.set()
        super().stop(reason)

    @property
    def in_flight(self) -> int:
        return len(self._tasks)

    async def _start(self) -> None:
        try:
            while (at_s := time.perf_counter() - self.meter.started) < self._load.for_s:
                self._wanted = round(level_at(self._load.stages, at_s))
                for index in range(self._wanted):
                    if index not in self._users:
                        self._users.add(index)
                        self._keep(asyncio.ensure_future(self._use(index)))
                pause_s = max(min(USERS_EVERY_S, self._load.for_s - at_s), SHORTEST_S)
                asked = time.perf_counter()
                await asyncio.sleep(pause_s)
                self.meter.pause(max(0.0, time.perf_counter() - asked - pause_s))
        finally:
            self._wanted = 0
            self._over.set()

    async def _use(self, index: int) -> None:
        try:
            while index < self._wanted:
                await self._one(next(self._numbers), 0.0)
                if self._load.think_s and index < self._wanted:
                    await self._think()
        finally:
            self._users.discard(index)

    async def _think(self) -> None:
        """Let the user pause, but no longer than there are users."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._load.think_s):
                await self._over.wait()


MODELS: dict[str, type[Generator]] = {"open": OpenModel, "closed": ClosedModel}
