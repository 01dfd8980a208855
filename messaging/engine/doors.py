"""The endpoints as the engine uses them: address decrypted, transport open, rules compiled; renewed on change."""

import asyncio
import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog
from django.db.models import Count, Max

from endpoints.errors import ControlPlaneError
from endpoints.models import Credential, Endpoint, EndpointState, System, SystemState
from endpoints.services import address_of
from endpoints.transports import make_transport
from endpoints.transports.base import Address, Transport
from endpoints.transports.outcomes import Rule, compile_rules

log = structlog.get_logger(__name__)

RETIRE_POLL_S = 0.25

Interface = tuple[int, str]  # system id, interface name


@dataclass(slots=True)
class Door:
    """One endpoint that may be sent to now."""

    id: uuid.UUID
    settings: tuple[object, ...]
    label: str
    address: Address
    transport: Transport
    max_in_flight: int
    weight: int
    tier: int
    balancing: str
    schedule_s: Sequence[float]
    rules: tuple[Rule, ...]
    rate_per_s: float | None = None
    in_flight: int = 0
    sent: int = 0
    next_at: float = 0.0  # when its rate allows the next send, on the monotonic clock

    def wait_s(self, now: float) -> float:
        """Take the next place the rate allows and return the seconds until then."""
        if self.rate_per_s is None:
            return 0.0
        at = max(now, self.next_at)
        self.next_at = at + 1 / self.rate_per_s
        return at - now


@dataclass(slots=True)
class Registry:
    """What `read` found: usable endpoints by interface, in order of tier and name; interfaces that have none."""

    stamp: object = None
    doors: dict[Interface, list[Door]] = field(default_factory=dict)
    unusable: set[Interface] = field(default_factory=set)


def stamp() -> object:
    """Return a value that changes whenever anything that `read` reads does; cheap enough for every second."""
    return [
        tuple(model.objects.aggregate(count=Count("pk"), last=Max("updated_at")).values())
        for model in (System, Endpoint, Credential)
    ]


def read(known: Registry) -> Registry:
    """Return the registry as it is now; doors that did not change are taken over, connections and all."""
    fresh = Registry(stamp=stamp())
    old = {door.id: door for doors in known.doors.values() for door in doors}
    for endpoint in Endpoint.objects.select_related("system", "credential").order_by("tier", "name"):
        interface = (endpoint.system_id, endpoint.interface)
        if "deliver" not in endpoint.use:
            continue
        if endpoint.state != EndpointState.ENABLED or endpoint.system.state != SystemState.ACTIVE:
            fresh.unusable.add(interface)
            continue
        if (door := _current(endpoint, old.get(endpoint.pk))) is not None:
            fresh.doors.setdefault(interface, []).append(door)
    fresh.unusable -= fresh.doors.keys()
    return fresh


def _current(endpoint: Endpoint, known: Door | None) -> Door | None:
    """Return the known door if all it was made of is unchanged, else a new one.

    None when the endpoint cannot be used as it stands; its deliveries wait meanwhile.
    """
    try:
        address = address_of(endpoint)
        if known is not None and known.address == address and known.settings == _settings(endpoint):
            return known
        return _make(endpoint, address)
    except (ControlPlaneError, ValueError, TypeError, LookupError) as exc:  # a row that no rule of today let in
        log.error("endpoint_unusable", endpoint=str(endpoint), error=str(exc))
        return None


def _settings(endpoint: Endpoint) -> tuple[object, ...]:
    """Return what a door takes from its endpoint beside the address."""
    return (
        *(endpoint.max_in_flight, endpoint.rate_per_s, endpoint.weight, endpoint.tier, endpoint.balancing),
        *(endpoint.retry_schedule_s, endpoint.outcomes, str(endpoint)),
    )


def _make(endpoint: Endpoint, address: Address) -> Door:
    return Door(
        id=endpoint.pk,
        settings=_settings(endpoint),
        label=str(endpoint),
        address=address,
        transport=make_transport(address),
        # Of a rate, no more than a second's worth is taken at once: the rest waits where all can see it.
        max_in_flight=min(endpoint.max_in_flight, math.ceil(endpoint.rate_per_s or endpoint.max_in_flight)),
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


async def retire(door: Door) -> None:
    """Close a transport once the last send through it has ended."""
    while door.in_flight:  # noqa: ASYNC110  (rare, and nobody waits for it)
        await asyncio.sleep(RETIRE_POLL_S)
    await door.transport.aclose()
