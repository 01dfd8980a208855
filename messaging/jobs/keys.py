"""The job that indexes business keys backwards, in the shape in which the runner works any: of messages."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar

from endpoints.access.principal import Principal
from endpoints.models import System
from messaging.intake.indexing import index_messages, messages_of
from messaging.intake.keys import Keys
from messaging.jobs.actions import Action
from messaging.jobs.ahead import Ahead, place_of
from messaging.models import Job


class IndexKeys(Action):
    label, told = "Index search keys", "looked at"
    meaning = (
        "Each message that the system sent before its search keys were declared is looked at, and what it lacks of"
        " them is added: it can be found by them from then on."
    )
    states: ClassVar[tuple[str, ...]] = ()
    wakes = False

    def __init__(self, keys: Keys) -> None:
        self.keys = keys

    def act(self, ids: Sequence[Any], before: datetime, by: Principal) -> int:
        return index_messages(ids, self.keys)


class KeySelection:
    """The messages of a job's system, in order of position; what is indexed is what the system declares now."""

    def __init__(self, job: Job, principal: Principal) -> None:
        [slug] = job.filter["source_system"]
        system = System.objects.filter(slug=slug).first()
        keys = [(key["name"], key["from"]) for key in system.search_keys] if system else []
        self.action, self.principal, self.before = IndexKeys(keys), principal, job.created_at
        self._system = system if keys else None
        self._place, self._upto = job.place, job.upto

    def ahead(self, place: str, count: int) -> Ahead:
        """Return up to `count` positions behind `place`."""
        rows = messages_of(self._system, place.partition(":")[0], self._upto)
        found = list(rows.values_list("pk", flat=True)[: count + 1]) if rows is not None else []
        ahead = [(position, position) for position in found[:count]]
        return Ahead(ahead, place_of(*ahead[-1]) if ahead else place, len(found) > count)

    def count(self, most: int | None) -> int:
        """Return how many are left, counting no further than `most`."""
        rows = messages_of(self._system, self._place.partition(":")[0], self._upto)
        return 0 if rows is None else rows.order_by().values("pk")[:most].count()
