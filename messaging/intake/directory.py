"""Who may be a source or a target, as the registry says: remembered for under a second in each process."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from django.db import DatabaseError
from django.db.models import Max
from django.db.models.functions import Now

from endpoints.edge.database_threads import DatabaseThreads
from endpoints.errors import Overloaded, Refused
from endpoints.models import (
    USUAL_MESSAGE_BYTES,
    BreakerState,
    EmergencyStop,
    Endpoint,
    EndpointState,
    Maintenance,
    System,
    SystemState,
)
from endpoints.transports import claimer_of, transport_class
from endpoints.transports.base import Unfit
from messaging.models import Presence

Found = TypeVar("Found")

REMEMBER_S = 0.75
MAX_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Interface:
    """One door of a system, as far as accepting for it goes."""

    name: str
    max_attempts: int
    is_disabled: bool
    is_paused: bool
    is_maintained: bool  # its system is in a window of maintenance
    is_broken: bool  # each endpoint that is in use has an open breaker
    is_for_clients: bool  # only connected clients can take what is sent to it
    unfit: tuple[Unfit, ...] = ()  # what each of its endpoints says of a payload; empty when one of them takes all


@dataclass(frozen=True, slots=True)
class Party:
    """A system, as far as accepting from it or for it goes."""

    id: int
    slug: str
    owner_id: int | None
    owner: str
    accepts_from: frozenset[str]
    accepts_broadcast: bool
    max_message_bytes: int
    search_keys: tuple[tuple[str, str], ...]
    is_retired: bool
    interfaces: dict[str, Interface]
    clients: frozenset[str] = frozenset()  # recipients whose clients are connected; "" for those without one

    def accepts(self, source: "Party") -> bool:
        """Say whether `source` may send here: named itself or by team; else the own team, or all if there is none."""
        if source.id == self.id:
            return True
        if self.accepts_from:
            return bool(self.accepts_from & {"*", source.slug, source.owner} - {""})
        return self.owner_id is None or self.owner_id == source.owner_id


class Directory:
    """Look systems up by slug; only what exists is remembered, so a new system can be used at once."""

    def __init__(self) -> None:
        self._parties: dict[str, tuple[Party, float]] = {}
        self._lock = threading.Lock()

    def remembered(self, slug: str) -> Party | None:
        """Return the party if it was looked up within the last moment; never touches the database."""
        entry = self._parties.get(slug)
        return entry[0] if entry is not None and entry[1] > time.monotonic() else None

    def remembered_all(self, slugs: set[str]) -> dict[str, Party] | None:
        """Return all of `slugs`, or None when one of them must be looked up."""
        found = {}
        for slug in slugs:
            party = self.remembered(slug)
            if party is None:
                return None
            found[slug] = party
        return found

    def look_up(self, slugs: set[str]) -> dict[str, Party]:
        """Return those of `slugs` that exist; queries the database for what is not remembered."""
        found = {slug: party for slug in slugs if (party := self.remembered(slug)) is not None}
        missing = slugs - found.keys()
        if missing:
            read_at = time.monotonic()
            loaded = load(missing)
            with self._lock:
                if len(self._parties) + len(loaded) > MAX_REMEMBERED:
                    self._parties.clear()
                self._parties.update((slug, (party, read_at + REMEMBER_S)) for slug, party in loaded.items())
            found.update(loaded)
        return found

    def forget(self) -> None:
        """Look everything up anew from now on."""
        self._parties.clear()


def load(slugs: set[str]) -> dict[str, Party]:
    """Read the parties named `slugs` from the registry, in four queries, one more where clients connect."""
    systems = System.objects.filter(slug__in=slugs).select_related("owner")
    is_stopped = EmergencyStop.objects.exists()
    maintained = set(Maintenance.objects.at(Now()).filter(system__slug__in=slugs).values_list("system", flat=True))
    doors: dict[int, dict[str, list[Endpoint]]] = {}
    found = Endpoint.objects.filter(system__slug__in=slugs).select_related("breaker")
    for endpoint in found.order_by("tier", "name"):
        if "deliver" in endpoint.use:
            doors.setdefault(endpoint.system_id, {}).setdefault(endpoint.interface, []).append(endpoint)
    clients = _clients({system_id for system_id, found in doors.items() if any(map(_is_for_clients, found.values()))})
    return {
        system.slug: _party(
            system,
            doors.get(system.pk, {}),
            frozenset(clients.get(system.pk, ())),
            is_stopped=is_stopped,
            is_maintained=system.pk in maintained,
        )
        for system in systems
    }


def _is_for_clients(endpoints: list[Endpoint]) -> bool:
    usable = [endpoint for endpoint in endpoints if endpoint.state == EndpointState.ENABLED]
    return bool(usable) and all(claimer_of(endpoint.protocol) == "gateway" for endpoint in usable)


def _clients(system_ids: set[int]) -> dict[int, set[str]]:
    """Return {system id: recipients whose clients are connected} of these systems."""
    found: dict[int, set[str]] = {}
    if system_ids:
        present = Presence.objects.filter(system__in=system_ids, until__gt=Now())
        for system_id, recipient in present.values_list("system", "recipient"):
            found.setdefault(system_id, set()).add(recipient)
    return found


def broadcast_slugs() -> set[str]:
    """Return the slugs of all systems that take broadcasts, or took them until they were retired."""
    return set(System.objects.filter(accepts_broadcast=True).values_list("slug", flat=True))


def _party(
    system: System,
    doors: dict[str, list[Endpoint]],
    clients: frozenset[str],
    *,
    is_stopped: bool,
    is_maintained: bool,
) -> Party:
    return Party(
        id=system.pk,
        slug=system.slug,
        owner_id=system.owner_id,
        owner=system.owner.name if system.owner else "",
        accepts_from=frozenset(system.accepts_from),
        accepts_broadcast=system.accepts_broadcast,
        max_message_bytes=system.max_message_bytes,
        search_keys=tuple((key["name"], key["from"]) for key in system.search_keys),
        is_retired=system.state == SystemState.RETIRED,
        clients=clients,
        interfaces={
            name: Interface(
                name=name,
                max_attempts=endpoints[0].max_attempts,
                is_disabled=all(endpoint.state == EndpointState.DISABLED for endpoint in endpoints),
                is_paused=is_stopped
                or system.state == SystemState.PAUSED
                or not any(endpoint.state == EndpointState.ENABLED for endpoint in endpoints),
                is_maintained=is_maintained,
                unfit=_unfit(endpoints),
                is_broken=all(
                    hasattr(endpoint, "breaker") and endpoint.breaker.state != BreakerState.CLOSED
                    for endpoint in endpoints
                    if endpoint.state == EndpointState.ENABLED
                ),
                is_for_clients=_is_for_clients(endpoints),
            )
            for name, endpoints in doors.items()
        },
    )


def _unfit(endpoints: list[Endpoint]) -> tuple[Unfit, ...]:
    """Return what tells of payloads that none of these endpoints can carry; nothing as soon as one carries all."""
    found: list[Unfit] = []
    for endpoint in endpoints:
        if endpoint.state == EndpointState.DISABLED:
            continue
        try:
            tells = transport_class(endpoint.protocol).unfit(endpoint.config)
        except Refused:  # a protocol of yesterday: what becomes of its deliveries the engine says
            tells = None
        if tells is None:
            return ()
        found.append(tells)
    return tuple(found)


DIRECTORY = Directory()
_threads = DatabaseThreads("directory")


async def find_parties(slugs: set[str]) -> dict[str, Party]:
    """Return those of `slugs` that exist, without blocking the loop; a thread is used only for what must be read."""
    remembered = DIRECTORY.remembered_all(slugs)
    if remembered is not None:
        return remembered
    return await _read(DIRECTORY.look_up, slugs)


async def find_longest(slug: str) -> int:
    """Return how many bytes a message of the system `slug` may have; without one, of whichever may send the most."""
    if slug:
        party = (await find_parties({slug})).get(slug)
        return USUAL_MESSAGE_BYTES if party is None else party.max_message_bytes
    return await _read(_longest)


def _longest() -> int:
    return System.objects.aggregate(most=Max("max_message_bytes"))["most"] or USUAL_MESSAGE_BYTES


async def find_broadcast() -> list[Party]:
    """Return the parties that take broadcasts."""
    return await _read(broadcast_parties)


def broadcast_parties() -> list[Party]:
    """Return the parties that take broadcasts; queries the database."""
    return sorted(DIRECTORY.look_up(broadcast_slugs()).values(), key=lambda party: party.slug)


async def _read(call: Callable[..., Found], *arguments: object) -> Found:
    try:
        return await _threads.run(call, *arguments)
    except DatabaseError as exc:
        raise Overloaded("the database does not answer", code="database", retry_after_s=5) from exc
