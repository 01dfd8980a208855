"""`tcp:` say frames over a connection and hear what comes, in the framing of the endpoint, TLS included."""

import time
from collections.abc import Mapping
from typing import Any, ClassVar

from endpoints.transports.base import TransportError
from endpoints.transports.tcp import TcpTransport
from endpoints.transports.tcp_conversation import StreamConversation
from testing.assertions.observation import Observation
from testing.document.kinds import BOOLEAN, Field, Kind, Shape, choice, text
from testing.steps import conversing, saying, sessions
from testing.steps.base import CannotRun, StepAction, Tools
from testing.steps.conversing import Collected
from testing.steps.saying import LISTENING, NOT_GIVEN, TRUE
from testing.steps.sessions import SESSION


class TcpStep(StepAction):
    """`messages` are the frames of the peer; a credential that is a token is shown first, as a delivery shows it."""

    SHAPE: ClassVar[Kind] = Shape(
        {
            "system": Field(text(63), "The alias of the system to connect to.", required=True),
            "session": SESSION,
            "reconnect": Field(BOOLEAN, "Open the session anew, whatever became of it.", default=False),
            "auth": Field(choice("endpoint", "none"), "`none` leaves the endpoint's credential out."),
            "send": Field(
                saying.said(end=Field(TRUE, "Say that nothing more comes, and go on listening.", default=NOT_GIVEN)),
                "What to say, one after the other.",
                default=[],
            ),
            **LISTENING,
        }
    )
    SUBJECTS: ClassVar[tuple[str, ...]] = ("messages", "body", "text", "bytes", "size", "latency", "error")
    ALIASES: ClassVar[tuple[str, ...]] = ("system",)

    def writes(self, params: Any) -> bool:
        return any(saying.body_of(item) is not None for item in params["send"])

    async def run(self, params: Any, tools: Tools) -> Observation:
        started = time.perf_counter()
        key, name = ("tcp", params["system"]), params["session"]
        try:
            async with sessions.borrowed(
                tools, key, name, lambda: _opened(params, tools), anew=params["reconnect"]
            ) as (line, is_new):
                return await _talk(line, params, started, is_new=is_new)
        except TransportError as exc:
            return conversing.not_opened(exc, started)


async def _opened(params: Mapping[str, Any], tools: Tools) -> StreamConversation:
    transport = await tools.transport(params["system"], with_credential=params["auth"] != "none")
    if not isinstance(transport, TcpTransport):
        raise CannotRun(f"'{params['system']}' does not speak tcp")
    return await transport.converse()


async def _talk(line: StreamConversation, params: Mapping[str, Any], started: float, *, is_new: bool) -> Observation:
    found = Collected()
    await conversing.resume(line, params, found, _say, is_new=is_new)
    seen = conversing.observed(line, found, started, is_new=is_new)
    seen.request = {**line.request, "sent": saying.sent(params)}
    return seen


async def _say(line: StreamConversation, item: Mapping[str, Any]) -> None:
    if item["end"] is not NOT_GIVEN:
        await line.say_no_more()
    else:
        await conversing.say(line, item)
