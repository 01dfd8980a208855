"""`wait: 200ms`: let time pass."""

import asyncio
import time
from typing import Any, ClassVar

from testing.assertions.observation import Observation
from testing.document.kinds import DURATION_S, Kind
from testing.steps.base import StepAction, Tools


class WaitStep(StepAction):
    """Nothing is seen, so nothing is asserted."""

    SHAPE: ClassVar[Kind] = DURATION_S

    async def run(self, params: Any, tools: Tools) -> Observation:
        started = time.perf_counter()
        await asyncio.sleep(params)
        return Observation(latency_ms=(time.perf_counter() - started) * 1000)
