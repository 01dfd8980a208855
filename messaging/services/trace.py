"""The trace of a key: every hop that shares it across systems, in order of time, with the gaps named.

What the key itself leads to comes first. From there the correlation ids are followed
both ways, a few levels deep, and from an id also the business keys, unless one is
shared by too many. All of it is bounded: so many probes of an index, so many hops.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.conf import settings

from endpoints.access.principal import Principal
from endpoints.edge import display
from messaging import store
from messaging.models import Delivery, Message, MessageType, SearchKey, State
from messaging.services import finding
from messaging.services.why import brief
from messaging.services.why.asked import unknown
from messaging.services.why.marks import at, quoted
from messaging.walks import said_correlation

SIZE = 50  # messages a page
MOST_LINKED = 50  # messages that are followed to, beside those
MOST_PROBES = 40
LEVELS = 3
TOO_COMMON = 20  # a business key that more messages than this share tells nothing of this one
KEYED = frozenset({"search key", "ordering key"})


@dataclass(frozen=True, slots=True)
class Step:
    """One delivery of a hop; `marked` is its short why, with times between marks."""

    delivery: Delivery
    marked: str


@dataclass(frozen=True, slots=True)
class Hop:
    """One message on its way through the systems, and what came of it."""

    message: Message
    found_by: list[str]
    steps: list[Step]
    marked: str
    gaps: list[str] = field(default_factory=list)

    @property
    def tone(self) -> str:
        """The tone of the worst that became of it."""
        tones = {display.TONES.get(step.delivery.state, "muted") for step in self.steps}
        return next((tone for tone in ("bad", "wait", "info", "ok") if tone in tones), "wait" if self.gaps else "muted")


@dataclass(frozen=True, slots=True)
class Trace:
    """Hops in order of time; `gaps` are what is missing at the end, `before` where older ones go on."""

    query: str
    hops: list[Hop]
    marked: str  # the whole in one line
    gaps: list[str]
    hidden: int  # hops of other teams
    kept_since: datetime | None
    keys: list[tuple[str, str]]  # business keys of these messages that were not followed
    before: int | None = None


def trace(query: str, principal: Principal, now: datetime, before: int | None = None, size: int = SIZE) -> Trace:
    """Return the newest hops known as `query`, of what the principal may see; older than `before` if given."""
    text = query.strip()
    places = finding.places(text, before, size)
    seeds = finding.messages(places.kinds, principal)
    kept = finding.kept_since()
    if not seeds:
        last = min(places.kinds) if places.more else None
        return Trace(text, [], "" if before or last else unknown(text), [], 0, kept, [], last)
    kinds = {position: sorted(found) for position, found in places.kinds.items()}
    is_keyed = any(KEYED & found for found in places.kinds.values())
    linked = _Links(principal, kinds, follow_keys=not is_keyed).follow(seeds)
    messages = sorted([*seeds, *linked], key=lambda message: message.pk)
    hops = [_hop(message, text, kinds.get(message.pk, []), now) for message in messages]
    return Trace(
        text,
        hops,
        _summary(text, messages),
        [] if before else _silent(messages, principal),
        _hidden(kinds, messages, principal),
        kept,
        _other_keys(text, messages),
        min(places.kinds) if places.more else None,
    )


class _Links:
    """Follows what messages share, level by level, until nothing new comes or it is enough."""

    def __init__(self, principal: Principal, kinds: dict[int, list[str]], *, follow_keys: bool) -> None:
        self._principal, self._kinds, self._follow_keys = principal, kinds, follow_keys
        self._asked: set[tuple[str, ...]] = set()

    def follow(self, seeds: list[Message]) -> list[Message]:
        found: list[Message] = []
        frontier = seeds
        for _ in range(LEVELS):
            fresh = self._next(frontier, MOST_LINKED - len(found))
            if not fresh:
                break
            frontier = finding.messages(fresh, self._principal)
            found += frontier
        return found

    def _next(self, messages: Iterable[Message], room: int) -> list[int]:
        wanted: dict[str, dict[str, str]] = defaultdict(dict)  # by the field: value, and how to say it
        for name, value, kind in self._links(messages):
            if (name, value) not in self._asked and len(self._asked) < MOST_PROBES:
                self._asked.add((name, value))
                wanted[name][value] = kind
        fresh: list[int] = []
        for name, kinds in wanted.items():
            for position, value in _positions(name, list(kinds)):
                if position not in self._kinds and len(fresh) < room:
                    fresh.append(position)
                    self._kinds[position] = [kinds[value]]
        return fresh

    def _links(self, messages: Iterable[Message]) -> Iterable[tuple[str, str, str]]:
        for message in messages:
            if message.correlation_id:
                yield "correlation_id", message.correlation_id, f"correlation id {message.correlation_id}"
                yield "message_id", message.correlation_id, f"answered by {message.message_id}"
            yield "correlation_id", message.message_id, f"answers {message.message_id}"
            for name, value in message.search_keys.items() if self._follow_keys else ():
                yield f"key:{name}", value, f"{name}={value}"


def _positions(name: str, values: list[str]) -> list[tuple[int, str]]:
    """Return (position, value) of messages that share one of these; of a business key that is too common, none."""
    if name.startswith("key:"):
        return [pair for value in values for pair in _of_key(name.removeprefix("key:"), value)]
    if name == "message_id":  # each has one of a source at most
        return list(Message.objects.filter(message_id__in=values).values_list("position", name)[:MOST_LINKED])
    together = said_correlation(values).order_by().values_list("position", name)[: MOST_LINKED + 1]
    with store.along_indexes():
        found = list(together)
    if len(found) <= MOST_LINKED:
        return found
    # One of them leads to very many, and may hide the others: the newest of each.
    each = [said_correlation([value]).order_by("-position").values_list("position", name) for value in values]
    return [pair for rows in each for pair in rows[:MOST_LINKED]]


def _of_key(name: str, value: str) -> list[tuple[int, str]]:
    rows = SearchKey.objects.filter(value=value, name=name).order_by("-message").values_list("message_id", flat=True)
    found = list(rows[: TOO_COMMON + 1])
    return [] if len(found) > TOO_COMMON else [(position, value) for position in found]


def _hop(message: Any, text: str, found_by: list[str], now: datetime) -> Hop:
    gaps = []
    if message.is_removed:
        days = settings.ENV.keep_bodies_days
        gaps.append(f"{message.source.slug}'s message is older than retention: bodies removed after {days} days")
    if message.unrouted:
        gaps.append("it matched no target: nobody was sent it")
    kind = message.event_type or message.message_type
    verb = "answered" if message.message_type == MessageType.RESPONSE else "sent"
    said = f"{message.source.slug} {verb} {kind} {at(message.created_at)}"
    named = [f"{name}={value}" for name, value in message.search_keys.items() if text in (value, f"{name}={value}")]
    shown = [other for kind in found_by for other in (named if kind == "search key" and named else [kind])]
    return Hop(message, shown, [Step(delivery, brief(delivery, now)) for delivery in message.seen], said, gaps)


def _summary(text: str, messages: list[Any]) -> str:
    deliveries = [delivery for message in messages for delivery in message.seen]
    systems = {message.source.slug for message in messages} | {delivery.system.slug for delivery in deliveries}
    missing = sum(delivery.state != State.DELIVERED for delivery in deliveries)
    arrived = f"{missing} of {len(deliveries)} deliveries not delivered" if missing else "all of it delivered"
    if not deliveries:
        arrived = "nothing was owed to anybody"
    return f"{quoted(text)}: {_of(len(messages), 'message')} over {_of(len(systems), 'system')}, {arrived}"


def _of(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _silent(messages: list[Any], principal: Principal) -> list[str]:
    """Name each system that was sent something here, and sent nothing on since: of those that send at all."""
    sent_to: dict[int, Delivery] = {}
    for message in messages:
        for delivery in message.seen:
            if delivery.state == State.DELIVERED and principal.sees_team(delivery.system.owner_id):
                sent_to[delivery.system_id] = delivery
    gaps = []
    for system_id, delivery in sent_to.items():
        later = any(message.source_id == system_id and message.pk > delivery.message_id for message in messages)
        if not later and Message.objects.filter(source=system_id).exists():
            slug = delivery.system.slug
            gaps.append(f"{slug} was sent it {at(delivery.finished_at)}, nothing came from {slug} since")
    return gaps


def _hidden(kinds: dict[int, list[str]], messages: list[Any], principal: Principal) -> int:
    """Return how many hops are other teams': messages that were found, and deliveries of those that are shown."""
    if principal.team_ids is None:
        return 0
    shown = [message.pk for message in messages]
    deliveries = Delivery.objects.filter(message__in=shown).order_by()[: finding.MOST_DELIVERIES].count()
    return len(kinds) - len(shown) + max(0, deliveries - sum(len(message.seen) for message in messages))


def _other_keys(text: str, messages: list[Message]) -> list[tuple[str, str]]:
    found = {(name, value) for message in messages for name, value in message.search_keys.items()}
    return sorted(pair for pair in found if text not in (pair[1], "=".join(pair), ":".join(pair)))[:20]
