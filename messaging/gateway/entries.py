"""Committed messages as event streams read them: pages in the order of commit, with what decides who sees them.

Position order is commit order (docs/decisions/0003), so a page above a position that was
read once never changes below its end, and no row is ever put in behind it.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson
from django.db.models import Q

from endpoints.access.principal import Principal
from endpoints.errors import Refused
from endpoints.models import OURS
from messaging import store
from messaging.gateway.cursors import NOTHING, Cursor, CursorExpired, cursor_of
from messaging.intake.fields import PRIORITY_NAMES
from messaging.models import Delivery, Message, RetentionMark
from messaging.payloads import verbatim_json

PAGE_ROWS = 256
PAGE_BYTES = 512 * 1024  # payloads of one page; a single larger one is a page of its own

# As the API shows a message: these as they are stored, those with null for "".
_PLAIN = (
    *("message_type", "timestamp", "content_type", "headers", "search_keys"),
    *("deliver_at", "max_retries", "created_at", "size", "unrouted"),
)
_EMPTY_IS_NULL = ("event_type", "correlation_id", "reply_to", "ordering_key", "recipient")
_FIELDS = (*_PLAIN, *_EMPTY_IS_NULL, "ttl_s")
# What is decided by, under its path in the table.
_FACTS = {
    **{name: name for name in ("position", "message_id", "source_id", "targets", "priority")},
    "source": "source__slug",
    "owner_id": "source__owner_id",
}


class Receiver(NamedTuple):
    """Who a message is owed to."""

    system: str
    interface: str
    owner_id: int | None


@dataclass(slots=True)
class Entry:
    """One committed message."""

    position: int
    message_id: str
    source_id: int
    source: str
    owner_id: int | None
    targets: list[str] | None
    priority: int
    payload: bytes | None
    fields: dict[str, Any]
    receivers: Sequence[Receiver] = ()
    _cursor: str = ""
    _shown: dict[bool, orjson.Fragment] = field(default_factory=dict)

    @property
    def cursor(self) -> str:
        if not self._cursor:
            self._cursor = str(cursor_of(self.position, self.source_id, self.message_id))
        return self._cursor

    @property
    def size(self) -> int:
        """Return how many bytes of memory it takes, about: read, and shown with and without payload."""
        return 3 * len(self.payload or b"") + 4096

    def is_seen_by(self, principal: Principal) -> bool:
        """Say whether it is the principal's to see, as the list of messages does; with a recipient, only its own."""
        if principal.recipient and self.fields["recipient"] != principal.recipient:
            return False
        return self._sent_visibly(principal) or any(principal.sees_team(one.owner_id) for one in self.receivers)

    def receivers_seen_by(self, principal: Principal) -> list[Receiver]:
        """Return those of the receivers that the principal may know of: both ends of a delivery see it."""
        if self._sent_visibly(principal):
            return list(self.receivers)
        return [one for one in self.receivers if principal.sees_team(one.owner_id)]

    def _sent_visibly(self, principal: Principal) -> bool:
        return principal.team_ids is None or (principal.sees_team(self.owner_id) and self.source != OURS)

    def shown(self, *, with_payload: bool) -> orjson.Fragment:
        """Return it as JSON, in the fields of the API; made once however many read it."""
        found = self._shown.get(with_payload)
        if found is None:
            found = self._shown[with_payload] = orjson.Fragment(
                orjson.dumps(self._as_shown(with_payload), option=orjson.OPT_UTC_Z)
            )
        return found

    def _as_shown(self, with_payload: bool) -> dict[str, Any]:
        targets, fields = self.targets, self.fields
        shown = {
            "message_id": self.message_id,
            "source_system": self.source,
            "target_system": targets[0] if targets is not None and len(targets) == 1 else targets,
            "priority": PRIORITY_NAMES[self.priority],
            "position": self.position,
            "ttl": fields["ttl_s"],
            **{name: fields[name] for name in _PLAIN},
            **{name: fields[name] or None for name in _EMPTY_IS_NULL},
        }
        return {**shown, **self._payload_shown()} if with_payload else shown

    def _payload_shown(self) -> dict[str, Any]:
        """Return the payload with the very bytes that were sent where it is JSON, else in base64."""
        shown: dict[str, Any] = {"payload": None, "payload_base64": None, "payload_removed": self.payload is None}
        if self.payload is not None:
            as_json = verbatim_json(self.payload, self.fields["content_type"])
            encoded = base64.b64encode(self.payload).decode("ascii") if as_json is None else None
            shown |= {"payload": as_json, "payload_base64": encoded}
        return shown


class Page(NamedTuple):
    """What was read: everything asked for up to and with position `end`."""

    entries: list[Entry]
    end: int


def read_head(after: int) -> Page:
    """Return what was committed behind `after`, at most a page of it."""
    return _read(Q(pk__gt=after), after, PAGE_ROWS)


def read_behind(after: int, until: int, wanted: Q, most: int) -> Page:
    """Return the first `most` of those `wanted` of (after, until], which is committed; raises CursorExpired."""
    found = _read(Q(pk__gt=after, pk__lte=until) & wanted, until, most)
    oldest = kept_from()
    if oldest > after:  # asked afterwards: what was read before it went is complete
        raise CursorExpired(str(cursor_at(oldest)))
    return found


def _read(rows: Q, end: int, most: int) -> Page:
    ahead = Message.objects.filter(rows).order_by("pk")
    fitting: list[int] = []
    room = PAGE_BYTES
    sizes = list(ahead.values_list("pk", "size")[:most])
    for position, size in sizes:
        room -= size
        if room < 0 and fitting:
            break
        fitting.append(position)
    if not fitting:
        return Page([], end)
    if len(fitting) == len(sizes) < most:
        return Page(_load(ahead.filter(pk__lte=fitting[-1])), max(end, fitting[-1]))
    # Pages end at round positions where they can, so that readers who began anywhere soon need the same ones.
    last = fitting[-1] - fitting[-1] % PAGE_ROWS
    if last < fitting[0]:
        last = fitting[-1]
    return Page(_load(ahead.filter(pk__lte=last)), last)


def _load(rows: Any) -> list[Entry]:
    found = []
    for row in rows.values(*_FACTS.values(), "payload", *_FIELDS):
        payload = row["payload"]
        entry = Entry(
            **{name: row[path] for name, path in _FACTS.items()},
            payload=None if payload is None else bytes(payload),
            fields={name: row[name] for name in _FIELDS},
        )
        found.append(entry)
    receivers: dict[int, list[Receiver]] = {}
    owed = Delivery.objects.filter(message__in=[entry.position for entry in found]).order_by()
    for position, slug, interface, owner in owed.values_list(
        "message_id", "system__slug", "interface", "system__owner_id"
    ):
        receivers.setdefault(position, []).append(Receiver(slug, interface, owner))
    for entry in found:
        entry.receivers = receivers.get(entry.position, ())
    return found


# --- places --------------------------------------------------------------------


def newest() -> Cursor:
    """Return the cursor behind everything committed so far."""
    row = Message.objects.order_by("-pk").values_list("pk", "source_id", "message_id").first()
    oldest = kept_from()
    return cursor_at(oldest) if row is None or row[0] < oldest else cursor_of(*row)


def cursor_at(position: int) -> Cursor:
    """Return the cursor behind the message at `position`, whether it is still there or not."""
    row = Message.objects.filter(pk=position).values_list("pk", "source_id", "message_id").first()
    return Cursor(position) if row is None else cursor_of(*row)


def kept_from() -> int:
    """Return the position up to which retention may have removed messages; 0 when there was nothing to remove."""
    place = RetentionMark.objects.filter(pk="messages").values_list("place", flat=True).first()
    return int(place or 0)


def check_cursor(cursor: Cursor) -> None:
    """Raise CursorExpired, or Refused `unknown_cursor`, unless all that follows the cursor can be read."""
    oldest = kept_from()
    if cursor.position < oldest:
        raise CursorExpired(str(cursor_at(oldest)))
    there = cursor_at(cursor.position)
    is_other = there.check not in (NOTHING, cursor.check)  # one that was purged says nothing any more
    if is_other or cursor.position > store.last_position():
        raise Refused(
            "this cursor is of another database, or of this one before it was set back", code="unknown_cursor"
        )
