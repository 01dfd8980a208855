"""`udp:` send datagrams and hear what comes back: that one left proves nothing, so an answer is expected or waived."""

import time
from typing import Any, ClassVar

from endpoints.transports.base import TransportError
from endpoints.transports.udp import UdpTransport
from endpoints.transports.udp_conversation import DatagramConversation
from testing.assertions.observation import Observation
from testing.document.kinds import Field, Kind, Shape, text
from testing.steps import conversing, saying, sessions
from testing.steps.base import CannotRun, StepAction, Tools
from testing.steps.conversing import Collected
from testing.steps.saying import LISTENING, TRUE
from testing.steps.sessions import SESSION

REFUSAL_S = 0.1  # how long an unverified step waits for the peer's host to say that nobody is there


class UdpStep(StepAction):
    """`messages` are the datagrams that came back to the socket they were sent from."""

    SHAPE: ClassVar[Kind] = Shape(
        {
            "system": Field(text(63), "The alias of the system to send to.", required=True),
            "session": SESSION,
            "send": Field(saying.said(), "What to send, each a datagram.", default=[]),
            **LISTENING,
            "unverified": Field(TRUE, "Nothing is to come back, so nothing is known of it.", default=False),
        },
        one_of=("expect", "unverified"),
    )
    SUBJECTS: ClassVar[tuple[str, ...]] = ("messages", "body", "text", "bytes", "size", "latency", "error")
    ALIASES: ClassVar[tuple[str, ...]] = ("system",)

    def writes(self, params: Any) -> bool:
        return bool(params["send"])

    async def run(self, params: Any, tools: Tools) -> Observation:
        started, key = time.perf_counter(), ("udp", params["system"])
        if params["unverified"]:
            params = {**params, "expect": 0, "listen": max(params["listen"], REFUSAL_S)}
        try:
            async with sessions.borrowed(tools, key, params["session"], lambda: _opened(params, tools)) as (
                line,
                new,
            ):
                found = Collected()
                await conversing.converse(line, params, found, conversing.say)
                seen = conversing.observed(line, found, started, is_new=new)
                seen.request = {**line.request, "sent": saying.sent(params)}
                return seen
        except TransportError as exc:
            return conversing.not_opened(exc, started)


async def _opened(params: Any, tools: Tools) -> DatagramConversation:
    transport = await tools.transport(params["system"])
    if not isinstance(transport, UdpTransport):
        raise CannotRun(f"'{params['system']}' does not speak udp")
    return await transport.converse()
