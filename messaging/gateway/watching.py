"""The look-out for callers that may not be here any more: three queries for all, and a look at what changed."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from django.contrib.auth.models import Group
from django.utils import timezone

from endpoints.edge.database_threads import DatabaseThreads
from endpoints.models import ApiKey, System

KEY = ("pk", "revoked_at", "expires_at", "role", "team", "system")
TEAM = ("pk", "name")  # tokens call teams by their names
SYSTEM = ("pk", "state", "retirement", "owner", "max_message_bytes")
AT_ONCE = 5000

States = Mapping[Any, tuple[Any, ...]]
_threads = DatabaseThreads("gateway-watch")


class Stored(NamedTuple):
    """What is stored of callers, by id; a key that ended is left out."""

    keys: States
    systems: States
    teams: States


async def states_of(key_ids: Collection[str], system_ids: Collection[int], team_ids: Collection[int]) -> Stored:
    """Return what is stored of these keys, systems and teams."""
    return await _threads.run(_states_of, sorted(key_ids), sorted(system_ids), sorted(team_ids))


def _states_of(key_ids: list[str], system_ids: list[int], team_ids: list[int]) -> Stored:
    now = timezone.now()
    keys: dict[Any, tuple[Any, ...]] = {}
    for start in range(0, len(key_ids), AT_ONCE):
        for row in ApiKey.objects.filter(pk__in=key_ids[start : start + AT_ONCE]).values_list(*KEY):
            if row[1] is None and (row[2] is None or row[2] > now):
                keys[str(row[0])] = row
    systems: dict[Any, tuple[Any, ...]] = {}
    for start in range(0, len(system_ids), AT_ONCE):
        for row in System.objects.filter(pk__in=system_ids[start : start + AT_ONCE]).values_list(*SYSTEM):
            systems[row[0]] = row
    teams: dict[Any, tuple[Any, ...]] = {}
    for start in range(0, len(team_ids), AT_ONCE):
        for row in Group.objects.filter(pk__in=team_ids[start : start + AT_ONCE]).values_list(*TEAM):
            teams[row[0]] = row
    return Stored(keys, systems, teams)
