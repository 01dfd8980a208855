"""What the aliases of a suite stand for in one run, and the secrets it may read; asked once, before it begins."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from endpoints.access import secrets
from endpoints.access.principal import Principal
from endpoints.errors import ControlPlaneError
from endpoints.models import Credential, Endpoint, EndpointState, Stage, System, SystemState
from endpoints.services import address_of
from endpoints.transports.base import Address
from testing.steps.base import Party

SECRET_FIELDS = ("value", "password", "token", "secret", "client_secret", "key")


@dataclass(frozen=True, slots=True)
class Target:
    """A system behind an alias; without an address, `fault` says why a step cannot reach it."""

    party: Party
    address: Address | None
    fault: str = ""


def find_targets(systems: Mapping[str, str], principal: Principal) -> dict[str, Target]:
    """Return what each alias stands for; those that are not there are left to `services` to refuse."""
    return {alias: found for alias, name in systems.items() if (found := _target(name, principal)) is not None}


def _target(name: str, principal: Principal) -> Target | None:
    slug, _, interface = name.partition("/")
    system = System.objects.visible_to(principal).filter(slug=slug).first()
    if system is None:
        return None
    target = f"{slug}/{interface}" if interface else slug
    party = Party(system.slug, target, system.environment == Stage.PRODUCTION, system.allow_load)
    if system.state != SystemState.ACTIVE:
        return Target(party, None, f"system '{slug}' is {system.state}")
    rows = Endpoint.objects.filter(system=system, interface=interface or "main").select_related("system", "credential")
    usable = [row for row in rows.order_by("tier", "name") if "test" in row.use]
    endpoint = next((row for row in usable if row.state == EndpointState.ENABLED), None)
    if endpoint is None:
        return Target(party, None, _why_none(slug, interface or "main", usable))
    try:
        return Target(party, address_of(endpoint))
    except ControlPlaneError as exc:
        return Target(party, None, exc.detail)


def _why_none(slug: str, interface: str, usable: list[Any]) -> str:
    if usable:
        return f"every endpoint of {slug}/{interface} is {usable[0].state}"
    return f"{slug}/{interface} has no endpoint that may be used for tests"


def find_secrets(named: Iterable[tuple[str, ...]], principal: Principal) -> dict[tuple[str, ...], str]:
    """Return the secrets that a suite names, as far as its runner may use them."""
    found: dict[tuple[str, ...], str] = {}
    for name, field in named:
        row = Credential.objects.visible_to(principal).filter(name=name).first()
        data = secrets.decrypt(row.data) if row is not None else {}
        if field in data:
            found[name, field] = str(data[field])
    return found


def texts_to_mask(targets: Iterable[Target], named: Mapping[tuple[str, ...], str]) -> set[str]:
    """Return every text that may not be kept: the secrets read, and those of the endpoints asked."""
    found = set(named.values())
    for target in targets:
        address = target.address
        for secret in (address.credential, address.client_credential, *address.signing) if address else ():
            if secret is not None:
                found |= {str(secret.data[field]) for field in SECRET_FIELDS if secret.data.get(field)}
    return found
