"""The hot way in: `POST /api/v1/messages/` and `POST /to/<system>`, a bare ASGI callable in front of Django.

Django's request path alone costs more than storing a message does, so these two
paths are answered here: same keys, same strict JSON, same problems as everywhere.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from copy import copy
from functools import partial
from typing import Any, Protocol

import orjson

from endpoints.access import roles
from endpoints.access.authenticate import remembered
from endpoints.edge import strict_json, wire
from endpoints.edge.places import Places, address_of
from endpoints.edge.wire import JSON_HEADER, Header, Send
from endpoints.errors import ControlPlaneError, Malformed, Unauthenticated, UnsupportedMediaType
from endpoints.models import MAX_MESSAGE_BYTES
from messaging.intake import cloudevents
from messaging.intake.answers import Tally, accepted, summary
from messaging.intake.bodies import MAX_BODY_BYTES, QUIET_S, Body, Budget, ClientGone, Receive
from messaging.intake.commit import Accepted, Answer
from messaging.intake.counter import Intake
from messaging.intake.envelope import Draft, name_of, read_message, read_raw
from messaging.intake.heads import Request, Scope, sender_of, token_of, wait_of
from messaging.intake.leaving import unless_gone
from messaging.intake.reading import AT_ONCE, is_array, parse_and, read_batch, read_lines, read_one

MESSAGES_PATH = "/api/v1/messages/"
TO_PATH = re.compile(r"/to/([^/]+(?:/[^/]+)?)/?")
PLAIN_JSON = (b"application/json", b"application/json; charset=utf-8")
SPECIAL = frozenset({b"content-encoding", b"idempotency-key", b"ce-specversion"})


class OutcomeWaiter(Protocol):
    """Waits for what becomes of a message, for `?wait=`."""

    async def wait(self, accepted: Accepted, source_id: int, wait_s: float) -> tuple[bool, dict[str, Any]]:
        """Return whether all its deliveries ended in time, and the answer's body."""


def is_intake(scope: Scope) -> bool:
    """Say whether this request is answered here; sessions (no key in the headers) go to Django."""
    if scope["type"] != "http" or scope["method"] != "POST":
        return False
    path = scope["path"]
    if path.startswith("/to/"):
        return True
    return bool(path == MESSAGES_PATH) and any(name in (b"authorization", b"x-api-key") for name, _ in scope["headers"])


class HttpIntake:
    """The ASGI application behind both paths."""

    def __init__(self, intake: Intake, waiter: OutcomeWaiter, waits: Places) -> None:
        self._intake = intake
        self._waiter, self._waits = waiter, waits
        self._budget = Budget()
        self._kinds: dict[str, Callable[[Request], Awaitable[tuple[int, bytes]]]] = {
            "application/json": self._json,
            "application/x-ndjson": self._stream,
            cloudevents.STRUCTURED: self._event,
            cloudevents.BATCH: self._events,
        }

    def prepare(self, scope: Scope) -> "Callable[[bytes], Begun | None] | None":
        """Return what takes the body of such a request when it is here at once, or None; only its head is looked at."""
        if scope["path"] != MESSAGES_PATH or scope["method"] != "POST" or scope["query_string"]:
            return None
        headers = wire.headers_of(scope)
        if headers.get(b"content-type") not in PLAIN_JSON or not SPECIAL.isdisjoint(headers):
            return None
        try:
            return partial(self._begin, token_of(headers))
        except Unauthenticated:
            return None

    def _begin(self, token: str, body: bytes) -> "Begun | None":
        """Take a message if nothing about it has to be waited for or refused; else None.

        What is not taken has left no trace: `__call__` answers it, and says what is wrong.
        """
        if body[:1] != b"{" or len(body) > AT_ONCE:
            return None
        try:
            principal = remembered(token)
            if principal is None:
                return None
            roles.require(principal, "messages", "create")
            self._budget.take(len(body))
        except ControlPlaneError:
            return None
        try:
            stored = self._intake.begin_one(read_message(strict_json.parse(body, exact_numbers=True)), principal)
        except ControlPlaneError:
            stored = None
        if stored is None:
            self._budget.give(len(body))
            return None
        return Begun(stored, len(body), self._budget)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = Body(receive, self._budget)
        try:
            status, answer = await self._answer(scope, body)
            headers = [JSON_HEADER]
        except ControlPlaneError as exc:
            status, headers, answer = wire.refusal(exc)
        except ClientGone:
            return
        finally:
            body.close()
        await wire.answer(send, status, headers, answer)

    async def _answer(self, scope: Scope, body: Body) -> tuple[int, bytes]:
        headers = wire.headers_of(scope)
        token = token_of(headers)
        principal = await sender_of(token)  # before a body is read for one who may not send
        query = scope.get("query_string", b"")
        request = Request(scope["path"], headers, body, token, principal, wait_of(query) if query else 0.0)
        wire.require_plain(headers)
        if not request.wait_s:
            return await self._take(request)
        place = self._waits.enter(address_of(scope))
        try:
            place.belong_to(principal)
            told = await self._take(request)
            return told if request.stored is None else await self._outcome(request, *request.stored)
        finally:
            place.leave()

    async def _take(self, request: Request) -> tuple[int, bytes]:
        """Store what a request brings, and return what to answer once that is done."""
        headers = request.headers
        if request.path != MESSAGES_PATH:
            return await self._raw(request)
        if cloudevents.is_event(headers):
            return await self._binary_event(request)
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")
        answer = self._kinds.get(kind)
        if answer is None:
            raise UnsupportedMediaType(f"send one of {', '.join(self._kinds)}, or an event with ce- headers")
        return await answer(request)

    async def _outcome(self, request: Request, stored: Accepted, source_id: int) -> tuple[int, bytes]:
        """Wait for what becomes of a message; nothing of its body is held meanwhile, nor counted as held.

        Who hangs up waits no more: raises ClientGone, and the message stays stored.
        """
        request.body.close()
        waiting = self._waiter.wait(stored, source_id, request.wait_s)
        ended, outcome = await unless_gone(waiting, request.body.receive)
        try:
            await request.renew()
        except ControlPlaneError as exc:
            raise _with_more(exc, f"message '{stored.message_id}' was {stored.status} before") from exc
        return (200 if ended else 202), orjson.dumps(outcome)

    async def _raw(self, request: Request) -> tuple[int, bytes]:
        found = TO_PATH.fullmatch(request.path)
        if found is None:
            raise Malformed("post to /to/<system> or /to/<system>/<interface>", code="bad_path")
        body = await request.read(MAX_MESSAGE_BYTES)
        headers = {name.decode("latin-1"): wire.text_of(value) for name, value in request.headers.items()}
        draft = await read_one(body, request.principal, lambda body: read_raw(body, headers, found[1]))
        return await self._single(draft, request)

    async def _json(self, request: Request) -> tuple[int, bytes]:
        body = await request.read(MAX_BODY_BYTES)
        if is_array(body):
            return await self._batch(body, request, read_message)
        draft = await read_one(body, request.principal, partial(parse_and, read_message))
        return await self._single(draft, request, request.idempotency_key)

    async def _binary_event(self, request: Request) -> tuple[int, bytes]:
        body, bound_to = await request.read(MAX_MESSAGE_BYTES), request.principal.system_slug
        read = partial(cloudevents.read_binary, headers=request.headers, bound_to=bound_to)
        return await self._single(await read_one(body, request.principal, read), request, request.idempotency_key)

    async def _event(self, request: Request) -> tuple[int, bytes]:
        body = await request.read(MAX_BODY_BYTES)
        read = partial(cloudevents.read_structured, bound_to=request.principal.system_slug)
        draft = await read_one(body, request.principal, partial(parse_and, read))
        return await self._single(draft, request, request.idempotency_key)

    async def _events(self, request: Request) -> tuple[int, bytes]:
        body = await request.read(MAX_BODY_BYTES)
        read = partial(cloudevents.read_structured, bound_to=request.principal.system_slug)
        return await self._batch(body, request, read)

    async def _batch(self, body: bytes, request: Request, read: Callable[[Any], Draft]) -> tuple[int, bytes]:
        if request.headers.get(b"idempotency-key") is not None:
            raise Malformed("Idempotency-Key is for single messages; give each of a batch its idempotency_key")
        if request.wait_s:
            raise Malformed("?wait= is for single messages")
        drafts = await read_batch(body, request.principal, read)
        answers = await self._intake.accept(drafts, request.principal)
        return 202, summary(answers, [name_of(draft) for draft in drafts])

    async def _single(self, draft: Draft, request: Request, idempotency_key: str | None = None) -> tuple[int, bytes]:
        if idempotency_key is not None:
            if draft.idempotency_key not in ("", idempotency_key):
                raise Malformed("Idempotency-Key and the message's idempotency_key differ", code="invalid")
            draft.idempotency_key = idempotency_key
        answer, source = await self._intake.accept_one(draft, request.principal)
        request.stored = (answer, source.id)
        return 202, accepted(answer)

    async def _stream(self, request: Request) -> tuple[int, bytes]:
        """Commit lines as they come; a stream that breaks leaves its stored prefix, and is told how far that goes.

        Where too much waits to be stored the stream waits, too, and its sender with it.
        """
        tally = Tally()
        try:
            async for lines in request.body.lots():
                await request.renew()
                drafts = await read_lines(lines, request.principal)
                answers = await self._intake.accept(drafts, request.principal, QUIET_S)
                tally.add(answers, [name_of(draft) for draft in drafts])
        except ControlPlaneError as exc:
            raise _with_more(exc, f"of the lines before: {tally.text()}") from exc
        return 202, tally.body()


class Begun:
    """A message that waits to be stored: it can be answered once `done` is."""

    __slots__ = ("_budget", "_size", "done")

    def __init__(self, done: "asyncio.Future[list[Answer]]", size: int, budget: Budget) -> None:
        self.done, self._size, self._budget = done, size, budget

    def answer(self) -> tuple[int, list[Header], bytes]:
        """Return status, headers and body."""
        self._budget.give(self._size)
        found = self.done.result()[0]
        return wire.refusal(found) if isinstance(found, ControlPlaneError) else (202, [JSON_HEADER], accepted(found))


def _with_more(error: ControlPlaneError, more: str) -> ControlPlaneError:
    """Return the error with more to say; others may be told the same one, and this is not for them."""
    told = copy(error)
    told.detail = f"{error.detail}; {more}"
    return told
