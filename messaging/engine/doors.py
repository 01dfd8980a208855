"""The endpoints as the engine uses them: address decrypted, transport open, rules compiled; renewed on change."""

import asyncio
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import structlog
from django.db.models import BooleanField, Case, Value, When
from django.db.models.functions import Now

from endpoints.errors import ControlPlaneError
from endpoints.models import EmergencyStop, Endpoint, EndpointState, Maintenance, SystemState
from endpoints.services import address_of
from endpoints.transports import claimer_of, make_transport
from endpoints.transports.base import Address, Transport
from endpoints.transports.outcomes import Rule, compile_rules
from messaging import store
from messaging.engine.gates import Gate, Gates

log = structlog.get_logger(__name__)

RETIRE_POLL_S = 0.25
DELIVER, CLIENTS = Transport.CLAIMED_BY, "gateway"
NEVER, ALWAYS = float("-inf"), float("inf")

Interface = tuple[int, str]  # system id, interface name


@dataclass(slots=True)
class Door:
    """One endpoint that may be sent to now."""

    id: uuid.UUID
    settings: tuple[object, ...]
    label: str
    address: Address
    transport: Transport
    gate: Gate
    timeout_s: float
    weight: int
    tier: int
    balancing: str
    schedule_s: Sequence[float]
    rules: tuple[Rule, ...]
    max_in_flight: int
    rate_per_s: float | None
    closes_at: float = ALWAYS  # when maintenance begins, on the monotonic clock: nothing is sent from then on
    in_flight: int = 0  # of this door's own; its gate counts those of its predecessors, too
    sent: int = 0

    def room(self) -> int:
        """Return how many more may be sent through it at this moment."""
        return self.gate.room() if time.monotonic() < self.closes_at else 0

    def begin(self) -> None:
        self.in_flight += 1
        self.gate.in_flight += 1
        self.sent += 1

    def end(self) -> None:
        self.in_flight -= 1
        self.gate.in_flight -= 1


@dataclass(slots=True)
class Registry:
    """What `read` found: usable endpoints by interface, in order of tier and name; interfaces that have none."""

    stamp: str | None = None  # as `Glance.registry` was before
    doors: dict[Interface, list[Door]] = field(default_factory=dict)
    unusable: set[Interface] = field(default_factory=set)
    disabled: set[Interface] = field(default_factory=set)  # of the unusable those that nobody is to enable again
    maintained: set[Interface] = field(default_factory=set)  # of the unusable those that only a window keeps so
    retired: set[Interface] = field(default_factory=set)  # of the unusable those whose system takes nothing any more
    broken: set[Interface] = field(default_factory=set)  # with an endpoint that cannot be used as it stands
    elsewhere: set[Interface] = field(default_factory=set)  # with a usable endpoint whose deliveries others claim
    clients_only: set[Interface] = field(default_factory=set)  # of these those that only connected clients can take
    is_marked: bool = True  # it is for us to mark what waits where nothing may be sent
    shut: set[uuid.UUID] = field(default_factory=set)  # endpoints that are paused or disabled, or whose system is
    is_stopped: bool = False  # nothing may be sent to anybody

    def knows(self, interface: Interface) -> bool:
        """Say whether something may have failed there already: a start of ours sees all for the first time."""
        known = (self.doors, self.unusable, self.broken, self.elsewhere)
        return self.stamp is None or any(interface in found for found in known)


def _windows() -> list[tuple[int, datetime, datetime, bool]]:
    """Return (system id, start, end, whether it has begun) of each window of maintenance that is not over."""
    ahead = Maintenance.objects.filter(ends_at__gt=Now()).order_by("starts_at", "pk")
    begun = Case(When(starts_at__lte=Now(), then=Value(True)), default=Value(False), output_field=BooleanField())
    return list(ahead.annotate(begun=begun).values_list("system", "starts_at", "ends_at", "begun"))


def _closing() -> dict[int, float]:
    """Return {system id: when its next maintenance begins, on the monotonic clock}; -inf while it is in one."""
    read_at, now = time.monotonic(), store.now()
    closing: dict[int, float] = {}
    for system_id, starts_at, _, begun in _windows():
        at = NEVER if begun else read_at + (starts_at - now).total_seconds()
        closing[system_id] = min(closing.get(system_id, at), at)
    return closing


def read(stamp: str, known: Registry, gates: Gates, claimer: str = DELIVER) -> Registry:
    """Return the registry as it is now; doors that did not change are taken over, connections and all.

    `stamp` is that of a look before: what changes after it is a reason to read again. Doors whose
    transport is not claimed by `claimer` are left to those who do. What waits where nothing may be
    sent is marked by `deliver`, whoever claims it.
    """
    fresh = Registry(stamp=stamp, is_stopped=EmergencyStop.objects.exists(), is_marked=claimer == DELIVER)
    claimers: dict[Interface, set[str]] = {}
    enabled: set[Interface] = set()
    switched_on: set[Interface] = set()
    closing = _closing()
    old = {door.id: door for doors in known.doors.values() for door in doors}
    for endpoint in Endpoint.objects.select_related("system", "credential").order_by("tier", "name"):
        interface = (endpoint.system_id, endpoint.interface)
        if "deliver" not in endpoint.use:
            continue
        if endpoint.state != EndpointState.DISABLED:
            enabled.add(interface)
        if endpoint.system.state == SystemState.RETIRED and not endpoint.system.may_be_sent_to:
            fresh.retired.add(interface)
        closes_at = closing.get(endpoint.system_id, ALWAYS)
        is_on = endpoint.state == EndpointState.ENABLED and endpoint.system.may_be_sent_to and not fresh.is_stopped
        if is_on:
            switched_on.add(interface)
        if not is_on or closes_at == NEVER:
            fresh.unusable.add(interface)
            fresh.shut.add(endpoint.pk)
        elif (claimed_by := claimer_of(endpoint.protocol)) != claimer:
            fresh.elsewhere.add(interface)
            claimers.setdefault(interface, set()).add(claimed_by)
        elif (door := _current(endpoint, old.get(endpoint.pk), gates)) is not None:
            door.closes_at = closes_at
            fresh.doors.setdefault(interface, []).append(door)
        else:
            fresh.broken.add(interface)
    mine = fresh.doors.keys() | fresh.broken
    fresh.clients_only = {interface for interface, found in claimers.items() if found == {CLIENTS}} - mine
    fresh.unusable -= fresh.doors.keys() | fresh.elsewhere
    fresh.disabled = fresh.unusable - enabled
    fresh.maintained = fresh.unusable & switched_on
    return fresh


def _current(endpoint: Endpoint, known: Door | None, gates: Gates) -> Door | None:
    """Return the known door if all it was made of is unchanged, else a new one.

    None when the endpoint cannot be used as it stands; its deliveries wait meanwhile.
    """
    try:
        address = address_of(endpoint)
        if known is not None and known.address == address and known.settings == _settings(endpoint):
            return known
        return _make(endpoint, address, gates)
    except (ControlPlaneError, ValueError, TypeError, LookupError) as exc:  # a row that no rule of today let in
        log.error("endpoint_unusable", endpoint=str(endpoint), error=str(exc))
        return None


def _settings(endpoint: Endpoint) -> tuple[object, ...]:
    """Return what a door takes from its endpoint beside the address."""
    return (
        *(endpoint.max_in_flight, endpoint.rate_per_s, endpoint.weight, endpoint.tier, endpoint.balancing),
        *(endpoint.retry_schedule_s, endpoint.outcomes, str(endpoint)),
    )


def _make(endpoint: Endpoint, address: Address, gates: Gates) -> Door:
    return Door(
        id=endpoint.pk,
        settings=_settings(endpoint),
        label=str(endpoint),
        address=address,
        transport=make_transport(address),
        gate=gates.gate(endpoint.pk),
        timeout_s=endpoint.timeout_s,
        max_in_flight=endpoint.max_in_flight,
        rate_per_s=endpoint.rate_per_s,
        weight=endpoint.weight,
        tier=endpoint.tier,
        balancing=endpoint.balancing,
        schedule_s=endpoint.retry_schedule_s,
        rules=compile_rules(endpoint.outcomes),
    )


async def open_door(door: Door) -> bool:
    """Open a door's transport; one that cannot be opened is left out, so that it holds up nobody else."""
    try:
        await door.transport.open()
    except Exception:
        log.exception("endpoint_not_opened", endpoint=door.label)
        return False
    return True


@dataclass(slots=True)
class Change:
    """What is different in a registry that was just read."""

    interfaces: set[Interface] = field(default_factory=set)  # with an endpoint that is new or at another address
    healing: set[uuid.UUID] = field(default_factory=set)  # endpoints that were shut before, or changed
    retired: list[Door] = field(default_factory=list)
    is_new: bool = False  # some door is


async def take_over(fresh: Registry, known: Registry) -> Change:
    """Open the doors that are new; one that cannot be opened is left out of `fresh`."""
    change = Change(interfaces=fresh.elsewhere & known.unusable)
    old = {door.id: door for doors in known.doors.values() for door in doors}
    for interface, doors in fresh.doors.items():
        for door in list(doors):
            before = old.pop(door.id, None)
            if before is not door:
                change.is_new = True
                has_moved = before is not None and before.address != door.address
                if has_moved or (before is None and known.knows(interface)):
                    change.interfaces.add(interface)
                if door.id in known.shut or has_moved:
                    change.healing.add(door.id)
                if before is not None:
                    change.retired.append(before)
                if not await open_door(door):
                    doors.remove(door)
            gate = door.gate
            gate.interface, gate.timeout_s = interface, door.timeout_s
            gate.cap, gate.rate_per_s = door.max_in_flight, door.rate_per_s
            door.sent = 0  # a new replica takes its share from now on, and makes up for nothing
    change.retired += old.values()
    return change


class Retiring:
    """Doors that are used no more: each transport is closed once the last send through it has ended."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, doors: Iterable[Door]) -> None:
        for door in doors:
            task = asyncio.create_task(_retire(door))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        """Wait for none of them any more."""
        for task in self._tasks:
            task.cancel()


async def _retire(door: Door) -> None:
    while door.in_flight:  # noqa: ASYNC110  (rare, and nobody waits for it)
        await asyncio.sleep(RETIRE_POLL_S)
    await door.transport.aclose()
