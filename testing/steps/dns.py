"""`dns: shop.example.org`: which addresses a name has, as our own way out resolves it."""

import time
from typing import Any, ClassVar

from endpoints.egress import default_egress
from endpoints.transports.base import TransportError
from testing.assertions.observation import Observation
from testing.document.kinds import Field, Kind, Shape, text
from testing.steps.base import StepAction, Tools


class DnsStep(StepAction):
    """`rows` are the addresses; a name that leads to a forbidden one is told as `blocked_address`."""

    SHAPE: ClassVar[Kind] = Shape({"name": Field(text(253), "The name to resolve.", required=True)}, short="name")
    SUBJECTS: ClassVar[tuple[str, ...]] = ("rows", "latency", "error")

    async def run(self, params: Any, tools: Tools) -> Observation:
        started = time.perf_counter()
        seen = Observation(request={"name": params["name"]})
        try:
            seen.rows = [found.address for found in await default_egress().resolve(params["name"], 443)]
        except TransportError as exc:
            seen.error_class, seen.error, seen.no_answer = exc.error_class.value, exc.detail, True
        seen.latency_ms = (time.perf_counter() - started) * 1000
        return seen
