"""The one sentence: is anything undelivered, since when, and why? Pure, so every case is a test."""

from dataclasses import dataclass
from datetime import datetime

from endpoints.edge.display import span
from endpoints.models import EmergencyStop
from messaging.models import Reason, State
from messaging.services.overview import CAP, Oldest, Overview

# What a reason means, said of the target; `{error}` is what its last attempt ended with.
WHY = {
    Reason.NEW: "nothing has picked it up yet",
    Reason.RETRYING: "the last try failed: {error}",
    Reason.PAUSED: "it is paused",
    Reason.MAINTENANCE: "it is under maintenance",
    Reason.BREAKER: "it keeps failing ({error}), so sends are held back",
    Reason.THROTTLED: "it asked us to slow down",
    Reason.RATE_LIMITED: "its rate limit is reached",
    Reason.BLOCKED: "an earlier message of the same key has not gone through",
    Reason.NO_CLIENT: "no client is connected",
    Reason.REFUSED: "it refused the message ({error})",
    Reason.EXHAUSTED: "every try failed, the last so: {error}",
    Reason.POISON: "sending it took the worker down three times",
    Reason.ADDRESS: "its address is not allowed",
    Reason.TRANSFORM: "the message could not be transformed",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """`<lead> since <since> (<age>): <tail>`, or `lead` alone; `tone` is ok, wait, bad or muted.

    `detail` is a second, smaller line; `position` the message to look at; `command` what to type next.
    """

    tone: str
    lead: str
    since: datetime | None = None
    age: str = ""
    tail: str = ""
    detail: str = ""
    position: int | None = None
    command: str = ""

    @property
    def text(self) -> str:
        """The sentence as plain text, in UTC."""
        return f"{self.lead} since {self.since:%H:%M} UTC ({self.age}): {self.tail}" if self.since else self.lead


def answer(seen: Overview) -> Answer:
    """Say in one sentence whether anything is undelivered, since when, and why."""
    waiting = sum(row.count for row in seen.backlog if row.is_trouble and row.state == State.PENDING)
    dead = seen.total(State.DEAD)
    if seen.stop:
        return _stopped(seen, seen.stop)
    if seen.oldest_waiting and waiting:
        return _waiting(seen, seen.oldest_waiting, waiting, dead)
    if seen.oldest_dead and dead:
        return _dead(seen, seen.oldest_dead, dead)
    if not seen.systems:
        return Answer(
            "muted",
            "Nothing is registered yet.",
            detail="Register a system and an endpoint, then send the first message.",
            command="controlplane up --example",
        )
    if not seen.accepted:
        return Answer(
            "ok",
            "All delivered. No messages in the last hour.",
            command='controlplane send SOURCE TARGET --payload \'{"hello": "world"}\'',
        )
    return Answer("ok", f"All delivered. {seen.accepted:,} {_messages(seen.accepted)} in the last hour.")


def why(oldest: Oldest) -> str:
    """Say what stopped this delivery, of its target."""
    text = WHY.get(Reason(oldest.reason), oldest.reason)
    return text.format(error=oldest.error or "an error")


def counted(count: int) -> str:
    """Return a count for reading; at the cap it says that there are more."""
    return f"{CAP:,}+" if count >= CAP else f"{count:,}"


def _stopped(seen: Overview, stop: EmergencyStop) -> Answer:
    waiting = seen.total(State.PENDING)
    return Answer(
        "bad",
        "Everything is paused",
        stop.since,
        span((seen.now - stop.since).total_seconds()),
        f"by {stop.by}{f': {stop.reason}' if stop.reason else ''}.",
        detail=f"{counted(waiting)} {'delivery waits' if waiting == 1 else 'deliveries wait'}.",
        command="controlplane resume --all",
    )


def _waiting(seen: Overview, oldest: Oldest, waiting: int, dead: int) -> Answer:
    age = span((seen.now - oldest.since).total_seconds())
    subject = "1 delivery is waiting" if waiting == 1 else f"{counted(waiting)} deliveries are waiting, the oldest"
    stuck = oldest.reason == Reason.NEW and not seen.is_sent_by("deliver")
    cause = "no deliver process is running" if stuck else f"{oldest.target}: {why(oldest)}"
    return Answer(
        "bad" if stuck else "wait",
        subject,
        oldest.since,
        age,
        f"{cause}.",
        detail=f"{counted(dead)} more {'is' if dead == 1 else 'are'} dead." if dead else "",
        position=oldest.position,
        command="controlplane up" if stuck else "",
    )


def _dead(seen: Overview, oldest: Oldest, dead: int) -> Answer:
    age = span((seen.now - oldest.since).total_seconds())
    subject = "1 delivery is dead" if dead == 1 else f"{counted(dead)} deliveries are dead, the oldest"
    return Answer(
        "bad",
        subject,
        oldest.since,
        age,
        f"{oldest.target}: {why(oldest)}.",
        detail="Nothing else is waiting.",
        position=oldest.position,
    )


def _messages(count: int) -> str:
    return "message" if count == 1 else "messages"
