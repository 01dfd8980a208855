"""`stream:` subscribe on our own gateway as a client does, and hear the events that come, in order."""

import time
from collections.abc import Mapping
from typing import Any, ClassVar

import orjson
from django.conf import settings
from yarl import URL

from endpoints.egress import egress_to_ourselves
from endpoints.transports.base import Address, ErrorClass, Secret, TransportError
from endpoints.transports.conversation import Heard
from endpoints.transports.ws import WsTransport
from endpoints.transports.ws_conversation import Opening, WsConversation
from testing.assertions.observation import Observation
from testing.document.kinds import TEXT_OR_NULL, VALUE, Field, Kind, ListOf, Shape, integer, text
from testing.steps import conversing, saying, sessions
from testing.steps.base import CannotRun, StepAction, Tools
from testing.steps.conversing import Collected
from testing.steps.saying import LISTENING, NOT_GIVEN
from testing.steps.sessions import SESSION

PATH = "/ws/v1/gateway/"
ID = "suite"
CREDIT = 1000
FILTERS = ("event_type", "source_system", "target_system", "ordering_key", "recipient")
_FILTER = Shape({name: Field(ListOf(VALUE, at_least=1, at_most=50, or_one=True)) for name in FILTERS})


class Refused(Exception):
    """The gateway does not subscribe us; `code` is its word for why."""

    def __init__(self, said: Mapping[str, Any]) -> None:
        super().__init__(str(said.get("detail", "")))
        self.code = str(said.get("code", ""))


class StreamStep(StepAction):
    """`events` are the messages that came, each with its `cursor`; `status` is `subscribed`, or the code of a refusal.

    Without `session` it is over with the step. Only what is committed after the
    subscription comes, unless `after` says otherwise.
    """

    SHAPE: ClassVar[Kind] = Shape(
        {
            "key": Field(text(8000), "The key or token to subscribe with; the session keeps it."),
            "session": SESSION,
            "filter": Field(_FILTER, "Which events; each takes a value or several.", default={}),
            "after": Field(TEXT_OR_NULL, "A cursor, or `start`; from now without."),
            "credit": Field(integer(0, 100_000), "How many events may come; later on, how many more."),
            **{name: LISTENING[name] for name in ("until", "ignore", "within", "listen")},
            "expect": Field(integer(0, saying.MOST), "For how many events to wait.", default=0),
        }
    )
    SUBJECTS: ClassVar[tuple[str, ...]] = ("status", "events", "close", "latency", "error")

    async def run(self, params: Any, tools: Tools) -> Observation:
        started = time.perf_counter()
        params = {**params, "send": []}
        try:
            async with sessions.borrowed(tools, ("stream",), params["session"], lambda: _opened(params)) as (
                line,
                new,
            ):
                if params["credit"] is not None and not new:
                    await line.say(orjson.dumps({"type": "credit", "id": ID, "n": params["credit"]}))
                return await _heard(line, params, started, is_new=new)
        except Refused as exc:
            took_ms = (time.perf_counter() - started) * 1000
            seen = Observation(took_ms, status=exc.code, error_class=ErrorClass.NACK.value, error=str(exc))
            seen.no_answer, seen.speaks = True, ("error", "status")
            return seen
        except TransportError as exc:
            return conversing.not_opened(exc, started)


async def _heard(line: WsConversation, params: Mapping[str, Any], started: float, *, is_new: bool) -> Observation:
    found = Collected(read=_event)
    await conversing.resume(line, params, found, conversing.say, is_new=is_new)
    seen = conversing.observed(line, found, started, is_new=is_new)
    seen.events, seen.messages, seen.body = seen.messages, None, None
    seen.status, seen.close = "subscribed", line.ending
    if line.ending is not None:
        seen.speaks = ("error", "close")
    seen.request = {**line.request, "filter": params["filter"], "after": params["after"]}
    return seen


async def _opened(params: Mapping[str, Any]) -> WsConversation:
    """Return a line that is subscribed; raises Refused, or TransportError."""
    if not params["key"]:
        raise CannotRun("a stream needs a key, such as ${{ secret.stream-key.token }}")
    transport = WsTransport(_gateway(params["key"]), egress_to_ourselves())
    await transport.open()
    try:
        line = await transport.converse(Opening())
    finally:
        await transport.aclose()
    try:
        await _answer(line, "ready")
        # Deliveries of the system that the key may speak for are not ours to take.
        await line.say(orjson.dumps({"type": "credit", "n": 0}))
        await line.say(orjson.dumps(_subscribe(params)))
        await _answer(line, "subscribed")
    except BaseException:
        await line.aclose()
        raise
    return line


def _gateway(key: str) -> Address:
    url = URL(settings.ENV.public_url)
    protocol = "wss" if url.scheme == "https" else "ws"
    secret = Secret("", "stream-key", "bearer", {"token": key})
    return Address("", "", "", protocol, str(url.host), url.port, PATH, credential=secret)


def _subscribe(params: Mapping[str, Any]) -> dict[str, Any]:
    chosen = {name: value for name, value in (params["filter"] or {}).items() if value is not None}
    credit = CREDIT if params["credit"] is None else params["credit"]
    return {"type": "subscribe", "id": ID, "filter": chosen, "after": params["after"], "credit": credit}


async def _answer(line: WsConversation, kind: str) -> None:
    """Wait for a frame of this type; raises Refused, or TransportError when the line ends."""
    while (heard := await line.inbox.get()) is not None:
        said = saying.content(heard.data)
        if isinstance(said, dict) and said.get("type") == "error":
            raise Refused(said)
        if isinstance(said, dict) and said.get("type") == kind:
            return
    assert line.inbox.fault is not None
    raise line.inbox.fault


def _event(heard: Heard) -> Any:
    """Return the message of an event, with its cursor; what else the gateway says does not count."""
    said = saying.content(heard.data)
    if not isinstance(said, dict) or said.get("type") != "event":
        return NOT_GIVEN
    return {**said["message"], "cursor": said["cursor"]}
