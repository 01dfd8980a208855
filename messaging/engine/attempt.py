"""One try of one delivery: message out, answer judged, everything worth keeping noted."""

import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

import orjson
import structlog

from endpoints.ids import id_at
from endpoints.transports.base import ErrorClass, Outgoing, Reply, TransportError
from endpoints.transports.failures import let_go
from endpoints.transports.outcomes import judged
from messaging.engine.doors import Door
from messaging.engine.verdict import Budget, Verdict, judge
from messaging.intake.fields import PRIORITY_NAMES
from messaging.models import Outcome, Reason, State
from messaging.store import Claim, Finish

log = structlog.get_logger(__name__)

KEPT_BYTES = 16 * 1024
POSTPONED_S = 10.0


class Tried(Protocol):
    """What of an endpoint the end of a try depends on."""

    @property
    def id(self) -> UUID | None: ...

    @property
    def schedule_s(self) -> Sequence[float]: ...


async def make_attempt(claim: Claim, door: Door, ahead: timedelta) -> tuple[Finish, Reply | None, bool]:
    """Send once and return (what becomes of the delivery, the reply if it was delivered, whether the receiver is gone).

    `ahead` is how far the database's clock is ahead of ours. Cancelled, it raises
    CancelledError: nothing is known then.
    """
    started_at = datetime.now(UTC) + ahead
    started = time.perf_counter()
    result, ruled = await _send(claim, door)
    return concluded(claim, door, result, ruled, started_at, (time.perf_counter() - started) * 1000)


def concluded(
    claim: Claim,
    door: Tried,
    result: Reply | TransportError,
    ruled: str | None,
    started_at: datetime,
    took_ms: float,
) -> tuple[Finish, Reply | None, bool]:
    """Return what `make_attempt` does, of a try whose `result` is known; `ruled` is what the endpoint's rules say."""
    budget = Budget(claim.attempts, claim.max_attempts, claim.throttled_since)
    verdict = judge(result, ruled, budget, door.schedule_s, started_at, random.uniform(-1, 1))  # noqa: S311
    finish = _finish(claim, door, verdict, result)
    if verdict.outcome:  # else nothing was tried
        finish.attempt = _record(claim, door, verdict, result, started_at, took_ms)
    reply = result if isinstance(result, Reply) and verdict.outcome == Outcome.DELIVERED else None
    return finish, reply, verdict.is_gone


async def _send(claim: Claim, door: Door) -> tuple[Reply | TransportError, str | None]:
    """Return what came back, and what the endpoint's own rules say of it.

    A bug met on the way, in the transport or in a rule, costs one attempt: it must
    neither take the engine down nor leave a lease behind that looks like a lost worker.
    """
    try:
        result: Reply | TransportError
        try:
            result = await door.transport.send(_outgoing(claim))
        except TransportError as exc:
            let_go(exc)
            result = exc
        return result, await judged(door.rules, result)
    except Exception as exc:
        log.exception("transport_failed", endpoint=door.label)
        return TransportError(f"{type(exc).__name__} in the transport", error_class=ErrorClass.INTERNAL), None


def cut_attempt(claim: Claim, door: Door, started_at: datetime, took_ms: float) -> Finish:
    """Return the end of a send that we broke off to stop in time: unspent, due again at once."""
    verdict = Verdict(
        Outcome.CUT.value,
        State.PENDING.value,
        Reason.RETRYING.value,
        ErrorClass.TIMEOUT.value,
        "broken off because this process stopped",
        is_spent=False,
        throttled_since=claim.throttled_since,
    )
    error = TransportError(verdict.error, error_class=ErrorClass.TIMEOUT)
    finish = _finish(claim, door, verdict, error)
    finish.attempt = _record(claim, door, verdict, error, started_at, took_ms)
    return finish


def expired(claim: Claim) -> Finish:
    """Return the end of a delivery whose time ran out while it waited here."""
    return _untried(claim, State.EXPIRED, Reason.TTL)


def emptied(claim: Claim) -> Finish:
    """Return the end of a delivery whose payload retention took while somebody sent it again."""
    why = "the payload was removed by retention, there is nothing left to send"
    return _untried(claim, State.DEAD, Reason.REFUSED, error_class=ErrorClass.INTERNAL.value, error=why)


def postponed(claim: Claim) -> Finish:
    """Return the end of a suspect that cannot be sent now: untried, and out of the way of the others for a while."""
    why = "the worker that held it was lost"
    return _untried(
        claim, State.PENDING, Reason.RETRYING, error_class=ErrorClass.LOST.value, error=why, delay_s=POSTPONED_S
    )


def _untried(claim: Claim, state: State, reason: Reason, **more: Any) -> Finish:
    """Return an end without an attempt."""
    return Finish(
        **_of(claim), state=state.value, reason=reason.value, attempts=claim.attempts, unspent=claim.unspent, **more
    )


def _of(claim: Claim) -> dict[str, Any]:
    """Return what says which claim a finish ends."""
    line = (claim.system_id, claim.interface, claim.ordering_key) if claim.ordering_key else None
    return {"id": claim.id, "token": claim.token, "system_id": claim.system_id, "line": line}


def _outgoing(claim: Claim) -> Outgoing:
    return Outgoing(
        delivery_id=str(claim.id),
        attempt=claim.attempts + claim.unspent + 1,
        message_id=claim.message_id,
        source_system=claim.source,
        target_system=claim.target,
        message_type=claim.message_type,
        priority=PRIORITY_NAMES[claim.priority],
        timestamp=claim.timestamp.isoformat().replace("+00:00", "Z"),
        content_type=claim.content_type,
        payload=claim.payload or b"",
        event_type=claim.event_type,
        correlation_id=claim.correlation_id,
        reply_to=claim.reply_to,
        ordering_key=claim.ordering_key,
        recipient=claim.recipient,
        headers=claim.headers,
    )


def _finish(claim: Claim, door: Tried, verdict: Verdict, result: Reply | TransportError) -> Finish:
    is_delivered = verdict.state == State.DELIVERED
    reply = result if isinstance(result, Reply) else result.reply
    return Finish(
        **_of(claim),
        state=verdict.state,
        reason=verdict.reason,
        attempts=claim.attempts + verdict.is_spent,
        unspent=claim.unspent + (not verdict.is_spent and verdict.outcome != ""),
        endpoint_id=door.id,
        error_class=verdict.error_class,
        error=_clean(verdict.error),
        ack_level=reply.ack_level.value if is_delivered and reply is not None else "",
        delay_s=verdict.delay_s,
        throttled_since=verdict.throttled_since,
    )


def _record(
    claim: Claim,
    door: Tried,
    verdict: Verdict,
    result: Reply | TransportError,
    started_at: datetime,
    took_ms: float,
) -> dict[str, Any]:
    """Return the attempt's row; what was said is kept up to 16 KiB."""
    reply = result if isinstance(result, Reply) else result.reply
    return {
        "id": id_at(started_at),  # lists of attempts find a span of time by it
        "delivery_id": claim.id,
        "endpoint_id": door.id,
        "number": claim.attempts + claim.unspent + 1,
        "started_at": started_at,
        "took_ms": round(took_ms, 3),
        "phases_ms": orjson.dumps(result.phases_ms).decode(),
        "outcome": verdict.outcome,
        "error_class": verdict.error_class,
        "error": _clean(verdict.error),
        "status_code": reply.status_code if reply else None,
        "request": _json(result.request),
        "response_headers": _json(reply.headers) if reply else "{}",
        "response_body": reply.body[:KEPT_BYTES] or None if reply else None,
        "response_truncated": bool(reply and (reply.truncated or len(reply.body) > KEPT_BYTES)),
        "trigger": claim.trigger,
    }


def _clean(text: str) -> str:
    """Return text both databases take: a receiver's words may hold NUL or bytes that are no characters."""
    return text[:500].replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def _json(value: Any) -> str:
    """Return JSON text both databases take: what a receiver said may hold NUL or lone surrogates."""
    if not value:
        return "{}"
    try:
        text = orjson.dumps(dict(value)).decode()
    except (TypeError, ValueError):
        text = orjson.dumps({str(k): str(v).encode("utf-8", "replace").decode() for k, v in value.items()}).decode()
    return text.replace("\\u0000", "\\ufffd")
