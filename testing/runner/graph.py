"""Cases as a graph: each begins once all it needs have passed, so many at once, in the document's order."""

import asyncio
import heapq
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence

from testing.models import Verdict
from testing.runner.plan import Instance

RunOne = Callable[[Instance], Awaitable[Verdict]]
Block = Callable[[Instance, Instance, Verdict], None]  # whom, behind which, and how that ended


class Graph:
    """What is ready, and what waits for what; numbers are those of the instances."""

    def __init__(self, planned: Sequence[Instance]) -> None:
        self._instances = {instance.number: instance for instance in planned}
        self._unmet = {instance.number: len(instance.needs) for instance in planned}
        self._behind: dict[int, list[int]] = defaultdict(list)
        for instance in planned:
            for need in instance.needs:
                self._behind[need].append(instance.number)
        self.ready = [instance.number for instance in planned if not instance.needs]
        heapq.heapify(self.ready)

    def next(self) -> Instance:
        """Return the first in the document of those that are ready."""
        return self._instances[heapq.heappop(self.ready)]

    def settle(self, ended: Instance, verdict: Verdict, block: Block) -> None:
        """Make ready, or block, what waited for `ended`; what waits for a blocked one is blocked as well."""
        settled = [(ended, verdict)]
        while settled:
            cause, how = settled.pop()
            for number in self._behind.pop(cause.number, ()):
                if self._unmet[number] < 0:
                    continue  # blocked by another before
                self._unmet[number] = self._unmet[number] - 1 if how == Verdict.PASSED else -1
                if self._unmet[number] == 0:
                    heapq.heappush(self.ready, number)
                elif self._unmet[number] < 0:
                    block(self._instances[number], cause, how)
                    settled.append((self._instances[number], Verdict.BLOCKED))


async def run_graph(planned: Sequence[Instance], at_once: int, run_one: RunOne, block: Block) -> None:
    """Run every instance, or block it; `run_one` raises nothing that is no bug."""
    graph = Graph(planned)
    running: dict[asyncio.Future[Verdict], Instance] = {}
    try:
        while graph.ready or running:
            while graph.ready and len(running) < at_once:
                instance = graph.next()
                running[asyncio.ensure_future(run_one(instance))] = instance
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                graph.settle(running.pop(task), task.result(), block)
    finally:
        for task in running:
            task.cancel()
        if running:  # they clean up first
            await asyncio.wait(running)
