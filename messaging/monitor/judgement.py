"""When an incident opens, goes on, resolves and comes back: pure, facts in, the course of an incident out.

A cause is there or it is over. An incident resolves once all of its causes have been over for
a settle time; one that breaks again shortly afterwards is the same incident that came back,
and from then on has to be well for longer each time. So what flaps is told of a few times, not
seven hundred.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

LONGEST_SETTLE_S = 3600.0
MOST_DOUBLINGS = 10
RETURN_SETTLE = 10.0  # settle times, for one that came back once
LONGEST_DETAIL = 300

Cause = dict[str, Any]  # as in Incident.causes: cause, since, until, detail, times


@dataclass(frozen=True, slots=True)
class Limits:
    """From when on something is an incident, and how long it settles."""

    late_s: float = 300.0
    dead: int = 100
    settle_s: float = 30.0
    reopen_s: float = 3600.0
    gather_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Trouble:
    """One cause that is there now, and since when."""

    cause: str  # breaker | late | dead | gone | dying | silent
    since: datetime
    detail: str


def follow(causes: list[Cause], troubles: Mapping[str, Trouble], frozen: Collection[str], now: datetime) -> list[Cause]:
    """Return the causes as they are now; each is listed once, however often it came and went.

    What is `frozen` cannot be seen at present, so that its absence says nothing.
    """
    found: dict[str, Cause] = {entry["cause"]: dict(entry) for entry in causes}
    for name, entry in found.items():
        if entry["until"] is None and name not in troubles and name not in frozen:
            entry["until"] = now.isoformat()
    for name, trouble in troubles.items():
        entry = found.setdefault(name, {"cause": name, "since": trouble.since.isoformat(), "until": None, "times": 1})
        if entry["until"] is not None:
            entry |= {"until": None, "times": entry["times"] + 1}
        entry["detail"] = trouble.detail[:LONGEST_DETAIL]
    return list(found.values())


def is_same(causes: list[Cause], others: list[Cause]) -> bool:
    """Say whether nothing came or went; how a lasting cause reads meanwhile is not worth a write."""
    shape = [(entry["cause"], entry["until"], entry["times"]) for entry in causes]
    return shape == [(entry["cause"], entry["until"], entry["times"]) for entry in others]


def settle_s(returns: int, limits: Limits) -> float:
    """Return for how long all must be well before the incident resolves: longer each time that it came back."""
    if returns == 0:
        return limits.settle_s
    longest = max(LONGEST_SETTLE_S, limits.settle_s)
    return min(longest, limits.settle_s * RETURN_SETTLE * 2.0 ** min(returns - 1, MOST_DOUBLINGS))


def well_since(causes: list[Cause]) -> datetime | None:
    """Return since when no cause is there any more, None while one is."""
    if any(entry["until"] is None for entry in causes):
        return None
    return max(datetime.fromisoformat(entry["until"]) for entry in causes)


def is_over(causes: list[Cause], returns: int, limits: Limits, now: datetime) -> bool:
    """Say whether the incident resolves now."""
    since = well_since(causes)
    return since is not None and now - since >= timedelta(seconds=settle_s(returns, limits))


def comes_back(resolved_at: datetime, limits: Limits, now: datetime) -> bool:
    """Say whether what breaks now is the incident that resolved then."""
    return now - resolved_at < timedelta(seconds=limits.reopen_s)


SAYS = {
    "breaker": "keeps failing",
    "late": "is behind",
    "dead": "loses messages",
    "gone": "says that it is gone for good",
    "dying": "keeps dying",
    "silent": "is gone",
}


def summary(label: str, causes: list[Cause]) -> str:
    """Return one sentence: what is broken, and how."""
    there = [entry for entry in causes if entry["until"] is None] or causes
    first = there[0]
    more = "".join(f"; it also {SAYS[entry['cause']]} ({entry['detail']})" for entry in there[1:])
    return f"{label} {SAYS[first['cause']]}: {first['detail']}{more}"[:500]
