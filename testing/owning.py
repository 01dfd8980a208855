"""Whose a run is: of every team that owns its suite or a system it touches; it is for who sees all of them."""

from collections.abc import Iterable

from endpoints.models import System
from testing.models import Run


def teams_of(systems: Iterable[str], owner_id: int | None) -> list[int]:
    """Return the teams behind systems, or their interfaces; `owner_id`, whose the suite is, comes first."""
    slugs = {name.partition("/")[0] for name in systems}
    owned = System.objects.filter(slug__in=slugs, owner__isnull=False).order_by("slug")
    found = ([] if owner_id is None else [owner_id]) + list(owned.values_list("owner_id", flat=True))
    return list(dict.fromkeys(found))


def own(run: Run, systems: Iterable[str]) -> None:
    """Give a stored run to the teams behind systems as well."""
    teams = teams_of(systems, run.owner_id)
    if teams and run.owner_id is None:
        run.owner_id = teams[0]
        run.save(update_fields=["owner"])
    if len(teams) > 1:
        run.teams.add(*teams)
        run.several = key_of(run.teams.values_list("pk", flat=True))
        run.save(update_fields=["several"])


def key_of(teams: Iterable[int]) -> str:
    """Return what tells runs of these teams from those of others, as far as a column holds it."""
    return ",".join(map(str, sorted(teams)))[:500]


def all_teams(run: Run) -> list[int]:
    """Return all teams that a stored run is of, in an order of their own; [] of one that is everyone's."""
    several = run.teams.order_by("pk").values_list("pk", flat=True)
    return list(several) or ([] if run.owner_id is None else [run.owner_id])
