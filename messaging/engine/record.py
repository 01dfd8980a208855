"""Writing down what the engine did, and leasing what it is to do: a batch a transaction, all of it sync."""

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID

import structlog
from django.db import DatabaseError, DataError, IntegrityError, transaction

from endpoints import services as registry
from endpoints.errors import ControlPlaneError
from endpoints.ids import new_id
from endpoints.models import Breaker, Endpoint
from messaging import store
from messaging.conf import GONE
from messaging.engine import at_once, fencing, judging
from messaging.engine.burial import bury_finished
from messaging.engine.counting import counts
from messaging.engine.judging import Tally
from messaging.engine.responses import ENGINE, Response, store_responses
from messaging.engine.sharing import Sharing, Target
from messaging.store import Claim, Finish

log = structlog.get_logger(__name__)

# What the database, or the way there, will not take of what a receiver said.
UNSTORABLE = (DataError, IntegrityError, UnicodeError, TypeError)
SHARING = Sharing()
Found = TypeVar("Found")


@dataclass(slots=True)
class Ended:
    """One claim's end as the worker hands it over."""

    finish: Finish
    response: Response | None = None
    gone: UUID | None = None  # the endpoint that said it is gone for good
    trial: UUID | None = None  # the endpoint whose open breaker let this one be tried


@dataclass(slots=True)
class Wanted:
    """What a turn may claim."""

    rooms: dict[tuple[int, str], int] = field(default_factory=dict)  # how much for which interface
    with_suspect: bool = False
    protocols: tuple[str, ...] = ()  # of suspects only those that these can send
    trials: dict[UUID, tuple[tuple[int, str], float]] = field(default_factory=dict)  # endpoint: interface, timeout
    # Where clients must be there to get it: {interface: {recipient: how many more its clients take}}.
    credits: dict[tuple[int, str], dict[str, int]] | None = None
    # {interface: how much of it all processes together may hold}, where parts are not divided but counted.
    caps: dict[tuple[int, str], int] = field(default_factory=dict)
    only_next: bool = False  # claim only where an end let the next of its ordering key go,
    released: list[Target] = field(default_factory=list)  # in this turn, or in one before: these


@dataclass(slots=True)
class Turned:
    """What a turn brought; `ahead` is how far the database's clock is ahead of ours, None when it was not read."""

    claims: list[Claim]
    breakers: list[Breaker] = field(default_factory=list)
    ahead: timedelta | None = None
    released: list[Target] = field(default_factory=list)  # what may go now, and was not looked at


def turn(ended: Sequence[Ended], wanted: Wanted, lease_s: float, tally: Tally, dirty: Collection[UUID]) -> Turned:
    """Write down what ended and lease what is due, in one transaction: on SQLite every commit waits for the disk.

    On PostgreSQL the worker calls it for the one and for the other, side by side. A claim alone need
    not wait for the disk; one with an ordering key does, or after a power cut the next of its key
    could overtake what is still on its way here.

    `wanted.rooms` is updated to what is left. `tally` and `dirty` are what the breakers need to be told.
    """
    if not (wanted.rooms or wanted.trials) and at_once.can(ended, dirty):
        with suppress(*UNSTORABLE):  # which of them it was comes out below
            at_once.write(ended, tally)
            return Turned([])
    plain: list[Claim] = []
    only_claims = not (ended or dirty or wanted.trials)
    if store.is_postgresql() and only_claims and not wanted.only_next and wanted.credits is None:
        plain, is_all = _claim_at_once(wanted, lease_s)
        if is_all:
            return Turned(plain)
    try:
        with transaction.atomic():
            # Both clocks are read here: what the call waited for before must not count as a difference.
            now = store.now(commit_soon=only_claims)
            ahead = now - datetime.now(UTC)
            judged, breakers = judging.judge(ended, dirty, tally, now)
            kept, released = _finish(judged, now) if judged else ([], [])
            tried, trying = (
                judging.take_trials(wanted.trials, lease_s, now, wanted.credits) if wanted.trials else ([], [])
            )
            targets, has_suspect = _distinct([*wanted.released, *released], now), False
            if wanted.rooms and not wanted.only_next:
                targets, has_suspect = store.due(now, protocols=wanted.protocols)
            left = [target for target in targets if target[:2] not in wanted.rooms] if wanted.only_next else []
            claims = _claim(targets, wanted, lease_s, now, with_suspect=wanted.with_suspect and has_suspect)
            if only_claims and any(claim.ordering_key for claim in claims):
                store.commit_durably()
        judging.settle(kept, breakers, tally, now)
        turned = Turned([*tried, *claims], [*breakers, *trying], ahead, left)
    except UNSTORABLE:
        log.exception("turn_refused", ended=len(ended))
        kept, turned = _turn_alone(ended, tally, dirty)
    except DatabaseError as exc:
        if not plain:
            raise
        log.warning("claims_failed", error=str(exc))
        kept, turned = [], Turned([])
    turned.claims += plain  # whatever became of the rest: they are leased
    for endpoint_id in {item.gone for item in kept if item.gone}:
        _pause_gone(endpoint_id)
    return turned


def _claim_at_once(wanted: Wanted, lease_s: float) -> tuple[list[Claim], bool]:
    """Lease what one statement can, as `_claim` does; return it, and whether that was all there is to lease."""
    taken = store.claim_at_once(wanted.rooms, protocols=wanted.protocols, token=new_id(), lease_s=lease_s)
    for claim in taken.claims:
        wanted.rooms[claim.system_id, claim.interface] -= 1
    claims = sorted(taken.claims, key=lambda claim: claim.position)
    return claims, not (taken.left_some or (wanted.with_suspect and taken.has_suspect))


def write(ended: Sequence[Ended]) -> set[UUID]:
    """Write down ends that no breaker is to judge; return those that were still ours to end."""
    try:
        with transaction.atomic():
            kept, _ = _finish(ended, store.now())
    except UNSTORABLE:
        log.exception("ends_refused", ended=len(ended))
        kept = [item for item in ended if _alone(item, lambda said: _finish([said], store.now())[0])]
    return {item.finish.id for item in kept}


def _turn_alone(ended: Sequence[Ended], tally: Tally, dirty: Collection[UUID]) -> tuple[list[Ended], Turned]:
    """Write down one after the other what the database would not take together; each is judged as in the batch."""
    kept, turned = [], Turned([])
    for item in ended:
        found = _alone(item, lambda said: _judged(said, tally, dirty))
        if found is not None:
            mine, breakers, now = found
            judging.settle(mine, breakers, tally, now)
            kept += mine
            turned.breakers += breakers
    return kept, turned


def _judged(item: Ended, tally: Tally, dirty: Collection[UUID]) -> tuple[list[Ended], list[Breaker], datetime]:
    """Finish one; return it judged if it was ours, the breakers as they are now, and when that was."""
    now = store.now()
    judged, breakers = judging.judge([item], dirty, tally, now)
    return _finish(judged, now)[0], breakers, now


def _alone(item: Ended, finish: Callable[[Ended], Found]) -> Found | None:
    """Finish one of a batch the database would not take; at worst without what the receiver said."""
    for said in (item, _unsaid(item)):
        try:
            with transaction.atomic():
                return finish(said)
        except UNSTORABLE:
            log.exception("finish_refused", delivery=str(item.finish.id))
    return None


def _unsaid(item: Ended) -> Ended:
    finish = replace(item.finish, error="what the receiver answered could not be stored")
    if finish.attempt:
        finish.attempt = {
            **finish.attempt,
            "error": finish.error,
            "status_code": None,
            "phases_ms": "{}",
            "request": "{}",
            "response_headers": "{}",
            "response_body": None,
        }
    return Ended(finish, gone=item.gone, trial=item.trial)


def _finish(ended: Sequence[Ended], now: datetime) -> tuple[list[Ended], list[Target]]:
    """Finish what is still ours, with attempts, counts and responses; return what was, and what may go after it."""
    if any(item.response for item in ended):
        store.lock_intake()  # before the lines, as intake does
    store.lock_lines({item.finish.line for item in ended if item.finish.line}, alone=False)
    single = fencing.one_each(ended)
    ours = store.finish([item.finish for item in single], now)
    released = store.release_next({line for line in ours.values() if line}, now)
    kept = [item for item in single if item.finish.id in ours]
    store.add_rollups(counts([item.finish for item in kept], now))
    bury_finished(item.finish for item in kept)
    if responses := [item.response for item in kept if item.response]:
        store_responses(responses)
    if len(kept) < len(ended):
        log.warning("stale_finishes_refused", count=len(ended) - len(kept))
    return kept, released


def _distinct(released: Sequence[Target], now: datetime) -> list[Target]:
    """Return the targets of what was released and is due, each once, higher priorities first."""
    found = {target[:3]: target for target in released if target[3] <= now}
    return sorted(found.values(), key=lambda target: -target[2])


def _claim(
    targets: Sequence[Target], wanted: Wanted, lease_s: float, now: datetime, *, with_suspect: bool
) -> list[Claim]:
    """Lease what is due, each interface on its own: one with a million waiting hides no other.

    Higher priorities come first, then in order of position.
    """
    token, rooms = new_id(), wanted.rooms
    claims: list[Claim] = []
    waiting: dict[tuple[int, str], list[Target]] = defaultdict(list)
    for target in targets:
        waiting[target[:2]].append(target)
    for interface in sorted(waiting.keys() & rooms.keys()):
        free = _free(interface, wanted)
        for target, most in SHARING.split(waiting[interface], rooms[interface]):
            limit = min(most, rooms[interface], free)
            if limit > 0:
                found = _claim_some(target, wanted, with_suspect, token, now, lease_s, limit)
                with_suspect = with_suspect and not any(claim.losses for claim in found)
                rooms[interface] -= len(found)
                free -= len(found)
                claims += found
    if with_suspect and wanted.credits is None:
        claims += store.claim_suspect(protocols=wanted.protocols, token=token, now=now, lease_s=lease_s)
    return sorted(claims, key=lambda claim: (-claim.priority, claim.position))


def _free(interface: tuple[int, str], wanted: Wanted) -> int:
    """Return how much more of an interface all processes together may hold; nobody else leases any until we commit."""
    if interface not in wanted.caps:
        return wanted.rooms[interface]
    store.lock_inbox(interface)
    return wanted.caps[interface] - store.count_leased(interface)


def _claim_some(
    target: Target, wanted: Wanted, with_suspect: bool, token: UUID, now: datetime, lease_s: float, limit: int
) -> list[Claim]:
    if wanted.credits is None:
        return store.claim(target[:3], token=token, now=now, lease_s=lease_s, limit=limit)
    credits = wanted.credits[target[:2]]
    return store.claim_addressed(
        target[:3], credits, with_suspect=with_suspect, token=token, now=now, lease_s=lease_s, limit=limit
    )


def _pause_gone(endpoint_id: UUID) -> None:
    """Pause an endpoint that answered 410: the others wait or go to its siblings, instead of dying one by one."""
    try:
        endpoint = Endpoint.objects.filter(pk=endpoint_id).select_related("system").first()
        if endpoint is not None:
            registry.pause(endpoint, by=ENGINE, reason=GONE)
    except (ControlPlaneError, DatabaseError) as exc:  # what this turn claimed must go its way; the next 410 pauses it
        log.warning("pause_failed", endpoint=str(endpoint_id), error=str(exc))


def renew(tokens: Sequence[UUID], lease_s: float) -> int:
    """Hold on to what this process has claimed; return how much of it is still ours."""
    return store.renew(tokens, store.now() + timedelta(seconds=lease_s))


def release(claims: Sequence[Claim]) -> None:
    """Give back what was claimed and not tried."""
    by_token: dict[UUID, list[UUID]] = defaultdict(list)
    for claim in claims:
        by_token[claim.token].append(claim.id)
    for token, ids in by_token.items():
        store.release(ids, token)
    judging.give_up(claims)
