"""`probe: api`: ask an endpoint whether it is there, as its health probe does."""

import time
from typing import Any, ClassVar

from endpoints.transports.base import TransportError
from testing.assertions.observation import Observation
from testing.document.kinds import Field, Kind, Shape, choice, text
from testing.steps.asking import seen_of
from testing.steps.base import StepAction, Tools
from testing.steps.conversing import not_opened


class ProbeStep(StepAction):
    """Every protocol can be probed; `status` is there where the protocol has one."""

    SHAPE: ClassVar[Kind] = Shape(
        {
            "system": Field(text(63), "The alias of the system to ask.", required=True),
            "auth": Field(
                choice("endpoint", "none"), "`none` leaves the endpoint's credential out.", default="endpoint"
            ),
        },
        short="system",
    )
    SUBJECTS: ClassVar[tuple[str, ...]] = ("status", "headers", "body", "text", "size", "latency", "error")
    ALIASES: ClassVar[tuple[str, ...]] = ("system",)

    async def run(self, params: Any, tools: Tools) -> Observation:
        transport = await tools.transport(params["system"], with_credential=params["auth"] != "none")
        started = time.perf_counter()
        try:
            return seen_of(await transport.probe())
        except TransportError as exc:
            return not_opened(exc, started)
