"""`websocket:` say things over a connection and hear what comes; a session keeps it open for later steps."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar

from endpoints.transports.base import TransportError
from endpoints.transports.ws import WsTransport
from endpoints.transports.ws_conversation import Opening, WsConversation
from testing.assertions.observation import Observation
from testing.document.kinds import (
    BOOLEAN,
    VALUE,
    Field,
    Kind,
    ListOf,
    MapOf,
    Scalar,
    Shape,
    choice,
    integer,
    text,
)
from testing.document.references import as_text
from testing.steps import conversing, saying, sessions
from testing.steps.base import CannotRun, StepAction, Tools
from testing.steps.conversing import Collected
from testing.steps.http import ANY_NAME, HEADER
from testing.steps.saying import LISTENING, NOT_GIVEN, TRUE
from testing.steps.sessions import SESSION, Spare

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}")
OPENING = ("path", "query", "headers", "subprotocols", "auth", "answer_pings")
NORMAL = 1000
_code = integer(1000, 4999)


def _close_code(value: Any) -> int:
    return NORMAL if value is True else int(_code.parse(value))


class WebsocketStep(StepAction):
    """`status` and `headers` are the handshake's, `messages` what came, `events` what happened on the line.

    A session that has ended is not opened again in silence: `reconnect` asks for it.
    """

    SHAPE: ClassVar[Kind] = Shape(
        {
            "system": Field(text(63), "The alias of the system to connect to.", required=True),
            "session": SESSION,
            "reconnect": Field(BOOLEAN, "Open the session anew, whatever became of it.", default=False),
            "path": Field(text(4000), "From `/`: instead of the endpoint's path; else below it."),
            "query": Field(MapOf(VALUE, ANY_NAME), "Added to the path, encoded."),
            "headers": Field(MapOf(VALUE, HEADER), "Of the handshake, added to the endpoint's own."),
            "subprotocols": Field(ListOf(text(200, TOKEN), at_most=16), "Offered instead of the endpoint's."),
            "auth": Field(choice("endpoint", "none"), "`none` leaves the endpoint's credential out."),
            "answer_pings": Field(BOOLEAN, "With false the peer must take us for dead."),
            "send": Field(
                saying.said(ping=Field(TRUE, "A ping; its pong is waited for.", default=NOT_GIVEN)),
                "What to say, one after the other.",
                default=[],
            ),
            **LISTENING,
            "close": Field(
                Shape(
                    {
                        "code": Field(
                            Scalar(_close_code, {"anyOf": [{"const": True}, dict(_code.json)]}), default=NORMAL
                        ),
                        "reason": Field(text(120), default=""),
                    },
                    short="code",
                ),
                "End the connection at last: `true`, a code, or `{code, reason}`.",
            ),
        }
    )
    SUBJECTS: ClassVar[tuple[str, ...]] = (
        *("status", "headers", "messages", "events", "close"),
        *("body", "text", "bytes", "size", "latency", "error"),
    )
    ALIASES: ClassVar[tuple[str, ...]] = ("system",)
    REPEATS: ClassVar[bool] = True

    def writes(self, params: Any) -> bool:
        return any(saying.body_of(item) is not None for item in params["send"])

    async def run(self, params: Any, tools: Tools) -> Observation:
        started = time.perf_counter()
        key, name = ("websocket", params["system"]), params["session"]
        given = [field for field in OPENING if params[field] is not None]
        if given and not params["reconnect"] and sessions.has_session(tools, key, name):
            raise CannotRun(f"session '{name}' is open: {', '.join(given)} can be given with reconnect only")
        try:
            async with sessions.borrowed(
                tools, key, name, lambda: _opened(params, tools), anew=params["reconnect"]
            ) as (line, is_new):
                return await _talk(line, params, started, is_new=is_new)
        except TransportError as exc:
            return conversing.not_opened(exc, started)

    async def repeated(self, params: Any, tools: Tools, timeout_s: float) -> Callable[[], Awaitable[Observation]]:
        """Return what takes turns with lines that stay open, when there is a session; else each time connects."""
        key = ("spare", params["system"], params["session"] or "", *(repr(params[field]) for field in OPENING))
        spare: Spare = tools.sessions.setdefault(key, Spare())

        async def again() -> Observation:
            async with asyncio.timeout(timeout_s):
                return await (_turn(spare, params, tools) if params["session"] else self.run(params, tools))

        return again


async def _turn(spare: Spare, params: Mapping[str, Any], tools: Tools) -> Observation:
    """Say and hear it once over a line that is free; one that did not answer is not used again."""
    started, line, is_good = time.perf_counter(), None, False
    try:
        line, is_new = await spare.take(lambda: _opened(params, tools))
        seen = await _talk(line, params, started, is_new=is_new)
        is_good = not seen.no_answer and line.inbox.fault is None
        return seen
    except TransportError as exc:
        return conversing.not_opened(exc, started)
    finally:
        if line is not None and is_good:
            spare.give_back(line)
        elif line is not None:
            await line.aclose()


async def _opened(params: Mapping[str, Any], tools: Tools) -> WsConversation:
    transport = await tools.transport(params["system"], with_credential=params["auth"] != "none")
    if not isinstance(transport, WsTransport):
        raise CannotRun(f"'{params['system']}' does not speak websocket")
    return await transport.converse(
        Opening(
            path=params["path"] or "",
            query={name: as_text(value) for name, value in (params["query"] or {}).items()},
            headers={name.lower(): as_text(value) for name, value in (params["headers"] or {}).items()},
            subprotocols=None if params["subprotocols"] is None else tuple(params["subprotocols"]),
            answers_pings=params["answer_pings"] is not False,
        )
    )


async def _talk(line: WsConversation, params: Mapping[str, Any], started: float, *, is_new: bool) -> Observation:
    """Say what there is to say while what comes is kept, then wait for what is to come."""
    found = Collected()
    await conversing.resume(line, params, found, _say, is_new=is_new)
    if params["close"] is not None and not found.lack:
        await line.hang_up(params["close"]["code"] or NORMAL, params["close"]["reason"] or "")
    seen = conversing.observed(line, found, started, is_new=is_new)
    seen.status, seen.headers, seen.close = line.status, line.headers, line.ending
    seen.events, line.events = line.events, []
    if line.ending is not None:
        seen.speaks = ("error", "close")
    seen.request = {**line.request, "sent": saying.sent(params)}
    return seen


async def _say(line: WsConversation, item: Mapping[str, Any]) -> None:
    if item["ping"] is not NOT_GIVEN:
        await line.ping_and_wait()
    else:
        await conversing.say(line, item)
