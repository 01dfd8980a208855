"""What one client sends: handed to the intake in order, many on their way at once, each answered once durable."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson
import structlog

from endpoints.access import roles
from endpoints.access.principal import Principal
from endpoints.errors import ControlPlaneError
from messaging.intake.commit import Accepted, Answer
from messaging.intake.counter import HandedIn, Intake
from messaging.intake.envelope import Draft, id_of, read_message

WINDOW = 1000  # messages of one client on their way to the disk,
WINDOW_BYTES = 2 * 1024 * 1024  # and their bytes: then its socket is not read
MOST_AT_ONCE = 500
PATIENCE_S = 10.0  # how long to wait for room in the intake before a message is refused as too much

log = structlog.get_logger(__name__)
Tell = Callable[[bytes], None]
Sent = tuple[Any, str | None, Draft | ControlPlaneError, int]  # ref, its id as sent, message, size of its frame
Lot = list[Sent]


class Sends:
    """The messages of one connection that are not answered yet."""

    def __init__(self, intake: Intake, tell: Tell) -> None:
        self._intake, self._tell = intake, tell
        self._waiting: deque[Sent] = deque()
        self._count = self._bytes = 0
        self._pump: asyncio.Task[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._principal: Principal | None = None  # who sends, as known last

    def add(self, ref: Any, message: Any, size: int, principal: Principal, slug: str | None) -> None:
        """Take a message; its answer follows. `slug` is who sends it unless it says so itself."""
        self._principal = principal
        self._count += 1
        self._bytes += size
        self._waiting.append((ref, id_of(message), _draft(message, principal, slug), size))
        if self._pump is None:
            self._pump = asyncio.create_task(self._hand_in())

    async def room(self) -> None:
        """Return once there is room for another."""
        while self._count and (self._count >= WINDOW or self._bytes >= WINDOW_BYTES):
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    async def settle(self, timeout_s: float) -> None:
        """Return once all that was taken is answered, or after `timeout_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._count:
                    self._room = asyncio.get_running_loop().create_future()
                    await self._room

    async def aclose(self) -> None:
        """Hand nothing more in; what was handed in is stored, though nobody is told."""
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)

    async def _hand_in(self) -> None:
        """Hand in what is there, one lot after the other, without waiting for any to be durable."""
        try:
            while self._waiting:
                lot = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_AT_ONCE))]
                await self._hand_in_lot(lot)
        finally:
            self._pump = None

    async def _hand_in_lot(self, lot: Lot) -> None:
        assert self._principal is not None
        try:
            handed = await self._intake.hand_in([draft for _, _, draft, _ in lot], self._principal, PATIENCE_S)
        except ControlPlaneError as exc:
            self._answer(lot, [exc] * len(lot))
        except Exception:
            log.exception("gateway_sends_not_handed_in", count=len(lot), caller=self._principal.label)
            self._answer(lot, [ControlPlaneError("the message could not be handed in")] * len(lot))
        else:
            handed.stored.add_done_callback(partial(self._stored, lot, handed))

    def _stored(self, lot: Lot, handed: HandedIn, done: "asyncio.Future[list[Answer]]") -> None:
        if not done.cancelled():
            self._answer(lot, handed.answers())

    def _answer(self, lot: Lot, answers: list[Answer]) -> None:
        for (ref, message_id, _, size), answer in zip(lot, answers, strict=True):
            self._count -= 1
            self._bytes -= size
            self._tell(_told(ref, message_id, answer))
        if self._room is not None and not self._room.done():
            self._room.set_result(None)


def _draft(message: Any, principal: Principal, slug: str | None) -> Draft | ControlPlaneError:
    try:
        roles.require(principal, "messages", "create")
        draft = read_message(message)
    except ControlPlaneError as exc:
        return exc
    draft.source_system = draft.source_system or slug or ""
    return draft


def _told(ref: Any, message_id: str | None, answer: Answer) -> bytes:
    if isinstance(answer, Accepted):
        told = {"type": "ack", "ref": ref, "message_id": answer.message_id, "status": answer.status}
    else:
        told = {
            "type": "nack",
            "ref": ref,
            "message_id": message_id,
            "code": answer.code,
            "detail": answer.detail,
        }
        if answer.retry_after_s:
            told["retry_after_s"] = answer.retry_after_s
    if ref is None:
        del told["ref"]
    return orjson.dumps(told)
