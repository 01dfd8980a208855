"""What one client gets, and what it says of it."""

from typing import Any

from endpoints.access import roles
from endpoints.edge import strict_json
from endpoints.errors import NotFound, TooLarge
from endpoints.transports.base import MAX_RETRY_AFTER_S
from endpoints.transports.gateway import MAX_CREDIT, SEATS, Answer, Seat
from messaging.gateway.auth import Caller
from messaging.gateway.frames import BadFrame, Frame
from messaging.gateway.outgoing import Outgoing
from messaging.intake.fields import CHECKS

MAX_REASON_CHARS = 200


class Deliveries:
    """The seat of one connection: none until it speaks for a system."""

    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing = outgoing
        self._seat: Seat | None = None
        self._most_bytes = 0  # of a reply: what the system may send

    def open(self, caller: Caller) -> None:
        """Take deliveries from now on; a client whose token has a recipient takes its own alone."""
        self._most_bytes = caller.party.max_message_bytes if caller.party is not None else 0
        if caller.party is None or self._seat is not None or not roles.may(caller.principal, "gateway", "receive"):
            return
        self._seat = Seat(
            system_id=caller.party.id,
            system=caller.party.slug,
            recipient=caller.principal.recipient,
            push=self._outgoing.push,
            is_full=self._is_full,
        )
        SEATS.enter(self._seat)

    def renew(self, caller: Caller) -> None:
        """Go on as `caller` may now: one whose role does not let it receive any more keeps no seat."""
        if self._seat is not None and not roles.may(caller.principal, "gateway", "receive"):
            self.close(is_ours=True)
        self.open(caller)

    def close(self, *, is_ours: bool) -> None:
        """Take none any more; `is_ours` says that not the client ended it."""
        if self._seat is not None:
            SEATS.leave(self._seat, is_ours=is_ours)
            self._seat = None

    def room_came(self) -> None:
        """Say that the client reads again."""
        if self._seat is not None:
            SEATS.on_change()

    def ack(self, frame: Frame) -> None:
        self._settle(frame, Answer(is_taken=True))

    def nack(self, frame: Frame) -> None:
        reason = frame.get("reason", "")
        if reason is not None and not isinstance(reason, str):
            raise BadFrame("reason: must be a text")
        printable = "".join(char if char.isprintable() else " " for char in (reason or "")[:MAX_REASON_CHARS])
        self._settle(frame, Answer(is_taken=False, reason=printable, retry_after_s=_retry_after_s(frame)))

    def reply(self, frame: Frame) -> None:
        """Take the answer; its payload is JSON, or bytes as `payload_base64` with their `content_type`.

        Raises TooLarge for more than the system may send: the delivery is still owed an answer then.
        """
        try:
            if frame.get("payload_base64") is not None:
                body = CHECKS["payload_base64"](frame["payload_base64"])
                given = frame.get("content_type", "application/octet-stream")
                content_type = CHECKS["content_type"](given)
            elif "payload" in frame:
                body, content_type = strict_json.dumps(frame["payload"]), "application/json"
            else:
                raise BadFrame("reply: `payload` is missing")
        except BadFrame:
            raise
        except ValueError as exc:
            raise BadFrame(f"reply: {exc}") from exc
        if self._seat is not None and len(body) > self._most_bytes:
            raise TooLarge(f"the reply has {len(body)} bytes, {self._seat.system} may send {self._most_bytes}")
        self._settle(frame, Answer(is_taken=True, body=body, content_type=content_type))

    def set_credit(self, frame: Frame) -> None:
        number = frame.get("n")
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= MAX_CREDIT:
            raise BadFrame(f"n: must be a whole number from 0 to {MAX_CREDIT}")
        if self._seat is not None:
            self._seat.credit = number
            SEATS.on_change()

    def _settle(self, frame: Frame, answer: Answer) -> None:
        delivery_id = frame.get("delivery_id")
        if not isinstance(delivery_id, str):
            raise BadFrame("delivery_id: must be a text")
        if self._seat is None or not self._seat.settle(delivery_id, answer):
            raise NotFound("no such delivery waits for an answer here; it may be too late", code="unknown_delivery")

    def _is_full(self) -> bool:
        return self._outgoing.is_full or self._outgoing.is_broken


def _retry_after_s(frame: Frame) -> float | None:
    given: Any = frame.get("retry_after_s")
    if given is None:
        return None
    try:
        seconds = -1.0 if isinstance(given, (str, bool)) else float(given)
    except (TypeError, ValueError):
        seconds = -1.0
    if not seconds >= 0:
        raise BadFrame("retry_after_s: must be a number of seconds")
    return min(seconds, MAX_RETRY_AFTER_S)
