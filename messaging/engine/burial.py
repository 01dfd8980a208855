"""Dead letters join the group of their cause, in the transaction in which they die. Sync."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import structlog
from django.db import transaction

from endpoints.ids import new_id
from messaging import store
from messaging.models import State
from messaging.signature import OTHER, digest, signature
from messaging.store import Died, Finish, Kind, Lost

log = structlog.get_logger(__name__)

MOST_GROUPS = 500  # of an interface and error class; what a receiver makes up beyond that is "other errors"
MOST_KINDS = 2_000  # remembered
REMEMBERED_S = 10.0
STEP = 500  # dead letters of old that are grouped in one transaction
LOOK_S = 5.0


@dataclass(slots=True)
class Known:
    """The groups of one kind as this process knows them."""

    digests: set[str] = field(default_factory=set)
    until: float = 0.0

    def has_room_for(self, key: str, kind: Kind) -> bool:
        """Say whether `key` is a group, or may become one; asks the database now and then."""
        if key in self.digests:
            return True
        if time.monotonic() >= self.until:
            self.digests = store.group_digests(kind, MOST_GROUPS)
            self.until = time.monotonic() + REMEMBERED_S
        if key not in self.digests and len(self.digests) >= MOST_GROUPS:
            return False
        self.digests.add(key)
        return True


_known: dict[Kind, Known] = {}


def forget() -> None:
    """Know no groups any more, as a new process."""
    _known.clear()


def bury(dead: Sequence[Died]) -> None:
    """Count dead letters in their groups; hold their rows."""
    if not dead:
        return
    if len(_known) > MOST_KINDS:
        forget()
    members: dict[tuple[Kind, str], list[Died]] = {}
    signatures: dict[str, str] = {}
    for letter in dead:
        signed = cause_of(letter)
        key = digest(signed)
        if not _known.setdefault(letter.kind, Known()).has_room_for(key, letter.kind):
            signed, key = OTHER, digest(OTHER)
        signatures[key] = signed
        members.setdefault((letter.kind, key), []).append(letter)
    groups = store.put_groups([_row(kind, signatures[key], key, rows) for (kind, key), rows in members.items()])
    store.set_groups([(letter.id, groups[place]) for place, rows in members.items() for letter in rows])


def bury_finished(finishes: Iterable[Finish]) -> None:
    """Put those that died in this transaction into their groups; nothing is asked or written when none did."""
    dead = [finish for finish in finishes if finish.state == State.DEAD]
    bodies = {finish.id: finish.attempt["response_body"] for finish in dead if finish.attempt}
    bury(store.died([finish.id for finish in dead], bodies))


def bury_lost(rows: Sequence[Lost]) -> None:
    """Put what took its worker down too often into its group."""
    bury(store.died([row.id for row in rows], {}))


def cause_of(letter: Died) -> str:
    """Return what a dead letter died of: its error, and in a line of its own what the answer said."""
    said = _text(letter.body)
    return f"{signature(letter.error)}\n{signature(said)}" if said else signature(letter.error)


def _text(body: bytes | None) -> str:
    """Return the beginning of an answer, "" for what is no text."""
    if not body:
        return ""
    try:
        text = body[: store.KEPT_BODY].decode("utf-8", "strict" if len(body) < store.KEPT_BODY else "ignore")
    except UnicodeDecodeError:
        return ""
    return "" if "\0" in text else text.strip()


def _row(kind: Kind, signed: str, key: str, rows: Sequence[Died]) -> store.Row:
    first, last = min(rows, key=_died_at), max(rows, key=_died_at)
    return (new_id(), *kind, signed, key, len(rows), first.at, last.at, last.id)


def _died_at(letter: Died) -> datetime:
    return letter.at


class Grouper:
    """Makes up for what was dead before there were groups, in bounded steps."""

    def __init__(self) -> None:
        self._next_at = 0.0

    def step(self) -> int:
        """Group some; return how many."""
        if time.monotonic() < self._next_at:
            return 0
        with transaction.atomic():
            found = store.ungrouped(STEP)
            bury(found)
        if len(found) < STEP:  # else there are more: go on with the next sweep
            self._next_at = time.monotonic() + LOOK_S
        if found:
            log.info("dead_letters_grouped", count=len(found))
        return len(found)
