"""`call:` the steps of another case, of this document or of a stored suite, as if they stood here."""

import time
from typing import Any, ClassVar

from testing.assertions.observation import Observation
from testing.document.kinds import NAME, SLUG, VALUE, Field, Kind, MapOf, Shape, text
from testing.steps.asking import as_json
from testing.steps.base import StepAction, Tools


class CallStep(StepAction):
    """The steps assert for themselves; `body` is what they captured. Their suite's setup and needs are not run."""

    SHAPE: ClassVar[Kind] = Shape(
        {
            "case": Field(text(63, SLUG, fixed=True), "Whose steps.", required=True),
            "suite": Field(text(63, SLUG, fixed=True), "Of which stored suite; this document without.", default=""),
            "vars": Field(MapOf(VALUE), "Variables of that suite, replaced.", default={}),
            "systems": Field(
                MapOf(text(63, NAME, fixed=True)), "Its aliases, each with one of ours instead.", default={}
            ),
        },
        short="case",
    )
    SUBJECTS: ClassVar[tuple[str, ...]] = ("body", "latency")
    JUDGES: ClassVar[bool] = True

    def writes(self, params: Any) -> bool:
        return True  # its steps ask for leave by themselves; but whether it could run twice, nobody can say from here

    def aliases(self, params: Any) -> list[str]:
        return []

    async def run(self, params: Any, tools: Tools) -> Observation:
        started = time.perf_counter()
        captured, request = await tools.run_called(params["suite"], params["case"], params["vars"], params["systems"])
        took_ms = (time.perf_counter() - started) * 1000
        return Observation(latency_ms=took_ms, body=as_json(captured), request=request)
