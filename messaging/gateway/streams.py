"""Event streams of one connection: what was committed, in the order of commit, as far as credit goes.

A subscriber sees what its team may see; one whose token names a `recipient` only what is
for that one. Viewers are sent messages without payloads, operators with them: their
reading is on the record with one entry for each subscription, not for each message.
Each event carries a cursor, and a subscription that begins behind it misses and repeats
nothing. What is wrong with a frame is an error of that frame; the connection lives on.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import structlog
from django.db import Error as DatabaseError

from endpoints.access import audit, roles
from endpoints.access.principal import Principal
from endpoints.errors import Conflict, LimitExceeded, NotFound, Overloaded
from messaging.gateway import entries
from messaging.gateway.cursors import Cursor, CursorExpired, read_cursor
from messaging.gateway.entries import Entry
from messaging.gateway.filters import Errors, Filter, read_filter, refuse, unknown
from messaging.gateway.tail import RETRY_S, Tail
from messaging.models import Message

__all__ = ["Subscriptions", "Tail"]

MOST = 32  # subscriptions of one connection
CREDIT = 32
MOST_CREDIT = 100_000
MOST_ID = 64
BREATH = 256  # messages looked at between two chances for others,
SENDING = 16  # and as how many of these one counts that is sent

Frame = dict[str, Any]
Send = Callable[[Frame], Awaitable[None]]


class Queue(Protocol):
    """What is behind `Send`, where something is: says beforehand that sending would wait."""

    @property
    def is_full(self) -> bool: ...

    async def ample_room(self) -> None: ...


log = structlog.get_logger(__name__)


class Subscription:
    """One stream of a connection, and the task that feeds it."""

    def __init__(self, owner: "Subscriptions", id: str, wanted: Filter, credit: int) -> None:
        self.id, self.wanted = id, wanted
        self.with_payload = owner.with_payload  # what is written down, whatever the subscriber may do later
        self._owner = owner
        self._credit = credit
        self._has_credit = asyncio.Event()
        self._position = 0
        self._work = 0
        self._task: asyncio.Task[None] | None = None
        self.add(0)

    def add(self, credit: int) -> None:
        """Let so many more events be sent."""
        self._credit = min(self._credit + credit, MOST_CREDIT)
        if self._credit:
            self._has_credit.set()

    def start(self, position: int) -> None:
        self._position = position
        self._task = asyncio.create_task(self._run(), name=f"stream {self.id}")

    async def stop(self) -> None:
        """Send nothing more."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        """Feed it until it is stopped; one that cannot go on says so, and leaves the others be."""
        try:
            while True:
                await self._go_on()
        except CursorExpired as exc:
            await self._end(expired(exc, self.id))
        except Exception:
            log.exception("stream_failed", subscription=self.id, subscriber=self._owner.principal.label)
            await self._end({"type": "error", "id": self.id, "code": "internal", "detail": "the stream broke"})

    async def _end(self, told: Frame) -> None:
        self._owner.forget(self)
        await self._owner.send(told)

    async def _go_on(self) -> None:
        """Send what there is, as far as credit goes, or wait for what it takes."""
        tail = self._owner.tail
        await self._has_credit.wait()
        if not tail.holds(self._position):
            await self._catch_up(tail)
            return
        while self._credit and tail.holds(self._position):
            entry = tail.next(self._position)
            if entry is None:
                await tail.moved()
            else:
                await self._offer(entry)

    async def _catch_up(self, tail: Tail) -> None:
        """Send one page of what the tail does not hold any more, as far as the client takes it at once.

        Pages in memory are few and shared by all: none is held while one client's line is full.
        """
        queue = self._owner.queue
        if queue is not None:
            await queue.ample_room()  # not one frame's alone: each time a page is read
        wanted = self.wanted.question(self._owner.principal)
        try:
            async with tail.page(self._position, wanted, self._credit) as page:
                for entry in page.entries:
                    if queue is not None and queue.is_full:
                        return
                    await self._offer(entry)
                self._position = page.end
        except DatabaseError as exc:
            log.warning("stream_not_read", subscription=self.id, error=str(exc))
            await asyncio.sleep(RETRY_S)

    async def _offer(self, entry: Entry) -> None:
        """Send a message if it is asked for."""
        owner = self._owner
        self._work += 1
        if self.wanted.passes(entry, owner.principal):
            self._work += SENDING
            shown = entry.shown(with_payload=self.with_payload and owner.with_payload)
            await owner.send({"type": "event", "id": self.id, "cursor": entry.cursor, "message": shown})
            self._credit -= 1
            if not self._credit:
                self._has_credit.clear()
        self._position = entry.position
        if self._work >= BREATH:  # sending need not wait for anything, and then nobody else would get on
            self._work = 0
            await asyncio.sleep(0)


class Subscriptions:
    """The streams of one connection. `send` takes frames to be written as JSON by orjson, and awaits room."""

    def __init__(
        self, tail: Tail, principal: Principal, send: Send, queue: Queue | None = None, *, with_payload: bool = True
    ) -> None:
        """Without `with_payload` nobody is sent payloads; with it, those whose role may read them."""
        self.tail, self.principal, self.send = tail, principal, send
        self.queue = queue
        self._may_have_payload = with_payload
        self._open: dict[str, Subscription] = {}

    @property
    def with_payload(self) -> bool:
        return self._may_have_payload and roles.may(self.principal, "messages", "read_payload")

    async def subscribe(self, frame: Frame) -> None:
        """Begin a stream, answered by `subscribed {id, cursor}`; raises what the client must be told."""
        roles.require(self.principal, "messages", "list")
        errors: Errors = []
        _known(frame, SUBSCRIBE, errors)
        id, wanted = _id(frame, errors), read_filter(frame.get("filter"), errors)
        credit = _credit(frame, "credit", 0, errors, default=CREDIT)
        after = _after(frame, errors)
        refuse(errors)
        if id in self._open:
            raise Conflict(f"there is a subscription '{id}' on this connection already", code="duplicate_id")
        if len(self._open) >= MOST:
            raise LimitExceeded(f"a connection has at most {MOST} subscriptions", code="too_many_subscriptions")
        made = self._open[id] = Subscription(self, id, wanted, credit)
        self.tail.enter()
        try:
            start = await self.tail.ask(_begin, self.principal, wanted, after, made.with_payload)
        except CursorExpired as exc:
            self.forget(made)
            await self.send(_answering(frame, expired(exc, id)))
            return
        except DatabaseError as exc:
            self.forget(made)
            raise Overloaded("the database does not answer", code="database_down", retry_after_s=1) from exc
        except BaseException:
            self.forget(made)
            raise
        await self.send(_answering(frame, {"type": "subscribed", "id": id, "cursor": str(start)}))
        if self._open.get(id) is made:  # not closed meanwhile
            made.start(start.position)

    async def unsubscribe(self, frame: Frame) -> None:
        """End a stream, answered by `unsubscribed {id}`; no event of it follows."""
        found = self._named(frame, UNSUBSCRIBE)
        self.forget(found)
        await found.stop()
        await self.send(_answering(frame, {"type": "unsubscribed", "id": found.id}))

    async def credit(self, frame: Frame) -> None:
        """Let `n` more events of a stream be sent."""
        found = self._named(frame, CREDITED)
        errors: Errors = []
        more = _credit(frame, "n", 1, errors)
        refuse(errors)
        found.add(more)

    async def aclose(self) -> None:
        """End every stream."""
        open_ones = list(self._open.values())
        for one in open_ones:
            self.forget(one)
        await asyncio.gather(*[one.stop() for one in open_ones])

    def forget(self, one: Subscription) -> None:
        """Let the id be free again."""
        if self._open.get(one.id) is one:
            del self._open[one.id]
            self.tail.leave()

    def _named(self, frame: Frame, known: frozenset[str]) -> Subscription:
        errors: Errors = []
        _known(frame, known, errors)
        id = _id(frame, errors)
        refuse(errors)
        if id not in self._open:
            raise NotFound(f"there is no subscription '{id}' on this connection", code="unknown_subscription")
        return self._open[id]


def _begin(principal: Principal, wanted: Filter, after: Cursor | str | None, with_payload: bool) -> Cursor:
    """Return where to begin, after writing down who is to be sent payloads from there on."""
    if isinstance(after, Cursor):
        entries.check_cursor(after)
        start = after
    else:
        start = entries.newest() if after is None else entries.cursor_at(entries.kept_from())
    if with_payload:
        told = {"filter": [None, wanted.told()], "after": [None, start.position]}
        audit.record(principal, "stream_payloads", Message(pk=start.position), told, label="event stream")
    return start


def expired(exc: CursorExpired, id: str) -> Frame:
    """Return the frame that ends a stream whose next messages may be gone."""
    return {"type": "error", "id": id, "code": exc.code, "detail": exc.detail, "oldest": exc.oldest}


# --- fields of frames ----------------------------------------------------------

SUBSCRIBE = frozenset({"type", "ref", "id", "filter", "after", "credit"})
UNSUBSCRIBE = frozenset({"type", "ref", "id"})
CREDITED = frozenset({"type", "ref", "id", "n"})


def _answering(frame: Frame, answer: Frame) -> Frame:
    return answer if frame.get("ref") is None else {**answer, "ref": frame["ref"]}


def _known(frame: Frame, known: frozenset[str], errors: Errors) -> None:
    for name in list(frame.keys() - known)[:10]:
        detail = unknown(name, dict.fromkeys(sorted(known)))
        errors.append({"field": name[:100], "code": "unknown", "detail": detail})


def _id(frame: Frame, errors: Errors) -> str:
    value = frame.get("id")
    if isinstance(value, str) and 1 <= len(value) <= MOST_ID and value.isprintable():
        return value
    errors.append({"field": "id", "code": "invalid", "detail": f"must be a text of 1 to {MOST_ID} characters"})
    return ""


def _credit(frame: Frame, name: str, least: int, errors: Errors, default: int | None = None) -> int:
    value = frame.get(name)
    if value is None and default is not None:
        return default
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= MOST_CREDIT:
        return value
    errors.append({"field": name, "code": "invalid", "detail": f"must be a whole number of {least} to {MOST_CREDIT}"})
    return 0


def _after(frame: Frame, errors: Errors) -> Cursor | str | None:
    value = frame.get("after")
    if value is None or value == "start":
        return value
    if isinstance(value, str):
        return read_cursor(value)
    errors.append({"field": "after", "code": "invalid", "detail": "must be a cursor, start, or null for from now"})
    return None
