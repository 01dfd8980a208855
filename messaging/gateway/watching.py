"""The look-out for callers that may not be here any more: three queries for all, and a look at what changed."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from django.contrib.auth.models import Group
from django.db.models import QuerySet
from django.utils import timezone

from endpoints.edge.database_threads import DatabaseThreads
from endpoints.models import ApiKey, System

KEY = ("pk", "revoked_at", "expires_at", "role", "team", "system")
TEAM = ("pk", "name")  # tokens call teams by their names
SYSTEM = ("pk", "slug", "state", "retirement", "owner", "max_message_bytes")
AT_ONCE = 5000

States = Mapping[Any, tuple[Any, ...]]
_threads = DatabaseThreads("gateway-watch")


class Stored(NamedTuple):
    """What is stored of callers, by id; a key that ended is left out."""

    keys: States
    systems: States
    teams: States

    def name_of(self, system_id: int) -> str:
        """Return what a system is called now; "" when it is gone."""
        row = self.systems.get(system_id)
        return str(row[SYSTEM.index("slug")]) if row else ""


async def states_of(key_ids: Collection[str], system_ids: Collection[int], team_ids: Collection[int]) -> Stored:
    """Return what is stored of these keys, systems and teams."""
    return await _threads.run(_states_of, sorted(key_ids), sorted(system_ids), sorted(team_ids))


def _states_of(key_ids: list[str], system_ids: list[int], team_ids: list[int]) -> Stored:
    now = timezone.now()
    keys = {
        str(key): row
        for key, row in _rows(ApiKey.objects.all(), key_ids, KEY).items()
        if row[1] is None and (row[2] is None or row[2] > now)
    }
    return Stored(keys, _rows(System.objects.all(), system_ids, SYSTEM), _rows(Group.objects.all(), team_ids, TEAM))


def _rows(stored: QuerySet[Any], ids: Sequence[Any], columns: Sequence[str]) -> States:
    found: dict[Any, tuple[Any, ...]] = {}
    for start in range(0, len(ids), AT_ONCE):
        rows = stored.filter(pk__in=ids[start : start + AT_ONCE]).values_list(*columns)
        found.update((row[0], row) for row in rows)
    return found
