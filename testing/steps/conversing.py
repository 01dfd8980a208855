"""A conversation within a step: what is said, what is waited for, and what was seen of it in the end."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from endpoints.transports.base import ErrorClass, TransportError
from endpoints.transports.conversation import Conversation, Heard
from testing.assertions.compare import difference
from testing.assertions.observation import Observation
from testing.steps.asking import require_theirs
from testing.steps.saying import CLOSE, MOST, NOT_GIVEN, body_of, content, wanted

C = TypeVar("C", bound=Conversation)
Say = Callable[[C, Mapping[str, Any]], Awaitable[None]]


@dataclass(slots=True)
class Collected:
    """What came: `messages` as values, `last` as bytes; `lack` says what did not.

    `read` makes the value of a message, or NOT_GIVEN of one that does not count.
    """

    messages: list[Any] = field(default_factory=list)
    last: Heard | None = None
    first_at: float = 0.0
    done_at: float = 0.0
    lack: str = ""
    is_ended: bool = False
    read: "Callable[[Heard], Any]" = field(default_factory=lambda: _plain)


def _plain(heard: Heard) -> Any:
    return content(heard.data, is_text=heard.is_text)


async def say(line: Conversation, item: Mapping[str, Any]) -> None:
    """Say one message."""
    if (body := body_of(item)) is not None:
        for _ in range(item["times"]):
            await line.say(body[0], is_text=body[1])


async def resume(line: C, params: Mapping[str, Any], found: Collected, say_one: Say[C], *, is_new: bool) -> None:
    """Converse over a line that may have ended before: then nothing is said, unless the end itself is waited for."""
    if not is_new and _is_over(line, params):
        found.lack, found.is_ended = "the session had ended", True
    else:
        await converse(line, params, found, say_one)


async def converse(line: C, params: Mapping[str, Any], found: Collected, say_one: Say[C]) -> None:
    """Say what there is to say, while what comes is kept; then wait for what is to come."""
    cut_short = False
    try:
        for item in params["send"]:
            if item["wait"] is not NOT_GIVEN:
                await asyncio.sleep(item["wait"])
            else:
                async with asyncio.timeout(params["within"]):
                    await say_one(line, item)
    except TimeoutError:
        found.lack = f"it was not taken, or not answered, within {params['within']:g} s"
        return
    except TransportError as exc:
        require_theirs(exc)
        cut_short = True
    await collect(line, params, found)
    if cut_short and not found.lack and params["until"] != CLOSE:
        found.lack, found.is_ended = "not all could be said", True


def _is_over(line: Conversation, params: Mapping[str, Any]) -> bool:
    """Say whether a line that has ended is asked for nothing by which that would show."""
    is_asked = wanted(params) or params["until"] is not None or params["listen"]
    return line.inbox.fault is not None and not is_asked


async def collect(line: Conversation, params: Mapping[str, Any], found: Collected) -> None:
    """Take messages until what is waited for has come, the line ended, or the time is over."""
    until, missing = params["until"], wanted(params)
    is_met = until is None
    try:
        async with asyncio.timeout(params["within"]):
            while missing > 0 or not is_met:
                value = await _next(line, params, found)
                if value is NOT_GIVEN:
                    break
                missing -= 1
                is_met |= until not in (None, CLOSE) and difference(value, until, "subset") is None
    except TimeoutError:
        pass
    found.done_at = time.perf_counter()
    is_met |= until == CLOSE and found.is_ended
    if missing > 0:
        found.lack = f"{len(found.messages)} of {wanted(params)} messages"
    elif not is_met:
        found.lack = "the peer did not end it" if until == CLOSE else f"none of {len(found.messages)} messages fits"
    if found.lack and not found.is_ended:
        found.lack += f" within {params['within']:g} s"
    if params["listen"] and not found.lack:
        await _listen(line, params, found)


async def _listen(line: Conversation, params: Mapping[str, Any], found: Collected) -> None:
    """Hear what more there is; a line that is dead hears nothing, which proves nothing."""
    try:
        async with asyncio.timeout(params["listen"]):
            while await _next(line, params, found) is not NOT_GIVEN:
                pass
        if params["until"] != CLOSE:
            found.lack = "the line ended while it was listened to"
    except TimeoutError:
        pass


async def _next(line: Conversation, params: Mapping[str, Any], found: Collected) -> Any:
    """Return the next message that counts, NOT_GIVEN when the line ended."""
    while True:
        heard = await line.inbox.get()
        if heard is None:
            found.is_ended = True
            return NOT_GIVEN
        value = found.read(heard)
        if value is NOT_GIVEN or any(difference(value, pattern, "subset") is None for pattern in params["ignore"]):
            continue
        if len(found.messages) < MOST:
            found.messages.append(value)
        found.last, found.first_at = heard, found.first_at or heard.at
        return value


def observed(line: Conversation, found: Collected, started: float, *, is_new: bool) -> Observation:
    """Return what was seen; without what was waited for there was no answer."""
    seen = Observation(latency_ms=((found.done_at or time.perf_counter()) - started) * 1000, messages=found.messages)
    if found.last is not None:
        seen.body = found.last.data
    phases = {"connect": line.connect_ms} if is_new else {}
    if found.first_at > started:
        phases["first_byte"] = (found.first_at - started) * 1000 - phases.get("connect", 0.0)
    seen.phases_ms = phases
    if found.lack:
        fault = line.inbox.fault if found.is_ended else None
        seen.no_answer = True
        seen.error_class = fault.error_class.value if fault else ErrorClass.TIMEOUT.value
        seen.error = f"{found.lack}: {fault.detail}" if fault else found.lack
    return seen


def not_opened(exc: TransportError, started: float) -> Observation:
    """Return what was seen of a line that could not be opened; raises CannotRun when that is our own fault."""
    require_theirs(exc)
    seen = Observation(
        latency_ms=(time.perf_counter() - started) * 1000,
        phases_ms=exc.phases_ms,
        error_class=exc.error_class.value,
        error=exc.detail,
        request=exc.request,
        no_answer=True,
    )
    if exc.reply is not None:
        seen.status, seen.headers, seen.body = exc.reply.status_code, exc.reply.headers, exc.reply.body
        seen.speaks = ("error", "status")
    return seen
