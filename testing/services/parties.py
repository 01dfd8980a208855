"""Whom a run was about: the systems behind its aliases, how they are now, and who answers for them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from endpoints.access.principal import Principal
from endpoints.models import Endpoint, Incident, System
from testing.models import Run

MOST_ENDPOINTS = 500


@dataclass(frozen=True, slots=True)
class PartySeen:
    """What an alias stood for; `system` is None when it is no more, or not the caller's to see."""

    alias: str
    name: str
    system: System | None = None
    endpoints: Sequence[Endpoint] = ()
    incidents: Sequence[Incident] = ()


def of_run(run: Run, principal: Principal) -> list[PartySeen]:
    """Return what the aliases of a run stood for, as it stands now."""
    slugs = {name.partition("/")[0] for name in run.systems.values()}
    systems = {
        row.slug: row for row in System.objects.visible_to(principal).filter(slug__in=slugs).select_related("owner")
    }
    doors: dict[tuple[str, str], list[Endpoint]] = defaultdict(list)
    for endpoint in Endpoint.objects.filter(system__slug__in=list(systems)).select_related("system")[:MOST_ENDPOINTS]:
        doors[endpoint.system.slug, endpoint.interface].append(endpoint)
    open_ones: dict[str, list[Incident]] = defaultdict(list)
    for incident in Incident.objects.filter(system__slug__in=list(systems), resolved_at__isnull=True).select_related(
        "system"
    ):
        open_ones[incident.system.slug if incident.system else ""].append(incident)
    found = []
    for alias, name in sorted(run.systems.items()):
        slug, _, interface = name.partition("/")
        found.append(PartySeen(alias, name, systems.get(slug), doors[slug, interface or "main"], open_ones[slug]))
    return found
