"""Business keys that were declared after the messages came: taken out of what is stored, as intake would have.

A job does so a batch a transaction, in order of position: cut off anywhere, the next goes
on where the last was committed, and what was done twice is there once.
"""

from collections.abc import Sequence
from typing import Any

from django.db.models import QuerySet

from endpoints.edge import strict_json
from endpoints.errors import Malformed
from endpoints.models import System
from endpoints.transports.bodies import is_json
from messaging import store
from messaging.intake.envelope import Draft
from messaging.intake.keys import Keys, take_keys
from messaging.models import Message


def messages_of(system: System | None, place: str, upto: int) -> QuerySet[Message] | None:
    """Return the messages that a system sent behind `place` up to position `upto`, in order; None of no system."""
    if system is None:
        return None
    found: Any = Message.objects.filter(source=system, pk__gt=int(place or 0), pk__lte=upto).order_by("pk")
    rows: QuerySet[Message] = found
    return rows


def index_messages(positions: Sequence[int], keys: Keys) -> int:
    """Add the keys that these messages lack; return at how many it looked. Runs within a transaction."""
    # Locked, so that retention takes none of them away meanwhile; in order, as it does.
    locked = Message.objects.select_for_update().filter(pk__in=positions).order_by("pk")
    rows = list(locked.only(*FIELDS))
    _index(rows, keys)
    return len(rows)


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
    take_keys(draft, keys)
    return draft.search_keys


def _parsed(payload: bytes) -> Any:
    try:
        return strict_json.parse(payload)
    except Malformed:  # it only calls itself JSON
        return None
