"""The sentence: a table with one row for each reason, and pure functions that fill it in.

Times stay times: they stand between marks in what is said, so that a page shows
them in the reader's zone and a terminal in UTC.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from endpoints.edge.display import span
from messaging.models import Reason, State
from messaging.services.why.facts import (
    BREAKER,
    DISABLED,
    INTERFACE,
    MAINTENANCE,
    NO_ENDPOINT,
    NO_PROCESS,
    RETIRED,
    STOP,
    SYSTEM,
    Answered,
    Behind,
    Facts,
    Hold,
    MessageFacts,
    Others,
    Owner,
)

MARK = "\x1f"
RECENT = timedelta(minutes=10)
SAID_LENGTH = 160
NUMBERS = ("three", "four", "five", "six", "seven", "eight", "nine", "ten")
COUNTED = ("no", "once", "twice", *(f"{number} times" for number in NUMBERS))

# How a try ended, said of the receiver.
ENDED = {
    "dns": "its name was not found {times}",
    "connect": "it could not be connected to {times}",
    "tls": "no TLS connection came about {times}",
    "timeout": "it did not answer in time {times}",
    "protocol": "it answered what we cannot read {times}",
    "auth": "it did not let us in {times}",
    "nack": "it refused {times}",
    "transform": "the message could not be transformed {times}",
    "blocked_address": "its address was refused {times}",
    "internal": "we failed {times}",
    "lost": "the worker that sent it was lost {times}",
    "cut": "we stopped before an answer came {times}",
}


def at(moment: datetime | None) -> str:
    """Return a time as it stands in what is said."""
    return "a moment ago" if moment is None else f"{MARK}{moment.astimezone(UTC).isoformat()}{MARK}"


def pieces(marked: str) -> list[str | datetime]:
    """Return texts and times in turn."""
    parts = marked.split(MARK)
    return [datetime.fromisoformat(part) if index % 2 else part for index, part in enumerate(parts)]


def plain(marked: str, now: datetime) -> str:
    """Return what is said as text, with times in UTC, the day only of another day."""
    return "".join(part if isinstance(part, str) else _clock(part, now) for part in pieces(marked))


def _clock(moment: datetime, now: datetime) -> str:
    today = now.astimezone(UTC).date() == moment.date()
    seconds = ":%S" if abs(now - moment) < RECENT else ""
    return moment.strftime(f"{'' if today else '%Y-%m-%d '}%H:%M{seconds} UTC")


def quoted(text: str) -> str:
    """Return what somebody else said: on one line, and no longer than a line."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return f"'{line[:SAID_LENGTH]}{'…' if len(line) > SAID_LENGTH else ''}'"


def times(count: int) -> str:
    return COUNTED[count] if count < len(COUNTED) else f"{count:,} times"


# --- parts of the sentence -----------------------------------------------------


def answers(facts: Facts) -> str:
    """Say what the receiver answered, how often, and its last words."""
    ends = [_end(end) for end in facts.tries.ends[:2]]
    if not ends:
        return ""
    said = " and ".join(ends)
    more = sum(end.times for end in facts.tries.ends[2:])
    said += f" and otherwise {times(more)}" if more else ""
    last = facts.tries.last_said or facts.error
    return f"{facts.system}: {said}" + (f", last {quoted(last)}" if last else "")


def _end(end: Answered) -> str:
    count = times(end.times)
    if end.status_code is not None:
        return f"it answered {end.status_code} {count}"
    return ENDED.get(end.error_class or end.outcome, "it failed {times}").format(times=count)


def said_of(hold: Hold, facts: Facts) -> str:
    """Say one hold: what, since when, by whom and why."""
    names = {STOP: "everything", SYSTEM: facts.system, INTERFACE: facts.target, MAINTENANCE: facts.system}
    since = f" since {at(hold.since)}" if hold.since else ""
    by = f" by {hold.by}" if hold.by else ""
    reason = f", {quoted(hold.reason)}" if hold.reason else ""
    phrases = {
        MAINTENANCE: f"{facts.system} is under maintenance{since}{by}{reason}",
        BREAKER: f"{facts.target} keeps failing, so sends are held back{since}{reason}",
        NO_ENDPOINT: f"{facts.target} has no endpoint to deliver to",
        DISABLED: f"{facts.target} is disabled{since}{by}",
        RETIRED: f"{facts.system} is retired",
        NO_PROCESS: "no deliver process is running",
    }
    return phrases.get(hold.kind) or f"{names[hold.kind]} is paused{since}{by}{reason}"


def _ends(hold: Hold) -> str:
    if hold.kind == BREAKER:
        return f"one delivery is tried next {at(hold.until)}" if hold.until else "one delivery is being tried now"
    return f"until {at(hold.until)}" if hold.until else "until somebody resumes it"


def behind(head: Behind | None, facts: Facts) -> str:
    """Say what a blocked one waits behind, and why that does not move."""
    if head is None:
        return f"behind an earlier one of key {quoted(facts.ordering_key)}"
    who = f"delivery {head.delivery}" if head.delivery else "a delivery of another team"
    how = head.reason if head.state == State.PENDING else head.state
    error = f", {quoted(head.error)}" if head.error else ""
    return f"behind {who} of key {quoted(facts.ordering_key)}, {how.replace('_', ' ')} since {at(head.since)}{error}"


def _next_of_head(facts: Facts) -> str:
    head = facts.behind
    if head is None:
        return "it goes next"
    if head.state == State.DEAD:
        return "it moves on when that one is sent again or cancelled"
    if head.state == State.SENDING:
        return "that one is being sent now"
    return f"that one is tried next {at(head.due_at)}"


def _due(facts: Facts) -> str:
    """Say when it is tried next; what holds it now comes first."""
    if hold := facts.hold(STOP, SYSTEM, MAINTENANCE, INTERFACE, BREAKER):
        return _ends(hold)
    if facts.hold(NO_ENDPOINT):
        return "it goes when an endpoint is registered"
    if facts.due_at <= facts.now:
        return "it is due now"
    return f"next try {at(facts.due_at)} (in {span((facts.due_at - facts.now).total_seconds())})"


def _held(facts: Facts, *kinds: str) -> str:
    hold = facts.hold(*kinds)
    if hold is None and not facts.is_brief:
        return f"{facts.target} was held until a moment ago"
    return said_of(hold or Hold(kinds[-1]), facts)


def _waiting(facts: Facts) -> str:
    since = facts.by_at if facts.by and facts.by_at else facts.created_at
    again = f", sent again by {facts.by}," if facts.by else ""
    return f"waiting{again} since {at(since)}"


def _count(others: Others | None, verb: str) -> str:
    if others is None:
        return ""
    if not others.count:
        return f"no other {verb} for the same reason" if verb.endswith("s") else "no other for the same reason"
    one = others.count == 1 and not others.is_least
    noun = "1 other" if one else f"{others.text} others"
    return f"{noun} {verb if one else PLURAL.get(verb, verb)} for the same reason"


PLURAL = {"waits": "wait", "was skipped": "were skipped", "was cancelled": "were cancelled", "is dead": "are dead"}


def _owner(owner: Owner) -> str:
    if not owner.system:
        return ""
    if not owner.is_seen:
        return f"owner of {owner.system}: {owner.team or 'another team'}"
    parts = [f"owner of {owner.system}: {owner.team or 'nobody'}"]
    parts += [f"contact {owner.contact}"] if owner.contact else []
    parts += [f"runbook {owner.runbook_url}"] if owner.runbook_url else []
    return ", ".join(parts)


def _tries(facts: Facts) -> str:
    spent = facts.tries.spent
    return f"after {spent} {'try' if spent == 1 else 'tries'}" if spent else "without a try"


def _removed(facts: Facts | MessageFacts) -> str:
    if not facts.is_removed:
        return ""
    return f"its body was removed by retention (bodies are kept {facts.kept_bodies_days} days)"


# --- one row a reason ----------------------------------------------------------

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
        lambda f: f"{_waiting(f)}, not tried yet",
        ("start", "register_endpoint", "cancel"),
        _due,
        "waits",
    ),
    Reason.RETRYING: Row(
        lambda f: f"{_waiting(f)}, tried {times(f.tries.spent + f.tries.unspent)} in vain",
        ("retry_now", "retry_all", "cancel"),
        _due,
        "waits",
    ),
    Reason.PAUSED: Row(
        lambda f: f"{_waiting(f)}: {_held(f, STOP, SYSTEM, INTERFACE)}",
        ("resume_all", "resume_system", "resume_interface", "cancel"),
        _due,
        "waits",
        (STOP, SYSTEM, INTERFACE),
    ),
    Reason.MAINTENANCE: Row(
        lambda f: f"{_waiting(f)}: {_held(f, MAINTENANCE)}", ("maintenance", "cancel"), _due, "waits", (MAINTENANCE,)
    ),
    Reason.BREAKER: Row(
        lambda f: f"{_waiting(f)}: {_held(f, BREAKER)}",
        ("see_endpoint", "pause_system", "retry_now", "cancel"),
        _due,
        "waits",
        (BREAKER,),
    ),
    Reason.THROTTLED: Row(
        lambda f: f"{_waiting(f)}: {f.target} asks us to slow down since {at(f.throttled_since)}",
        ("retry_now", "see_endpoint", "cancel"),
        _due,
        "waits",
    ),
    Reason.RATE_LIMITED: Row(
        lambda f: f"{_waiting(f)}: the rate of {f.target}{_rate(f)} is used up",
        ("see_endpoint", "cancel"),
        lambda f: _due(f) if f.holds else "it goes as soon as the rate allows",
        "waits",
    ),
    Reason.BLOCKED: Row(
        lambda f: f"{_waiting(f)} {behind(f.behind, f)}",
        ("why_head", "retry_head", "resend_head", "skip_head", "cancel"),
        _next_of_head,
        "waits",
    ),
    Reason.SCHEDULED: Row(
        lambda f: f"accepted {at(f.created_at)}, its sender wants it sent not before {at(f.due_at)}",
        ("cancel",),
        lambda f: _due(f),
        "waits",
    ),
    Reason.NO_CLIENT: Row(
        lambda f: f"{_waiting(f)}: no client of {f.target} is connected",
        ("see_system", "cancel"),
        lambda f: _due(f) if f.holds else "it goes as soon as one connects",
        "waits",
    ),
}
DEAD: dict[str, Row] = {
    Reason.REFUSED: Row(
        lambda f: f"dead since {at(f.finished_at)} {_tries(f)}: {f.target} refused it",
        ("resend", "dead_group", "skip", "resolve"),
        counts="is dead",
    ),
    Reason.EXHAUSTED: Row(
        lambda f: f"dead since {at(f.finished_at)}: {_exhausted(f)}",
        ("resend", "dead_group", "skip", "resolve"),
        counts="is dead",
    ),
    Reason.POISON: Row(
        lambda f: f"dead since {at(f.finished_at)}: each worker that sent it was lost, so it is sent no more",
        ("see_message", "resend", "dead_group", "skip", "resolve"),
        counts="is dead",
    ),
    Reason.ADDRESS: Row(
        lambda f: f"dead since {at(f.finished_at)}: the address of {f.target} is not allowed",
        ("see_endpoint", "resend", "dead_group", "skip", "resolve"),
        counts="is dead",
    ),
    Reason.TRANSFORM: Row(
        lambda f: f"dead since {at(f.finished_at)}: it could not be made into what {f.target} takes",
        ("see_endpoint", "resend", "dead_group", "skip", "resolve"),
        counts="is dead",
    ),
}
SKIPPED: dict[str, Row] = {
    Reason.DISABLED: Row(
        lambda f: f"skipped {at(f.finished_at)}, not sent: {_disabled(f)}",
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
        lambda f: f"skipped {at(f.finished_at)}, not sent: {f.system} was retired",
        ("see_system",),
        counts="was skipped",
        explains=(RETIRED,),
    ),
}
ENDED_WELL = Row(
    lambda f: f"delivered {at(f.finished_at)} {_tries(f)}, {_acknowledged(f)}",
    ("see_message", "resend"),
)
ROWS: dict[str, dict[str, Row]] = {
    State.PENDING: PENDING,
    State.SENDING: dict.fromkeys(
        Reason.values,
        Row(
            lambda f: f"being sent now, try {f.tries.spent + f.tries.unspent + 1}; accepted {at(f.created_at)}",
            ("see_message",),
            lambda f: f"its worker holds it until {at(f.lease_until)}",
        ),
    ),
    State.DELIVERED: dict.fromkeys(Reason.values, ENDED_WELL),
    State.DEAD: DEAD,
    State.EXPIRED: dict.fromkeys(
        Reason.values,
        Row(lambda f: f"expired {at(f.finished_at)} {_tries(f)}: {_lifetime(f)}", ("resend",), counts="expired"),
    ),
    State.CANCELLED: dict.fromkeys(
        Reason.values,
        Row(
            lambda f: f"cancelled {at(f.finished_at)} by {f.by or 'an operator'}, {_tries(f)}",
            ("resend",),
            counts="was cancelled",
        ),
    ),
    State.SKIPPED: SKIPPED,
}
OTHER = Row(
    lambda f: f"{f.state} ({f.reason.replace('_', ' ')}) since {at(f.finished_at or f.created_at)}", ("see_message",)
)


def _rate(facts: Facts) -> str:
    return f" ({facts.rate_per_s:g} a second)" if facts.rate_per_s else ""


def _exhausted(facts: Facts) -> str:
    if facts.throttled_since or facts.error_class == "throttled":
        return f"{facts.target} asked us to slow down for too long"
    spent = facts.tries.spent
    return f"every try of {spent} failed" if spent != 1 else "its only try failed"


def _disabled(facts: Facts) -> str:
    hold = facts.hold(DISABLED)
    return said_of(hold, facts) if hold else f"{facts.target} was disabled then"


def _acknowledged(facts: Facts) -> str:
    words = {"application": "acknowledged by its application", "transport": "acknowledged by its transport"}
    said = words.get(facts.ack_level, "written, and not acknowledged")
    took = f" in {facts.tries.took_ms:.0f} ms" if facts.tries.took_ms is not None else ""
    return f"{said}{took}"


def _lifetime(facts: Facts) -> str:
    lived = f"its time to live of {span(facts.ttl_s)}" if facts.ttl_s is not None else "its time to live"
    return f"{lived} was over before it could be sent"


def row_of(facts: Facts) -> Row:
    """Return the row of the table that a delivery's state and reason stand in."""
    return ROWS.get(facts.state, {}).get(facts.reason, OTHER)


def sentence(facts: Facts) -> str:
    """Return the whole paragraph, with times between marks."""
    row = row_of(facts)
    is_open = facts.state == State.PENDING
    holds = [said_of(hold, facts) for hold in facts.holds if hold.kind not in row.explains] if is_open else []
    parts = [
        f"{facts.source} -> {facts.target}, {row.what(facts)}",
        *(f"besides, {text}" for text in holds),
        answers(facts) if facts.state != State.DELIVERED else "",
        _count(facts.others, row.counts) if row.counts else "",
        _held_up(facts),
        f"resolved {at(facts.resolved_at)}" if facts.resolved_at else "",
        row.then(facts),
        f"it expires {at(facts.expires_at)}" if is_open and facts.expires_at else "",
        _removed(facts),
        _owner(facts.owner) if facts.state != State.DELIVERED else "",
    ]
    return _joined(parts)


def _held_up(facts: Facts) -> str:
    if facts.held_up is None or not facts.held_up.count:
        return ""
    one = facts.held_up.count == 1
    return f"{facts.held_up.text} of the same key {'waits' if one else 'wait'} behind it"


def short(facts: Facts) -> str:
    """Return one line: where it is and why, no more."""
    error = facts.error and facts.state not in (State.DELIVERED, State.CANCELLED, State.SKIPPED)
    last = f", last {quoted(facts.error)}" if error else ""
    return f"{facts.source} -> {facts.target}, {row_of(facts).what(facts)}{last}"


def since(facts: Facts) -> datetime:
    """Return since when it is in its state."""
    if facts.finished_at is not None:
        return facts.finished_at
    return facts.by_at if facts.by and facts.by_at else facts.created_at


# --- messages ------------------------------------------------------------------


def of_message(facts: MessageFacts) -> str:
    """Return the paragraph of a message that nothing is owed for."""
    return _joined(
        [
            f"{facts.source} -> nobody, {_unsent(facts)}",
            _unrouted_others(facts.others),
            _removed(facts),
            _owner(facts.owner),
        ]
    )


def _unsent(facts: MessageFacts) -> str:
    if facts.is_hidden:
        return f"accepted {at(facts.created_at)}: its deliveries are other teams'"
    if facts.is_unrouted:
        named = facts.event_type or facts.message_type
        return f"unrouted since {at(facts.created_at)}: no target was named and no route takes {quoted(named)}"
    return f"kept since {at(facts.created_at)}: it asked for no receiver, so nothing is owed"


def _unrouted_others(others: Others | None) -> str:
    if others is None or not others.count:
        return ""
    return f"{others.text} other{'s' if others.count != 1 else ''} of this sender matched no target either"


def _joined(parts: Iterable[str]) -> str:
    return "; ".join(part for part in parts if part) + "."
