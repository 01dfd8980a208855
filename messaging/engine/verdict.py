"""What an answer or a failure means for the delivery: pure, one table, the endpoint's own rules first."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from endpoints.transports.base import Advice, ErrorClass, Reply, TransportError
from messaging.engine.retry import THROTTLED_FOR_S, delay_s, throttled_delay_s
from messaging.models import Outcome, Reason, State


@dataclass(slots=True)
class Verdict:
    """How the attempt ended, and what that does to the delivery."""

    outcome: str  # of the attempt
    state: str
    reason: str
    error_class: str = ""
    error: str = ""
    delay_s: float = 0.0
    is_spent: bool = True
    is_gone: bool = False
    throttled_since: datetime | None = None


@dataclass(slots=True)
class Budget:
    """What the verdict must know of the delivery: tries spent before this one, and since when it is throttled."""

    attempts: int
    max_attempts: int
    throttled_since: datetime | None


UNSENT_S = 0.25  # whoever claims it again sees who is there before
DEAD_REASONS = {
    ErrorClass.BLOCKED_ADDRESS.value: Reason.ADDRESS.value,
    ErrorClass.TRANSFORM.value: Reason.TRANSFORM.value,
}
# What a rule says of an answer that no error came with.
RULED = {"retry": Advice.RETRY, "dead": Advice.DEAD, "throttled": Advice.THROTTLED}


# What was not for the receiver to say, with how the attempt ended ("" for none at all) and what it waits for.
NOT_SPENT = {
    Advice.STOPPED: (Outcome.CUT.value, Reason.RETRYING.value, 0.0),
    Advice.UNSENT: ("", Reason.NO_CLIENT.value, UNSENT_S),
}


def judge(
    result: Reply | TransportError,
    ruled: str | None,
    budget: Budget,
    schedule_s: Sequence[float],
    now: datetime,
    jitter: float,
) -> Verdict:
    """Return what becomes of the delivery after this attempt.

    `ruled` is the verdict of the endpoint's own rules, None when none of them matched;
    `jitter` is in -1..1.
    """
    if ruled == "delivered" or (ruled is None and isinstance(result, Reply)):
        fault = result.fault if isinstance(result, Reply) else ""
        return Verdict(Outcome.DELIVERED.value, State.DELIVERED.value, Reason.SENT.value, error=fault)
    if isinstance(result, TransportError) and result.advice in NOT_SPENT:
        return _not_spent(result, budget)
    error_class, error, advice, retry_after_s = _failure(result, ruled)
    if advice is Advice.THROTTLED:
        return _throttled(error_class, error, budget, now, throttled_delay_s(retry_after_s, jitter))
    if advice in (Advice.DEAD, Advice.GONE):
        return Verdict(
            Outcome.DEAD.value,
            State.DEAD.value,
            DEAD_REASONS.get(error_class, Reason.REFUSED.value),
            error_class,
            error,
            is_gone=advice is Advice.GONE,
        )
    spent, outcome = budget.attempts + 1, (Outcome.CUT if advice is Advice.CUT else Outcome.RETRY).value
    if spent >= budget.max_attempts:
        return Verdict(outcome, State.DEAD.value, Reason.EXHAUSTED.value, error_class, error)
    wait_s = delay_s(spent, schedule_s, jitter, retry_after_s)
    return Verdict(outcome, State.PENDING.value, Reason.RETRYING.value, error_class, error, wait_s)


def _failure(result: Reply | TransportError, ruled: str | None) -> tuple[str, str, Advice, float | None]:
    """Return (error class, error, advice, seconds asked for) of what went wrong, by the rule or by itself."""
    if isinstance(result, TransportError):
        advice = RULED[ruled] if ruled else result.advice
        return result.error_class.value, result.detail, advice, result.retry_after_s
    status = f" {result.status_code}" if result.status_code is not None else ""
    error_class = ErrorClass.THROTTLED if ruled == "throttled" else ErrorClass.NACK
    return error_class.value, f"answer{status} means '{ruled}' by a rule of the endpoint", RULED[ruled or "dead"], None


def _not_spent(result: TransportError, budget: Budget) -> Verdict:
    outcome, reason, delay_s = NOT_SPENT[result.advice]
    return Verdict(
        outcome,
        State.PENDING.value,
        reason,
        result.error_class.value,
        result.detail,
        delay_s,
        is_spent=False,
        throttled_since=budget.throttled_since,
    )


def _throttled(error_class: str, error: str, budget: Budget, now: datetime, wait_s: float) -> Verdict:
    """Wait as asked and spend nothing, but not for ever."""
    since = budget.throttled_since or now
    if (now - since).total_seconds() > THROTTLED_FOR_S:
        return Verdict(Outcome.THROTTLED.value, State.DEAD.value, Reason.EXHAUSTED.value, error_class, error)
    return Verdict(
        Outcome.THROTTLED.value,
        State.PENDING.value,
        Reason.THROTTLED.value,
        error_class,
        error,
        wait_s,
        is_spent=False,
        throttled_since=since,
    )
