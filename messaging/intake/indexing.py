"""Business keys that were declared after the messages came: taken out of what is stored, as intake would have.

One step is one transaction over a bounded number of messages in order of position, and
where it ended is told with what it did: cut off anywhere, the next goes on there, and
what was done twice is there once.
"""

from collections.abc import Sequence
from typing import Any

from django.db import transaction

from endpoints.edge import strict_json
from endpoints.errors import Malformed
from endpoints.models import System
from endpoints.transports.bodies import is_json
from messaging import store
from messaging.intake.envelope import Draft
from messaging.intake.plan import extract
from messaging.models import Job, Message

Keys = Sequence[tuple[str, str]]  # (name, from) as a system declares them


def index_step(job: Job, place: str, limit: int) -> tuple[str, int]:
    """Index the next `limit` messages of the job's system behind `place`; return where that ended, and how many it was.

    Fewer than `limit` means that nothing is left. What is to be indexed is what the
    system declares now, so that a second change needs no second look.
    """
    [slug] = job.filter["source_system"]
    system = System.objects.filter(slug=slug).first()
    keys = [(key["name"], key["from"]) for key in system.search_keys] if system else []
    if system is None or not keys:
        return place, 0
    ahead = Message.objects.filter(source=system, pk__gt=int(place or 0), pk__lte=job.upto).order_by("pk")
    with transaction.atomic():
        # Locked, so that retention takes none of them away meanwhile; in order, as it does.
        rows = list(ahead.select_for_update().only(*FIELDS)[:limit])
        _index(rows, keys)
    return (str(rows[-1].pk) if rows else place), len(rows)


FIELDS = ("position", "payload", "content_type", "headers", "search_keys")


def _index(messages: Sequence[Message], keys: Keys) -> None:
    """Add the keys that these messages lack; one without a body any more has none to give but from its headers."""
    added: list[tuple[int, str, str]] = []
    changed: list[Message] = []
    for message in messages:
        found = _found(message, keys)
        fresh = {name: value for name, value in found.items() if name not in message.search_keys}
        if fresh:
            added.extend((message.pk, name, value) for name, value in fresh.items())
            message.search_keys = {**message.search_keys, **fresh}
            changed.append(message)
    if changed:
        store.insert_search_keys(added)
        Message.objects.bulk_update(changed, ["search_keys"])


def _found(message: Message, keys: Keys) -> dict[str, str]:
    payload = None if message.payload is None else bytes(message.payload)
    draft = Draft(payload or b"", headers=message.headers, search_keys=message.search_keys)
    is_asked = any(path.startswith("payload.") and name not in message.search_keys for name, path in keys)
    if payload is not None and is_asked and is_json(message.content_type):
        draft.value = _parsed(payload)
    for name, path in keys:
        extract(draft, name, path)
    return draft.search_keys


def _parsed(payload: bytes) -> Any:
    try:
        return strict_json.parse(payload)
    except Malformed:  # it only calls itself JSON
        return None
