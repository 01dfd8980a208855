"""The hot way in: `POST /api/v1/messages/` and `POST /to/<system>`, a bare ASGI callable in front of Django.

Django's request path alone costs more than storing a message does, so these two
paths are answered here: same keys, same strict JSON, same problems as everywhere.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote

import orjson

from endpoints.access import roles
from endpoints.access.authenticate import aauthenticate, credentials_of
from endpoints.access.principal import Principal
from endpoints.edge import strict_json
from endpoints.edge.problem import problem
from endpoints.errors import (
    ControlPlaneError,
    Forbidden,
    Malformed,
    TooLarge,
    Unauthenticated,
    UnsupportedMediaType,
)
from endpoints.models import MAX_MESSAGE_BYTES
from messaging.intake.bodies import MAX_BODY_BYTES, ClientGone, Receive, read_body, read_lines
from messaging.intake.commit import Accepted, Answer
from messaging.intake.directory import find_broadcast, find_parties
from messaging.intake.envelope import Draft, read_message, read_raw
from messaging.intake.fields import BROADCAST, CHECKS
from messaging.intake.plan import Planned, plan_or_error, slugs_of
from messaging.intake.writer import Writer

MESSAGES_PATH = "/api/v1/messages/"
TO_PATH = re.compile(r"/to/([^/]+(?:/[^/]+)?)/?")
MAX_BATCH_BYTES = 16 * 1024 * 1024
MAX_BATCH_ITEMS = 1000
MAX_LISTED = 1000
MAX_WAIT_S = 60.0

Scope = Mapping[str, Any]
Send = Callable[[dict[str, Any]], Awaitable[None]]


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

    def __init__(self, writer: Writer, waiter: OutcomeWaiter) -> None:
        self._writer = writer
        self._waiter = waiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            status, body = await self._answer(scope, receive)
            headers = {"Content-Type": "application/json"}
        except ControlPlaneError as exc:
            status, headers, body = problem(exc)
        except ClientGone:
            return
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()]
                + [(b"content-length", str(len(body)).encode())],
            }
        )
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, bytes]:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        token = credentials_of(headers)
        if token is None:
            raise Unauthenticated("send a key: `Authorization: Bearer <key>` or `X-API-Key`")
        principal = await aauthenticate(token)
        roles.require(principal, "messages", "create")  # before a body is read for one who may not send
        if not principal.may("operator"):  # said once and before the body, not for each message of a batch
            raise Forbidden("sending needs the role operator")
        wait_s = _read_query(scope.get("query_string", b""))
        if "content-encoding" in headers:
            raise UnsupportedMediaType("send the body without Content-Encoding")
        if scope["path"] != MESSAGES_PATH:
            return await self._raw(scope["path"], headers, principal, receive, wait_s)
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/x-ndjson":
            return 202, await self._stream(principal, receive)
        if kind != "application/json":
            raise UnsupportedMediaType("send application/json or application/x-ndjson")
        return await self._json(headers, principal, await read_body(receive, headers, MAX_BODY_BYTES), wait_s)

    async def _raw(
        self, path: str, headers: Mapping[str, str], principal: Principal, receive: Receive, wait_s: float
    ) -> tuple[int, bytes]:
        found = TO_PATH.fullmatch(path)
        if found is None:
            raise Malformed("post to /to/<system> or /to/<system>/<interface>", code="bad_path")
        body = await read_body(receive, headers, MAX_MESSAGE_BYTES)
        draft = read_raw(body, headers, unquote(found[1]))
        return await self._single(draft, principal, wait_s)

    async def _json(
        self, headers: Mapping[str, str], principal: Principal, body: bytes, wait_s: float
    ) -> tuple[int, bytes]:
        data = strict_json.parse(body, exact_numbers=True)
        key = headers.get("idempotency-key")
        if isinstance(data, list):
            if key is not None:
                raise Malformed("Idempotency-Key is for single messages; give each of a batch its idempotency_key")
            if wait_s:
                raise Malformed("?wait= is for single messages")
            if len(body) > MAX_BATCH_BYTES or not 1 <= len(data) <= MAX_BATCH_ITEMS:
                raise TooLarge(f"a batch has 1 to {MAX_BATCH_ITEMS} messages and at most {MAX_BATCH_BYTES} bytes")
            return 202, summary(await self._accept([_read(item) for item in data], principal))
        draft = read_message(data)
        if key is not None:
            draft.idempotency_key = _idempotency_key(key)
        return await self._single(draft, principal, wait_s)

    async def _single(self, draft: Draft, principal: Principal, wait_s: float) -> tuple[int, bytes]:
        planned = (await self._plan([draft], principal))[0]
        if isinstance(planned, ControlPlaneError):
            raise planned
        answer = (await self._writer.submit([planned]))[0]
        if isinstance(answer, ControlPlaneError):
            raise answer
        if wait_s:
            ended, outcome = await self._waiter.wait(answer, planned.source.id, wait_s)
            return (200 if ended else 202), orjson.dumps(outcome)
        return 202, orjson.dumps(
            {"message_id": answer.message_id, "status": answer.status, "deliveries": answer.deliveries}
        )

    async def _plan(
        self, drafts: Sequence[Draft | ControlPlaneError], principal: Principal
    ) -> list[Planned | ControlPlaneError]:
        good = [draft for draft in drafts if isinstance(draft, Draft)]
        parties = await find_parties(set().union(*(slugs_of(draft, principal) for draft in good)))
        is_broadcast = any(BROADCAST in (draft.target_system or ()) for draft in good)
        broadcast = await find_broadcast() if is_broadcast else []
        return [plan_or_error(draft, principal, parties, broadcast) for draft in drafts]

    async def _accept(self, drafts: Sequence[Draft | ControlPlaneError], principal: Principal) -> list[Answer]:
        """Return an answer for each draft, in order; those that cannot be stored are answered, not raised."""
        planned = await self._plan(drafts, principal)
        stored = iter(())  # type: Any
        if good := [item for item in planned if isinstance(item, Planned)]:
            stored = iter(await self._writer.submit(good))
        answers = [item if isinstance(item, ControlPlaneError) else next(stored) for item in planned]
        unstored = [item for item in answers if isinstance(item, ControlPlaneError) and item.status >= 500]
        if len(unstored) == len(answers):
            raise unstored[0]
        return answers

    async def _stream(self, principal: Principal, receive: Receive) -> bytes:
        """Commit lines as they come; a stream that breaks leaves its stored prefix."""
        tally = Tally()
        async for lines in read_lines(receive):
            drafts = [_read_line(line) for line in lines]
            tally.add(await self._accept(drafts, principal))
        return tally.body()


class Tally:
    """Counts the answers of a stream and lists the rejected ones, the first thousand."""

    def __init__(self) -> None:
        self.counts = {"accepted": 0, "duplicate": 0, "rejected": 0}
        self.results: list[dict[str, Any]] = []
        self._index = 0

    def add(self, answers: Sequence[Answer], *, list_all: bool = False) -> None:
        for answer in answers:
            result = result_of(self._index, answer)
            self.counts[result["status"]] += 1
            if list_all or (result["status"] == "rejected" and len(self.results) < MAX_LISTED):
                self.results.append(result)
            self._index += 1

    def body(self) -> bytes:
        return orjson.dumps({**self.counts, "results": self.results})


def summary(answers: Sequence[Answer]) -> bytes:
    """Return the body that answers a batch, every message listed."""
    tally = Tally()
    tally.add(answers, list_all=True)
    return tally.body()


def result_of(index: int, answer: Answer) -> dict[str, Any]:
    """Return one entry of a batch's `results`."""
    if isinstance(answer, Accepted):
        return {"index": index, "message_id": answer.message_id, "status": answer.status, "code": None, "detail": None}
    return {"index": index, "message_id": None, "status": "rejected", "code": answer.code, "detail": answer.detail}


def _read(item: Any) -> Draft | ControlPlaneError:
    try:
        return read_message(item)
    except Malformed as exc:
        return exc


def _read_line(line: bytes) -> Draft | ControlPlaneError:
    try:
        return read_message(strict_json.parse(line, exact_numbers=True))
    except Malformed as exc:
        return exc


def _idempotency_key(value: str) -> str:
    try:
        key: str = CHECKS["idempotency_key"](value)
    except ValueError as exc:
        raise Malformed(f"Idempotency-Key: {exc}", code="invalid") from exc
    return key


def _read_query(query: bytes) -> float:
    """Return the seconds of `?wait=`, 0 without; raises Malformed for anything else in the query."""
    if not query:
        return 0.0
    wait_s = 0.0
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name != "wait":
            raise Malformed(f"'{name[:50]}' is not a parameter of this path; known is wait", code="unknown_parameter")
        try:
            wait_s = float(value)
        except ValueError:
            wait_s = -1.0
        if not 0 <= wait_s <= MAX_WAIT_S:
            raise Malformed(f"wait: must be seconds between 0 and {MAX_WAIT_S:g}", code="invalid")
    return wait_s
