"""Deliveries to a system's own clients: handed to one that is connected to this process, until it acknowledges.

Whoever serves the clients' connections seats them here. Its process alone can send
through this table, so its process alone claims these deliveries.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import orjson

from endpoints.transports.base import (
    AckLevel,
    Address,
    Advice,
    ErrorClass,
    Outgoing,
    Reply,
    Transport,
    TransportError,
)
from endpoints.transports.bodies import payload_members
from endpoints.transports.placeholders import ENVELOPE_FIELDS

DEFAULT_CREDIT = 32
MAX_CREDIT = 1000
ENOUGH = 512  # more than is claimed at once
LOOKED_AT = 16


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client said of a delivery: taken, with a body perhaps, or refused."""

    is_taken: bool
    body: bytes = b""
    content_type: str = ""
    reason: str = ""
    retry_after_s: float | None = None


# By delivery; several of one only after a lease ran out, and what the client says is then true of each.
Pending = dict[str, "list[asyncio.Future[Answer]]"]


@dataclass(slots=True, eq=False)
class Group:
    """The clients that may get the same deliveries, whose turn it is next first; `owed` counts over all of them."""

    seats: "dict[Seat, None]" = field(default_factory=dict)
    owed: int = 0

    @property
    def free(self) -> int:
        """Return how many more deliveries they take, as far as that matters: it is asked all the time."""
        found = 0
        for seat in self.seats:
            found += seat.free
            if found >= ENOUGH:
                break
        return found

    def pick(self) -> "Seat | None":
        """Return who gets the next: of the few whose turn it is one that is not late, and owes the fewest answers."""
        found: list[Seat] = []
        for seat in self.seats:
            if seat.free:
                found.append(seat)
                if len(found) == LOOKED_AT:
                    break
        if not found:
            return None
        best = min(found, key=lambda seat: (seat.is_late, seat.owed))
        for seat in (best, *(seat for seat in found if seat.is_late and seat is not best)):
            self.seats[seat] = self.seats.pop(seat)  # to the end
        return best


@dataclass(slots=True, eq=False)
class Seat:
    """One connected client: `credit` is how many deliveries it takes before it acknowledges the first.

    `push` must not block; `is_full` says that the client does not read what was pushed.
    """

    system_id: int
    system: str
    recipient: str
    push: Callable[[bytes], None]
    is_full: Callable[[], bool]
    credit: int = DEFAULT_CREDIT
    pending: Pending = field(default_factory=dict)
    is_late: bool = False  # what it got last it did not acknowledge in time
    owed: int = 0  # answers, of all that is pending
    group: Group | None = None

    @property
    def free(self) -> int:
        """Return how many more deliveries it takes now."""
        return 0 if self.is_full() else max(0, self.credit - self.owed)

    def settle(self, delivery_id: str, answer: Answer) -> bool:
        """Hand the client's answer to whoever waits for it; return whether somebody does."""
        waiting = [future for future in self.pending.get(delivery_id, ()) if not future.done()]
        for future in waiting:
            future.set_result(answer)
        self.is_late = self.is_late and not waiting
        return bool(waiting)

    def owe(self, delivery_id: str) -> "asyncio.Future[Answer]":
        """Return the future of the answer to a delivery; `end` it."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.pending.setdefault(delivery_id, []).append(future)
        self.owed += 1
        if self.group is not None:
            self.group.owed += 1
        return future

    def end(self, delivery_id: str, future: "asyncio.Future[Answer]") -> None:
        """Expect that answer no more."""
        self.owed -= 1
        if self.group is not None:
            self.group.owed -= 1
        waiting = self.pending[delivery_id]
        waiting.remove(future)
        if not waiting:
            del self.pending[delivery_id]


class Seats:
    """The clients connected to this process, by system and recipient; one event loop's alone."""

    def __init__(self) -> None:
        self._seats: dict[str, dict[str, Group]] = {}
        self._ids: dict[int, str] = {}
        self._gone: set[int] = set()
        self.on_change: Callable[[], None] = lambda: None

    def enter(self, seat: Seat) -> None:
        """Let a client have deliveries."""
        seat.group = self._seats.setdefault(seat.system, {}).setdefault(seat.recipient, Group())
        seat.group.seats[seat] = None
        self._ids[seat.system_id] = seat.system
        self.on_change()

    def leave(self, seat: Seat, *, is_ours: bool = False) -> None:
        """Give it no more; what it did not acknowledge goes to another. `is_ours`: not the client ended it, we did."""
        by_recipient = self._seats.get(seat.system, {})
        group, seat.group = seat.group, None
        if group is None:
            return
        del group.seats[seat]
        group.owed -= seat.owed
        if not group.seats:
            by_recipient.pop(seat.recipient, None)
            self._gone.add(seat.system_id)
        if not by_recipient and self._seats.pop(seat.system, None) is not None:
            self._ids = {number: slug for number, slug in self._ids.items() if slug != seat.system}
        for future in [future for waiting in seat.pending.values() for future in waiting]:
            if not future.done():
                future.set_exception(_stopped() if is_ours else _cut())
        self.on_change()

    def take_gone(self) -> set[int]:
        """Return the systems of which some recipient's last client left since the last time."""
        gone, self._gone = self._gone, set()
        return gone

    def present(self) -> dict[int, set[str]]:
        """Return {system id: the recipients whose clients are here}; "" stands for a client without one."""
        return {number: set(self._seats[slug]) for number, slug in self._ids.items()}

    def free(self, system_id: int) -> dict[str, int]:
        """Return {recipient: how many more deliveries its clients take}, including those that wait for an answer."""
        by_recipient = self._seats.get(self._ids.get(system_id, ""), {})
        return {recipient: group.free + group.owed for recipient, group in by_recipient.items()}

    def pick(self, system: str, recipient: str) -> Seat | None:
        """Return the client that gets the next delivery: in turn, those that owe us the fewest answers first."""
        group = self._seats.get(system, {}).get(recipient)
        return group.pick() if group else None

    def is_present(self, system: str) -> bool:
        return system in self._seats


SEATS = Seats()


class GatewayTransport(Transport):
    """Hands messages to connected clients and waits for what they say."""

    CONFIG_SCHEMA: ClassVar[dict[str, Any]] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Gateway endpoint",
        "type": "object",
        "properties": {},
        "additionalProperties": False,
    }
    CLAIMED_BY: ClassVar[str] = "gateway"

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._is_open = False

    async def open(self) -> None:
        """Nothing to prepare: clients come and go."""
        self._is_open = True

    async def send(self, outgoing: Outgoing) -> Reply:
        """Hand the message to one client and wait for its `ack`, `nack` or `reply`."""
        started = time.perf_counter()
        seat = SEATS.pick(self.address.system, outgoing.recipient) if self._is_open else None
        if seat is None:
            raise _no_client(self.address.system, outgoing.recipient)
        pushed = frame(outgoing)
        future = seat.owe(outgoing.delivery_id)
        try:
            seat.push(pushed)
            async with asyncio.timeout(self.address.timeout_s):
                answer = await future
        except TimeoutError as exc:
            seat.is_late = True
            raise TransportError(
                f"no client of {self.address.system} acknowledged in time",
                error_class=ErrorClass.TIMEOUT,
                request=self._record(),
            ) from exc
        finally:
            seat.end(outgoing.delivery_id, future)
        return self._reply(answer, outgoing, (time.perf_counter() - started) * 1000)

    async def probe(self) -> Reply:
        """Say whether a client is connected to this process."""
        if not (self._is_open and SEATS.is_present(self.address.system)):
            raise _no_client(self.address.system, "")
        return Reply(ack_level=AckLevel.APPLICATION, took_ms=0.0)

    async def aclose(self) -> None:
        """Send no more."""
        self._is_open = False

    def _reply(self, answer: Answer, outgoing: Outgoing, took_ms: float) -> Reply:
        cap = self.address.reply_cap(outgoing)
        reply = Reply(
            ack_level=AckLevel.APPLICATION,
            took_ms=took_ms,
            headers={"content-type": answer.content_type} if answer.content_type else {},
            body=answer.body[:cap],
            truncated=len(answer.body) > cap,
            request=self._record(),
        )
        if not answer.is_taken:
            raise TransportError(
                f"refused by the client: {answer.reason}" if answer.reason else "refused by the client",
                error_class=ErrorClass.NACK,
                retry_after_s=answer.retry_after_s,
                reply=reply,
            )
        return self.answered(outgoing, reply)

    def _record(self) -> Mapping[str, Any]:
        url = f"gateway://{self.address.system}/{self.address.interface}"
        return {"method": "DELIVERY", "url": url, "headers": {}}


def frame(outgoing: Outgoing) -> bytes:
    """Return the frame that a client gets: the message as it was sent, its payload unchanged where it is JSON."""
    message = {name: getattr(outgoing, name) or None for name in ENVELOPE_FIELDS if name != "delivery_id"}
    message["headers"] = dict(outgoing.headers)
    message |= payload_members(outgoing, "payload", "payload_base64")
    return orjson.dumps(
        {"type": "delivery", "delivery_id": outgoing.delivery_id, "attempt": outgoing.attempt, "message": message}
    )


def _no_client(system: str, recipient: str) -> TransportError:
    whom = f"client of {system} for recipient '{recipient}'" if recipient else f"client of {system}"
    return TransportError(f"no {whom} is free", error_class=ErrorClass.CONNECT, advice=Advice.UNSENT)


def _cut() -> TransportError:
    detail = "the client disconnected before it acknowledged"
    return TransportError(detail, error_class=ErrorClass.CONNECT, advice=Advice.CUT)


def _stopped() -> TransportError:
    detail = "we closed the connection before the client acknowledged"
    return TransportError(detail, error_class=ErrorClass.CONNECT, advice=Advice.STOPPED)
