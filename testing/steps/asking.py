"""How steps ask over the transports that deliveries use, and what they make of the answer."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson

from endpoints.edge import strict_json
from endpoints.errors import Malformed
from endpoints.transports.base import ErrorClass, Reply, Transport, TransportError
from endpoints.transports.http import HttpTransport
from testing.assertions.observation import Observation
from testing.steps.base import CannotRun, Tools

T = TypeVar("T", bound=Transport)
MAX_REPLY_BYTES = 1024 * 1024
# Of these we are the cause: nothing was asked, so nothing is said of the other side.
OURS = frozenset({ErrorClass.BLOCKED_ADDRESS, ErrorClass.TRANSFORM, ErrorClass.INTERNAL})


@dataclass(frozen=True, slots=True)
class Question:
    """One request over HTTP; a `path` from `/` stands instead of the endpoint's, any other below it."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


async def speaker(tools: Tools, alias: str, kind: type[T], name: str, *, with_credential: bool = True) -> T:
    """Return the open transport to an alias; raises CannotRun when it speaks something else than `name`."""
    transport = await tools.transport(alias, with_credential=with_credential)
    if not isinstance(transport, kind):
        raise CannotRun(f"'{alias}' does not speak {name}")
    return transport


async def ask(
    tools: Tools, alias: str, question: Question, *, with_credential: bool = True, most: int = MAX_REPLY_BYTES
) -> Observation:
    """Return what came of a request, whatever its status; raises CannotRun when it could not be made."""
    transport = await speaker(tools, alias, HttpTransport, "http", with_credential=with_credential)
    try:
        reply = await transport.ask(
            question.method, question.path, question.query, question.headers, question.body, max_bytes=most
        )
    except TransportError as exc:
        return not_answered(exc)
    return seen_of(reply)


async def planned(
    tools: Tools, alias: str, question: Question, timeout_s: float, *, with_credential: bool = True
) -> Callable[[], Awaitable[Observation]]:
    """Return what asks the same again and again, all worked out that does not change; raises CannotRun."""
    transport = await speaker(tools, alias, HttpTransport, "http", with_credential=with_credential)
    try:
        request = transport.plan(question.method, question.path, question.query, question.headers, question.body)
    except TransportError as exc:
        raise CannotRun(exc.detail, exc.error_class.value) from exc

    async def again() -> Observation:
        try:
            return seen_of(await transport.ask_planned(request, max_bytes=MAX_REPLY_BYTES, timeout_s=timeout_s))
        except TransportError as exc:
            return not_answered(exc)

    return again


def seen_of(reply: Reply) -> Observation:
    """Return what was seen of an answer."""
    return Observation(
        latency_ms=reply.took_ms,
        status=reply.status_code,
        headers=reply.headers,
        body=reply.body,
        truncated=reply.truncated,
        phases_ms=reply.phases_ms,
        request=reply.request,
    )


def require_theirs(exc: TransportError) -> None:
    """Raise CannotRun where we are the cause."""
    if exc.error_class in OURS:
        raise CannotRun(exc.detail, exc.error_class.value) from exc


def not_answered(exc: TransportError) -> Observation:
    """Return what it looks like that nobody answered; raises CannotRun where we are the cause."""
    require_theirs(exc)
    return Observation(
        latency_ms=sum(exc.phases_ms.values()),
        phases_ms=exc.phases_ms,
        error_class=exc.error_class.value,
        error_code=getattr(exc, "code", ""),
        error=exc.detail,
        request=exc.request,
        no_answer=True,
    )


def refuse(seen: Observation, error_class: str, code: str, said: str) -> Observation:
    """Make an answer that is a no into one: nothing passes of it but what is said of the error."""
    seen.error_class, seen.error_code, seen.error, seen.no_answer = error_class, code, said, True
    return seen


def json_of(seen: Observation) -> Any:
    """Return the body as JSON; None, and the observation made a refusal, when it is none."""
    try:
        return strict_json.parse(seen.body or b"")
    except Malformed as exc:
        said = "it was cut" if seen.truncated else str(exc)
        refuse(seen, ErrorClass.PROTOCOL.value, "not_json", f"the answer (status {seen.status}) is no JSON: {said}")
        return None


def as_json(value: Any) -> bytes:
    """Return a value as JSON; what JSON has no type for as text."""
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)
