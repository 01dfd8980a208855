"""Packs: listed, run as they come, and installed as suites of the caller's own."""

from collections.abc import Mapping
from typing import Any

from django.contrib.auth.models import Group

from endpoints.access.principal import Principal
from endpoints.errors import Refused
from endpoints.models import Endpoint, System
from testing.models import Run, Suite
from testing.packs.documents import PackSuite, everything, find, written_for
from testing.services import runs, suites
from testing.services.runs import Wish

MOST_OFFERED = 500


def listed(by: Principal) -> list[dict[str, Any]]:
    """Return every pack with what it needs and the caller's suites that were made of it."""
    return [described(found, by) for found in everything()]


def described(found: PackSuite, by: Principal) -> dict[str, Any]:
    """Return one pack as the API and the commands show it."""
    made = Suite.objects.visible_to(by).filter(labels__has_member=found.label).order_by("slug")
    return {
        "name": found.name,
        "title": found.suite.title,
        "type": found.suite.type,
        "about": found.pack.about,
        "example": found.pack.example,
        "targets": [
            {"alias": alias, "system": system, "protocols": list(target.protocols), "does": target.does}
            for alias, system in found.suite.systems.items()
            for target in (found.pack.targets[alias],)
        ],
        "vars": dict(found.suite.vars),
        "cases": [case.name for case in found.suite.cases],
        "installed": [{"slug": suite.slug, "version": suite.version} for suite in made],
        "text": found.suite.text,
    }


def offered(found: PackSuite, by: Principal) -> dict[str, list[str]]:
    """Return, for each alias, the caller's systems that speak what it needs, as system or system/interface."""
    return {
        alias: _speaking(target.protocols, by)
        for alias in found.suite.systems
        for target in (found.pack.targets[alias],)
    }


def _speaking(protocols: tuple[str, ...], by: Principal) -> list[str]:
    rows = Endpoint.objects.filter(system__in=System.objects.visible_to(by), protocol__in=protocols)
    doors = rows.order_by("system__slug", "interface").values_list("system__slug", "interface", "use")[:MOST_OFFERED]
    names = (slug if door == "main" else f"{slug}/{door}" for slug, door, use in doors if "test" in use)
    return list(dict.fromkeys(names))


def start(name: str, wish: Wish, *, by: Principal) -> Run:
    """Make a run of a pack as it comes; nothing is installed. Raises NotFound, Forbidden, or Refused."""
    found = find(name)
    try:
        return runs.start_ready(found.suite.text, wish, by=by)
    except Refused as exc:
        raise _with_needs(exc, found) from exc


def install(
    name: str, systems: Mapping[str, str], *, by: Principal, slug: str = "", owner: Group | None = None
) -> Suite:
    """Store a pack as a suite of the caller's, with these systems behind its aliases.

    Raises NotFound, Forbidden, Conflict for a taken slug, or Refused for a system that is not there.
    """
    found = find(name)
    text = written_for(found, systems, slug)
    try:
        runs.check_systems(suites.check(text), by=by)
    except Refused as exc:
        raise _with_needs(exc, found) from exc
    return suites.create(text, by=by, owner=owner)


def _with_needs(refused: Refused, found: PackSuite) -> Refused:
    """Return the refusal; of a system that is not there, with what the pack needs in its place."""
    if refused.code != "unknown_system":
        return refused
    needs = "; ".join(
        f"{alias} ({' or '.join(target.protocols)}): {target.does}" for alias, target in found.pack.targets.items()
    )
    told = f"{refused.detail}; register one, or name another for its alias. The pack needs {needs}"
    return Refused(told, code=refused.code, errors=refused.errors)
