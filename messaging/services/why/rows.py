"""The table: one row for each reason, with what is the case, what comes next, and what to do about it."""

from collections.abc import Callable
from dataclasses import dataclass

from messaging.models import Reason, State
from messaging.services.why.facts import (
    BREAKER,
    DISABLED,
    INTERFACE,
    MAINTENANCE,
    RETIRED,
    STOP,
    SYSTEM,
    Facts,
)
from messaging.services.why.marks import at, times
from messaging.services.why.phrases import (
    acknowledged,
    behind,
    by_whom,
    disabled,
    due,
    exhausted,
    held,
    leased,
    lifetime,
    next_of_head,
    poisoned,
    rate,
    tries,
    waiting,
)

Say = Callable[[Facts], str]


def _nothing(facts: Facts) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Row:
    """How one reason is said: what is the case, what comes next, and what to do about it."""

    what: Say
    todo: tuple[str, ...] = ()
    then: Say = _nothing
    counts: str = ""  # the verb of "3 others wait for the same reason"
    explains: tuple[str, ...] = ()  # the holds that `what` speaks of already
    since: Say | None = None


PENDING: dict[str, Row] = {
    Reason.NEW: Row(
        lambda f: f"{waiting(f)}, not tried yet",
        ("start", "register_endpoint", "cancel"),
        due,
        "waits",
    ),
    Reason.RETRYING: Row(
        lambda f: f"{waiting(f)}, tried {times(f.tries.spent + f.tries.unspent)} in vain",
        ("retry_now", "retry_all", "cancel"),
        due,
        "waits",
    ),
    Reason.PAUSED: Row(
        lambda f: f"{waiting(f)}: {held(f, STOP, SYSTEM, INTERFACE)}",
        ("resume_all", "resume_system", "resume_interface", "cancel"),
        due,
        "waits",
        (STOP, SYSTEM, INTERFACE),
    ),
    Reason.MAINTENANCE: Row(
        lambda f: f"{waiting(f)}: {held(f, MAINTENANCE)}", ("end_maintenance", "cancel"), due, "waits", (MAINTENANCE,)
    ),
    Reason.BREAKER: Row(
        lambda f: f"{waiting(f)}: {held(f, BREAKER)}",
        ("see_endpoint", "pause_system", "cancel"),  # nothing that is tried sooner: an open breaker holds that, too
        due,
        "waits",
        (BREAKER,),
    ),
    Reason.THROTTLED: Row(
        lambda f: f"{waiting(f)}: {f.target} asks us to slow down since {at(f.throttled_since)}",
        ("retry_now", "see_endpoint", "cancel"),
        due,
        "waits",
    ),
    Reason.RATE_LIMITED: Row(
        lambda f: f"{waiting(f)}: the rate of {f.target}{rate(f)} is used up",
        ("see_endpoint", "cancel"),
        lambda f: due(f) if f.holds else "it goes as soon as the rate allows",
        "waits",
    ),
    Reason.BLOCKED: Row(
        lambda f: f"{waiting(f)} {behind(f.behind, f)}",
        ("why_head", "retry_head", "resend_head", "skip_head", "cancel"),
        next_of_head,
        "waits",
    ),
    Reason.SCHEDULED: Row(
        lambda f: f"accepted {at(f.created_at)}, its sender wants it sent not before {at(f.due_at)}",
        ("cancel",),
        lambda f: due(f),
        "waits",
    ),
    Reason.NO_CLIENT: Row(
        lambda f: f"{waiting(f)}: no client of {f.target} is connected",
        ("see_system", "cancel"),
        lambda f: due(f) if f.holds else "it goes as soon as one connects",
        "waits",
    ),
}
DEAD: dict[str, Row] = {
    Reason.REFUSED: Row(
        lambda f: f"dead since {at(f.finished_at)} {tries(f)}: {f.target} refused it",
        ("resend", "dead_group", "skip", "send_as_new", "resolve"),
        counts="is dead",
    ),
    Reason.EXHAUSTED: Row(
        lambda f: f"dead since {at(f.finished_at)}: {exhausted(f)}",
        ("resend", "dead_group", "skip", "send_as_new", "resolve"),
        counts="is dead",
    ),
    Reason.POISON: Row(
        lambda f: f"dead since {at(f.finished_at)}: {poisoned(f)}",
        ("see_message", "resend", "dead_group", "skip", "send_as_new", "resolve"),
        counts="is dead",
    ),
    Reason.ADDRESS: Row(
        lambda f: f"dead since {at(f.finished_at)}: the address of {f.target} is not allowed",
        ("see_endpoint", "resend", "dead_group", "skip", "send_as_new", "resolve"),
        counts="is dead",
    ),
    Reason.TRANSFORM: Row(
        lambda f: f"dead since {at(f.finished_at)}: it could not be made into what {f.target} takes",
        ("see_endpoint", "resend", "dead_group", "skip", "send_as_new", "resolve"),
        counts="is dead",
    ),
}
SKIPPED: dict[str, Row] = {
    Reason.DISABLED: Row(
        lambda f: f"skipped {at(f.finished_at)}, not sent: {disabled(f)}",
        ("enable", "resend"),
        lambda f: "it is sent only if somebody sends it again",
        "was skipped",
        (DISABLED,),
    ),
    Reason.FILTERED: Row(
        lambda f: f"skipped {at(f.finished_at)}, not sent: a filter on its way left it out",
        ("resend",),
        counts="was skipped",
    ),
    Reason.RETIRED: Row(
        lambda f: f"{f.state} {at(f.finished_at)}, not sent: {f.system} was retired{by_whom(f)}",
        ("see_system",),
        counts="was skipped",
        explains=(RETIRED,),
    ),
}
ENDED_WELL = Row(
    lambda f: f"delivered {at(f.finished_at)} {tries(f)}, {acknowledged(f)}" + (f"; {f.error}" if f.error else ""),
    ("see_message", "resend"),
)
ROWS: dict[str, dict[str, Row]] = {
    State.PENDING: PENDING,
    State.SENDING: dict.fromkeys(
        Reason.values,
        Row(
            leased,
            ("see_message",),
            lambda f: f"{f.system if f.is_fetched else 'its worker'} holds it until {at(f.lease_until)}",
        ),
    ),
    State.DELIVERED: dict.fromkeys(Reason.values, ENDED_WELL),
    State.DEAD: DEAD,
    State.EXPIRED: dict.fromkeys(
        Reason.values,
        Row(lambda f: f"expired {at(f.finished_at)} {tries(f)}: {lifetime(f)}", ("resend",), counts="expired"),
    ),
    State.CANCELLED: {
        Reason.OPERATOR: Row(
            lambda f: f"cancelled {at(f.finished_at)} by {f.by or 'an operator'}, {tries(f)}",
            ("resend",),
            counts="was cancelled",
        ),
        Reason.RETIRED: Row(
            lambda f: f"cancelled {at(f.finished_at)}, {tries(f)}: {f.system} was retired{by_whom(f)}",
            ("see_system",),
            counts="was cancelled",
        ),
    },
    State.SKIPPED: SKIPPED,
}
OTHER = Row(
    lambda f: f"{f.state} ({f.reason.replace('_', ' ')}) since {at(f.finished_at or f.created_at)}", ("see_message",)
)


def row_of(facts: Facts) -> Row:
    """Return the row of the table that a delivery's state and reason stand in."""
    return ROWS.get(facts.state, {}).get(facts.reason, OTHER)
