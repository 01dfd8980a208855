"""Leasing deliveries to whoever fetches them: the order, the caps and the holds are those of the engine. Sync."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from django.db import DatabaseError, transaction

from endpoints.access import audit
from endpoints.access.principal import Principal
from endpoints.models import Endpoint, EndpointState, Inbox, System
from endpoints.transports.outcomes import Rule, compile_rules
from endpoints.transports.pull import lease_s
from messaging import store
from messaging.engine.attempt import emptied
from messaging.engine.record import Ended, write
from messaging.engine.sharing import Sharing, Target
from messaging.pulling.rights import new_lease
from messaging.store import Claim

log = structlog.get_logger(__name__)

Box = tuple[int, str]  # system id, interface
MOST_BYTES = 8 * 1024 * 1024  # of payloads in one answer; one message alone may be larger
BURST_S = 0.25  # so much of a rate that was not used is made up for
CLOCK_STEP_S = 0.001  # of SQLite's clock
SHARING = Sharing()
REMEMBER_S = 0.75
MOST_DOORS = 10_000
_doors: dict[Box, tuple["Door", float]] = {}
FOREVER = 1 << 30


def forget() -> None:
    """Read every door anew from now on."""
    _doors.clear()


@dataclass(frozen=True, slots=True)
class Door:
    """What of a pull endpoint fetching from it depends on."""

    id: UUID | None
    schedule_s: Sequence[float]
    rules: tuple[Rule, ...]
    lease_s: float
    max_in_flight: int
    rate_per_s: float | None
    next_at: datetime | None


@dataclass(frozen=True, slots=True)
class Wish:
    """Somebody asks for up to `most` deliveries."""

    by: Principal
    box: Box
    system: str
    owner_id: int | None
    most: int


@dataclass(frozen=True, slots=True)
class Parcel:
    """What somebody gets, theirs until `until`."""

    claims: Sequence[Claim] = ()
    until: datetime | None = None
    body: bytes = b'{"results":[]}'  # that says so


@dataclass(slots=True)
class Round:
    """What one inbox still gives in this transaction."""

    box: Box
    door: Door
    now: datetime
    room: int
    targets: Sequence[Target]
    given: int = 0
    emptied: list[Claim] = field(default_factory=list)

    def lease(self, wish: Wish, *, suspects_first: bool) -> list[Claim]:
        """Lease up to `wish.most`; one whose lease ran out before goes alone, in an answer of its own."""
        token, lasting = new_lease(wish.by, self.now), self.door.lease_s
        room = min(wish.most, self.room)
        found: list[Claim] = []
        if suspects_first:
            found = store.claim_suspect_of(self.box, token=token, now=self.now, lease_s=lasting)
        if not found:
            found = self._next(token, room)
        if not found and not suspects_first:
            found = store.claim_suspect_of(self.box, token=token, now=self.now, lease_s=lasting)
        found = self._filled(found, token)
        self.room -= len(found)
        self.given += len(found)
        return found

    def _next(self, token: UUID, room: int) -> list[Claim]:
        found: list[Claim] = []
        for target, most in SHARING.split(self.targets, room):
            limit = min(most, room - len(found))
            if limit > 0:
                found += store.claim(
                    target[:3],
                    token=token,
                    now=self.now,
                    lease_s=self.door.lease_s,
                    limit=limit,
                    with_payload=False,
                )
        return sorted(found, key=lambda claim: (-claim.priority, claim.position))

    def _filled(self, claims: list[Claim], token: UUID) -> list[Claim]:
        """Return as many with their payloads as fit into one answer, and give the others back."""
        if not claims:
            return []
        fit = store.fitting([claim.position for claim in claims], MOST_BYTES)
        store.release([claim.id for claim in claims[len(fit) :]], token)
        bodies = store.payloads(fit)
        for claim in claims[: len(fit)]:
            claim.payload = bodies.get(claim.position)
        self.emptied += [claim for claim in claims[: len(fit)] if claim.payload is None]
        return [claim for claim in claims[: len(fit)] if claim.payload is not None]


def doors_of(boxes: Sequence[Box]) -> dict[Box, Door]:
    """Return the first pull endpoint of each interface, enabled ones first; as it was up to a moment ago.

    Whether it may be fetched from at all is asked anew each time, and so is one with a rate.
    """
    now = time.monotonic()
    found = {box: door for box in boxes if (known := _doors.get(box)) and known[1] > now and (door := known[0])}
    if missing := set(boxes) - found.keys():
        read = _read_doors(missing)
        if len(_doors) > MOST_DOORS:
            _doors.clear()
        _doors.update({box: (door, now + REMEMBER_S) for box, door in read.items() if not door.rate_per_s})
        found |= read
    return found


def _read_doors(boxes: Collection[Box]) -> dict[Box, Door]:
    rows = Endpoint.objects.filter(protocol="pull", system__in={box[0] for box in boxes}).select_related("inbox")
    found: dict[Box, Door] = {}
    for row in sorted(rows, key=lambda row: (row.state != EndpointState.ENABLED, row.tier, row.name)):
        if "deliver" in row.use:
            found.setdefault((row.system_id, row.interface), _door(row))
    return found


def _door(row: Endpoint) -> Door:
    inbox = getattr(row, "inbox", None)
    return Door(
        id=row.pk,
        schedule_s=row.retry_schedule_s,
        rules=compile_rules(row.outcomes),
        lease_s=lease_s(row.config),
        max_in_flight=row.max_in_flight,
        rate_per_s=row.rate_per_s,
        next_at=inbox.next_at if inbox else None,
    )


def note_asked(asked: Mapping[Box, str]) -> set[Box]:
    """Remember that {inbox: by whom} is asked for now; return those of them that there are."""
    rows = list(Endpoint.objects.filter(protocol="pull", system__in={box[0] for box in asked}))
    rows = [row for row in rows if (row.system_id, row.interface) in asked and "deliver" in row.use]
    now = store.now()
    for row in rows:
        by = asked[row.system_id, row.interface][:200]
        Inbox.objects.update_or_create(endpoint=row, defaults={"asked_at": now, "asked_by": by})
    return {(row.system_id, row.interface) for row in rows}


def lease(wishes: Sequence[Wish], *, suspects_first: bool) -> list[Parcel]:
    """Lease what is due in one inbox to those who wish for it, first come first served; audited, as payloads are read.

    An empty parcel means that there is nothing now.
    """
    box = wishes[0].box
    with transaction.atomic():
        store.lock_inbox(box)
        now = store.now()
        targets, door = store.inboxes_due([box]), doors_of([box]).get(box)
        if door is None or not targets:
            return [Parcel()] * len(wishes)
        room = min(door.max_in_flight - store.count_leased(box), _allowance(door, now))
        giving = Round(box, door, now, room, targets)
        parcels = [_parcel(giving, wish, suspects_first=suspects_first) for wish in wishes]
        if door.id and door.rate_per_s and giving.given:
            next_at = _next_place(door, now) + timedelta(seconds=giving.given / door.rate_per_s)
            fields = {"asked_at": now, "asked_by": wishes[0].by.label[:200], "next_at": next_at}
            Inbox.objects.update_or_create(endpoint_id=door.id, defaults=fields)
    if giving.emptied:
        try:
            write([Ended(emptied(claim)) for claim in giving.emptied])
        except DatabaseError:  # the parcels are leased all the same; these come again when their leases run out
            log.exception("emptied_not_written", count=len(giving.emptied))
    return parcels


def _parcel(giving: Round, wish: Wish, *, suspects_first: bool) -> Parcel:
    claims = giving.lease(wish, suspects_first=suspects_first) if giving.room > 0 else []
    if not claims:
        return Parcel()
    system = System(pk=wish.box[0], slug=wish.system, owner_id=wish.owner_id)
    audit.record(wish.by, "fetch", system, {"interface": [None, wish.box[1]], "deliveries": [None, len(claims)]})
    return Parcel(claims, giving.now + timedelta(seconds=giving.door.lease_s))


def _allowance(door: Door, now: datetime) -> int:
    """Return how many the rate lets go now."""
    if not door.rate_per_s:
        return FOREVER
    begin = _next_place(door, now)
    return int((now - begin).total_seconds() * door.rate_per_s) + 1 if begin <= now else 0


def _next_place(door: Door, now: datetime) -> datetime:
    """Return when the rate lets the next one go; a place that is further away than one step is of a slower rate."""
    next_at = door.next_at or now
    if door.rate_per_s and (next_at - now).total_seconds() > 1 / door.rate_per_s + CLOCK_STEP_S:
        return now
    return max(next_at, now - timedelta(seconds=BURST_S))


def give_back(claims: Sequence[Claim]) -> None:
    """Let others have what whoever asked is not there any more to take; nothing is spent."""
    if claims:
        store.release([claim.id for claim in claims], claims[0].token)
