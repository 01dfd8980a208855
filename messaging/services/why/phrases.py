"""Parts of the sentence, each a pure function of what is known."""

from endpoints.edge.display import span
from messaging.models import State
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
from messaging.services.why.marks import at, quoted, times

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


def answers(facts: Facts) -> str:
    """Say what the receiver answered, how often, and its last words."""
    ends = [_end(end, facts) for end in facts.tries.ends[:2]]
    if not ends:
        return ""
    said = " and ".join(ends)
    more = sum(end.times for end in facts.tries.ends[2:])
    said += f" and otherwise {times(more)}" if more else ""
    last = facts.tries.last_said or facts.error
    return f"{facts.system}: {said}" + (f", last {quoted(last)}" if last else "")


def _end(end: Answered, facts: Facts) -> str:
    count = times(end.times)
    if facts.is_fetched and end.error_class == "lost":
        return f"it fetched it and did not acknowledge it in time {count}"
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
        RETIRED: f"{facts.system} is retired{since}, and what waits for it is being cancelled",
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


def next_of_head(facts: Facts) -> str:
    head = facts.behind
    if head is None:
        return "it goes next"
    if head.state == State.DEAD:
        return "it moves on when that one is sent again or cancelled"
    if head.state == State.SENDING:
        return "that one is being sent now"
    return f"that one is tried next {at(head.due_at)}"


def due(facts: Facts) -> str:
    """Say when it is tried next; what holds it now comes first."""
    if hold := facts.hold(STOP, SYSTEM, MAINTENANCE, INTERFACE, BREAKER):
        return _ends(hold)
    if facts.hold(NO_ENDPOINT):
        return "it goes when an endpoint is registered"
    if facts.is_fetched and facts.due_at <= facts.now:
        return f"it waits for {facts.system} to fetch it, which {asked(facts)}"
    if facts.due_at <= facts.now:
        return "it is due now"
    return f"next try {at(facts.due_at)} (in {span((facts.due_at - facts.now).total_seconds())})"


def asked(facts: Facts) -> str:
    """Say when the receiver last came for what is here."""
    if facts.asked_at is None:
        return "has never asked for anything yet"
    return f"last asked {span(max(0.0, (facts.now - facts.asked_at).total_seconds()))} ago"


def leased(facts: Facts) -> str:
    """Say who has it now, and for how long."""
    tried = f"try {facts.tries.spent + facts.tries.unspent + 1}; accepted {at(facts.created_at)}"
    return f"fetched and not yet acknowledged, {tried}" if facts.is_fetched else f"being sent now, {tried}"


def poisoned(facts: Facts) -> str:
    if facts.is_fetched:
        return f"whenever {facts.system} fetched it, its lease ran out, so it is handed out no more"
    return "each worker that sent it was lost, so it is sent no more"


def held(facts: Facts, *kinds: str) -> str:
    hold = facts.hold(*kinds)
    if hold is None and not facts.is_brief:
        return f"{facts.target} was held until a moment ago"
    return said_of(hold or Hold(kinds[-1]), facts)


def waiting(facts: Facts) -> str:
    since = facts.by_at if facts.by and facts.by_at else facts.created_at
    again = f", sent again by {facts.by}," if facts.by else ""
    return f"waiting{again} since {at(since)}"


def counted(others: Others | None, verb: str) -> str:
    if others is None:
        return ""
    if not others.count:
        return f"no other {verb} for the same reason"
    one = others.count == 1 and not others.is_least
    noun = "1 other" if one else f"{others.text} others"
    return f"{noun} {verb if one else PLURAL.get(verb, verb)} for the same reason"


PLURAL = {"waits": "wait", "was skipped": "were skipped", "was cancelled": "were cancelled", "is dead": "are dead"}


def owner(owner: Owner) -> str:
    if not owner.system:
        return ""
    if not owner.is_seen:
        return f"owner of {owner.system}: {owner.team or 'another team'}"
    parts = [f"owner of {owner.system}: {owner.team or 'nobody'}"]
    parts += [f"contact {owner.contact}"] if owner.contact else []
    parts += [f"runbook {owner.runbook_url}"] if owner.runbook_url else []
    return ", ".join(parts)


def tries(facts: Facts) -> str:
    spent = facts.tries.spent
    return f"after {spent} {'try' if spent == 1 else 'tries'}" if spent else "without a try"


def removed(facts: Facts | MessageFacts) -> str:
    if not facts.is_removed:
        return ""
    return f"its body was removed by retention (bodies are kept {facts.kept_bodies_days} days)"


def by_whom(facts: Facts) -> str:
    """Say who took the receiver out of use, and when."""
    return f" by {facts.by} {at(facts.by_at)}" if facts.by else ""


def rate(facts: Facts) -> str:
    return f" ({facts.rate_per_s:g} a second)" if facts.rate_per_s else ""


def exhausted(facts: Facts) -> str:
    if facts.throttled_since or facts.error_class == "throttled":
        return f"{facts.target} asked us to slow down for too long"
    spent = facts.tries.spent
    return "its only try failed" if spent == 1 else f"every one of {spent} tries failed"


def disabled(facts: Facts) -> str:
    hold = facts.hold(DISABLED)
    return said_of(hold, facts) if hold else f"{facts.target} was disabled then"


def acknowledged(facts: Facts) -> str:
    words = {"application": "acknowledged by its application", "transport": "acknowledged by its transport"}
    said = words.get(facts.ack_level, "written, and not acknowledged")
    took = f" in {facts.tries.took_ms:.0f} ms" if facts.tries.took_ms is not None else ""
    return f"{said}{took}"


def lifetime(facts: Facts) -> str:
    lived = f"its time to live of {span(facts.ttl_s)}" if facts.ttl_s is not None else "its time to live"
    return f"{lived} was over before it could be sent"
