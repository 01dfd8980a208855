"""From what was said to what is owed: who sent it, who gets it, in which state each delivery starts."""

from collections.abc import Sequence
from dataclasses import dataclass

from endpoints.access.principal import Principal
from endpoints.errors import ControlPlaneError, Forbidden, Malformed, Refused, TooLarge
from endpoints.models import OURS
from messaging.intake.directory import Interface, Party
from messaging.intake.envelope import Draft
from messaging.intake.fields import BROADCAST
from messaging.intake.keys import effort_of, take_keys
from messaging.models import Reason, State


@dataclass(frozen=True, slots=True)
class Owed:
    """One delivery to make: to which interface, and how it starts."""

    system_id: int
    interface: str
    state: str
    reason: str
    max_attempts: int


@dataclass(slots=True)
class Planned:
    """A message that may be stored: checked, with source and deliveries known."""

    draft: Draft
    source: Party
    owed: list[Owed]
    fingerprint: bytes
    size: int


def slugs_of(draft: Draft, principal: Principal) -> set[str]:
    """Return the systems that must be known to plan this draft."""
    slugs = {draft.source_system or principal.system_slug}
    for target in draft.target_system or ():
        slugs.add(target.partition("/")[0])
    return slugs - {"", BROADCAST}


def plan(draft: Draft, principal: Principal, parties: dict[str, Party], broadcast: list[Party]) -> Planned:
    """Return what storing this draft means, its declared keys included; not for an event loop, as they may take long.

    Raises what the sender must be told.
    """
    planned = outline(draft, principal, parties, broadcast)
    take_keys(draft, planned.source.search_keys)
    return planned


def outline(draft: Draft, principal: Principal, parties: dict[str, Party], broadcast: list[Party]) -> Planned:
    """Return what storing this draft means, but for the keys its source declared; raises what the sender must be told.

    `parties` are the existing ones of `slugs_of`; `broadcast` those that take broadcasts.
    """
    source = _source(draft, principal, parties)
    if len(draft.payload) > source.max_message_bytes:
        raise TooLarge(
            f"the payload has {len(draft.payload)} bytes, {source.slug} may send {source.max_message_bytes}",
        )
    owed: dict[tuple[int, str], Owed] = {}  # `crm` and `crm/main` are one door, and one delivery
    for target in draft.target_system or ():
        if target == BROADCAST:
            found = [_owed_by(party, "main", draft) for party in broadcast if _takes_broadcast(party, source)]
        else:
            found = [_owed_to(target, source, parties, principal, draft)]
        owed |= {(one.system_id, one.interface): one for one in found}
    if draft.target_system is not None and len(draft.target_system) == 1 and draft.target_system[0] != BROADCAST:
        _check_fit(draft, draft.target_system[0], parties)
    # Of what was sent alone: keys that are declared meanwhile make a message no other one.
    is_compared = bool(draft.message_id or draft.idempotency_key)
    return Planned(draft, source, list(owed.values()), draft.fingerprint() if is_compared else b"", len(draft.payload))


def _source(draft: Draft, principal: Principal, parties: dict[str, Party]) -> Party:
    slug = draft.source_system or principal.system_slug
    if not slug:
        raise Malformed(
            "source_system: required, unless the key is bound to a system",
            code="invalid",
            errors=[{"field": "source_system", "code": "required", "detail": "name the sending system"}],
        )
    if not principal.may("operator"):
        raise Forbidden("sending needs the role operator")
    if principal.system_slug and slug != principal.system_slug:
        raise Forbidden(f"this key speaks only as {principal.system_slug}, not as {slug}", code="wrong_source")
    source = parties.get(slug)
    if source is None or not principal.sees_team(source.owner_id):
        raise Refused(f"source_system '{slug}' is not registered", code="unknown_system")
    if slug == OURS and principal.via not in ("monitor", "engine"):
        raise Refused(f"{slug} is this installation itself: nobody else speaks as it", code="wrong_source")
    if source.is_retired and principal.via != "engine":  # what was asked of it before may still be answered
        raise Refused(f"{slug} is retired and sends no more", code="retired")
    return source


def _owed_to(target: str, source: Party, parties: dict[str, Party], principal: Principal, draft: Draft) -> Owed:
    slug, _, interface = target.partition("/")
    party = parties.get(slug)
    # A system of another team that does not take our messages is not ours to know of.
    if party is None or not (party.accepts(source) or principal.sees_team(party.owner_id)):
        raise Refused(f"target_system '{slug}' is not registered", code="unknown_system")
    if not party.accepts(source):
        raise Refused(f"{slug} does not accept messages from {source.slug}; see its accepts_from", code="not_accepted")
    if party.is_retired:
        raise Refused(f"{slug} is retired and takes no new messages", code="retired")
    return _owed_by(party, interface or "main", draft)


def _check_fit(draft: Draft, target: str, parties: dict[str, Party]) -> None:
    """Raise Refused when the only target can never be sent this payload: its sender can still do something about it."""
    slug, _, interface = target.partition("/")
    door = parties[slug].interfaces[interface or "main"]
    if door.unfit and not door.is_disabled:
        faults = [tells(draft.payload) for tells in door.unfit]
        if all(faults):
            raise Refused(f"{slug} cannot be sent this payload: {faults[0]}", code="unfit")


def _takes_broadcast(party: Party, source: Party) -> bool:
    return party.id != source.id and "main" in party.interfaces and party.accepts(source)


def _owed_by(party: Party, interface: str, draft: Draft) -> Owed:
    door = party.interfaces.get(interface)
    if door is None:
        known = ", ".join(sorted(party.interfaces)) or "none: register an endpoint first"
        raise Refused(f"{party.slug} has no interface '{interface}'; it has {known}", code="unknown_system")
    state, reason = (State.SKIPPED, Reason.RETIRED) if party.is_retired else _start(door, draft, party)
    tries = door.max_attempts if draft.max_retries is None else min(door.max_attempts, draft.max_retries + 1)
    return Owed(party.id, interface, str(state), str(reason), tries)


def _start(door: Interface, draft: Draft, party: Party) -> tuple[str, str]:
    if door.is_disabled:
        return State.SKIPPED.value, Reason.DISABLED.value
    if door.is_paused:
        return State.PENDING.value, Reason.PAUSED.value
    if door.is_maintained:
        return State.PENDING.value, Reason.MAINTENANCE.value
    if door.is_broken and not draft.deliver_at:
        return State.PENDING.value, Reason.BREAKER.value
    if door.is_for_clients and draft.recipient not in party.clients and not draft.deliver_at:
        return State.PENDING.value, Reason.NO_CLIENT.value
    return State.PENDING.value, (Reason.SCHEDULED if draft.deliver_at else Reason.NEW).value


def outline_or_error(
    draft: Draft | ControlPlaneError, principal: Principal, parties: dict[str, Party], broadcast: list[Party]
) -> Planned | ControlPlaneError:
    """Return the outline, or the error as a value: one bad message of a batch must not sink the others."""
    if isinstance(draft, ControlPlaneError):
        return draft
    try:
        return outline(draft, principal, parties, broadcast)
    except ControlPlaneError as exc:
        return exc


def take_all_keys(planned: Sequence[Planned]) -> None:
    """Take the declared keys out of each that was outlined."""
    for item in planned:
        take_keys(item.draft, item.source.search_keys)


def effort_of_all(planned: Sequence[Planned]) -> int:
    """Return what that takes, in bytes to look through."""
    return sum(effort_of(item.draft, item.source.search_keys) for item in planned)
