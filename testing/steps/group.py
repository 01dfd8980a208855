"""`group: {steps: [...], at_once: true}`: steps as one, one after the other or all at once."""

import time
from typing import Any, ClassVar

from testing.assertions.observation import Observation
from testing.document.kinds import FIXED_BOOLEAN, Field, Kind, ListOf, Shape
from testing.document.nodes import Faults, Node
from testing.steps.base import StepAction, Tools


class Steps(Kind):
    """Steps within a step; found when they are asked for, since steps hold groups and groups hold steps."""

    def read(self, node: Node, place: str, faults: Faults) -> Any:
        return self._list().read(node, place, faults)

    def schema(self) -> dict[str, Any]:
        return self._list().schema()

    @staticmethod
    def _list() -> ListOf:
        from testing.document.steps import STEP

        return ListOf(STEP, at_least=1, at_most=100)


class GroupStep(StepAction):
    """Its steps assert for themselves; with `at_once` none of them may wait for what another captures."""

    SHAPE: ClassVar[Kind] = Shape(
        {
            "steps": Field(Steps(), "One after the other.", required=True),
            "at_once": Field(FIXED_BOOLEAN, "All at the same time instead.", default=False),
        },
        short="steps",
    )
    FILLS: ClassVar[bool] = False

    async def run(self, params: Any, tools: Tools) -> Observation:
        started = time.perf_counter()
        await tools.run_steps([step for step in params["steps"] if step], at_once=params["at_once"])
        return Observation(latency_ms=(time.perf_counter() - started) * 1000)
