"""Retention: bodies, attempts and metadata each have their own time; what is open, or dead and unresolved, stays.

Every step is one short transaction, sized to last `TURN_S`, with a rest behind it, so
intake and delivery hardly notice. Each kind keeps a mark: all up to there is done, and
what was kept (an open delivery, a dead letter) is not looked at again until it ends;
then it is found among those that ended since the last time. So a step costs the same
however much was kept, and a run that is cut off goes on where it was.
"""

import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import takewhile
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, Min, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce

from endpoints.models import Incident, Notice, NoticeState
from messaging import store
from messaging.models import OPEN_STATES, Attempt, Delivery, IdempotencyKey, Job, Message, RetentionMark, Rollup, State
from messaging.pace import MOST, Pace
from messaging.services.ledger import floor
from messaging.totals import BEGINNING, fold

IDEMPOTENCY_KEPT = timedelta(hours=24)
UNCOMMITTED = timedelta(minutes=1)  # what ended so shortly before a run may not have been visible to it
BEHIND = timedelta(days=1)  # by so much the oldest row may outlive its time: a run starts every hour
ENDS = ("finished_at", "resolved_at")  # what lets go of a delivery; each has an index

Progress = Callable[[str, int], None]


def prune(progress: Progress = lambda what, count: None, *, now: datetime | None = None) -> dict[str, int]:
    """Delete what is older than the settings keep; return how many rows of each kind went.

    `progress` is told (kind, rows so far) after each batch.
    """
    now = now or store.now()
    fold()  # a count that goes must be in the totals
    gone = {}
    for kind, days in _kept_days().items():
        gone[kind] = _prune_kind(KINDS[kind], now, now - timedelta(days=days), partial(progress, kind))
    kept = now - timedelta(days=settings.ENV.keep_metadata_days)
    store.delete_empty_groups(kept)
    gone["rollups"] = _delete_counts(kept, partial(progress, "rollups"))
    gone["incidents"] = _delete(_old_incidents(kept), partial(progress, "incidents"))
    gone["notices"] = _delete(_old_notices(kept), partial(progress, "notices"))
    jobs = Job.objects.filter(finished_at__lt=kept).order_by("finished_at")  # those that are open have not ended
    gone["jobs"] = _delete(jobs, partial(progress, "jobs"))
    keys = IdempotencyKey.objects.filter(created_at__lt=now - IDEMPOTENCY_KEPT).order_by("created_at")
    gone["idempotency keys"] = _delete(keys, partial(progress, "idempotency keys"))
    return gone


def _delete_counts(kept: datetime, progress: Callable[[int], None]) -> int:
    """Delete the counts of whole minutes before, some minutes in a statement; what stays is passed once a run."""
    done, pace, since, end = 0, Pace.of_minutes(), BEGINNING, floor(kept)
    while True:
        started = time.monotonic()
        first = Rollup.objects.filter(minute__gte=since, minute__lt=end).aggregate(at=Min("minute"))["at"]
        if first is None:
            return done
        since = min(first + pace.rows * timedelta(minutes=1), end)
        done += Rollup.objects.filter(pk__in=_old_counts(first, since).values("pk")).delete()[0]
        progress(done)
        pace.took(time.monotonic() - started)


def _old_counts(since: datetime, until: datetime) -> QuerySet[Rollup]:
    """Return those of minutes that may go; what was owed stays as long as a delivery of it is kept.

    Bounded from above once: of two bounds SQLite reads along the index to either, and it may be months away.
    What was owed must not go after what a job purged of it, or it would seem to be there still: both in one statement.
    """
    same = Rollup.objects.filter(minute=OuterRef("minute"), system=OuterRef("system"), error_class="")
    owed, purged = (Coalesce(Subquery(same.filter(event=event).values("count")), 0) for event in ("owed", "purged"))
    old = Rollup.objects.filter(minute__gte=since, minute__lt=until).annotate(left=owed - purged)
    is_booked = Q(event="owed") | Q(event="purged")  # what the ledger compares the deliveries with
    return old.filter(~is_booked | Q(left__lte=0))


def _old_incidents(kept: datetime) -> QuerySet[Incident]:
    """Return those that resolved before; their notices go with them. One that speaks for an open one stays."""
    open_ones = Incident.objects.filter(parent=OuterRef("pk"), resolved_at__isnull=True)
    owed = Notice.objects.filter(incident=OuterRef("pk"), state=NoticeState.PENDING)
    old = Incident.objects.filter(opened_at__lt=kept, resolved_at__lt=kept)
    return old.exclude(Exists(open_ones)).exclude(Exists(owed)).order_by("opened_at")


def _old_notices(kept: datetime) -> QuerySet[Notice]:
    """Return those of no incident of their own: trials, and digests of which no part is left."""
    old = Notice.objects.filter(incident__isnull=True, created_at__lt=kept).exclude(state=NoticeState.PENDING)
    return old.exclude(Exists(Notice.objects.filter(carrier=OuterRef("pk")))).order_by("created_at")


def behind_s(now: datetime) -> float | None:
    """Return for how long the oldest row of any kind has outlived its time, None when a run would have nothing to do.

    One probe of a primary key a kind.
    """
    late, marks = [], dict(RetentionMark.objects.values_list("kind", "place"))
    for kind, days in _kept_days().items():
        found = KINDS[kind].ahead(marks.get(kind, ""), 1)
        late += [now - timedelta(days=days) - row.at for row in found]
    longest = max(late, default=timedelta())
    return longest.total_seconds() if longest > BEHIND else None


def _kept_days() -> dict[str, int]:
    environment = settings.ENV
    return {
        "bodies": environment.keep_bodies_days,
        "attempts": environment.keep_attempts_days,
        "messages": environment.keep_metadata_days,
    }


# --- the kinds -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Row:
    """One row ahead: its place in the walk, when it was made, and what the kind acts on."""

    place: Any
    at: datetime
    subject: Any


@dataclass(frozen=True, slots=True)
class _Kind:
    """`ahead` returns rows behind a place in order; `act` removes of subjects what has ended, and says how many."""

    name: str
    ahead: Callable[[str, int], list[_Row]]
    act: Callable[[Sequence[Any], datetime], int]
    subject: str  # the field of a delivery that leads to the subject


def _messages_ahead(place: str, count: int) -> list[_Row]:
    rows = Message.objects.filter(pk__gt=int(place or 0)).order_by("pk").values_list("pk", "created_at")
    return [_Row(position, at, position) for position, at in rows[:count]]


def _attempts_ahead(place: str, count: int) -> list[_Row]:
    rows = Attempt.objects.filter(pk__gt=uuid.UUID(place or "0" * 32)).order_by("pk")
    return [_Row(*row) for row in rows.values_list("pk", "started_at", "delivery_id")[:count]]


def _drop_bodies(positions: Sequence[int], before: datetime) -> int:
    return store.drop_payloads(_ended_messages(positions)[0])


def _delete_messages(positions: Sequence[int], before: datetime) -> int:
    ended, deliveries = _ended_messages(positions)
    _unbook(ended)
    return store.delete_messages(ended, deliveries)


def _unbook(positions: Sequence[int]) -> None:
    """Take the deliveries of messages that go out of the books of their minutes, so that what is kept there adds up."""
    rows = Delivery.objects.filter(message__in=positions).order_by().values_list("message__created_at", "system_id")
    gone = Counter((floor(at), system_id) for at, system_id in rows)
    store.add_rollups({(*place, "owed", ""): (-count, 0.0) for place, count in gone.items()})


def _delete_attempts(deliveries: Sequence[uuid.UUID], before: datetime) -> int:
    locked = Delivery.objects.select_for_update().filter(pk__in=deliveries).order_by("pk")
    rows = locked.values_list("pk", "state", "resolved_at")
    ended = [pk for pk, state, resolved_at in rows if not _is_kept(state, resolved_at)]
    return store.delete_attempts(ended, before)


def _ended_messages(positions: Sequence[int]) -> tuple[list[int], list[uuid.UUID]]:
    """Return those whose deliveries have all ended, and these; locked, so that nobody sends one again meanwhile."""
    locked = Delivery.objects.select_for_update().filter(message__in=positions).order_by("pk")
    rows = list(locked.values_list("pk", "message_id", "state", "resolved_at"))
    kept = {position for _, position, state, resolved_at in rows if _is_kept(state, resolved_at)}
    ended = [position for position in positions if position not in kept]
    return ended, [pk for pk, position, *_ in rows if position not in kept]


def _is_kept(state: str, resolved_at: datetime | None) -> bool:
    """Say whether a delivery is open, or dead: then it is kept, body and all, until a person dealt with it."""
    return state in OPEN_STATES or (state == State.DEAD and resolved_at is None)


KINDS = {
    "bodies": _Kind("bodies", _messages_ahead, _drop_bodies, "message_id"),
    "attempts": _Kind("attempts", _attempts_ahead, _delete_attempts, "pk"),
    "messages": _Kind("messages", _messages_ahead, _delete_messages, "message_id"),
}


# --- the walk ------------------------------------------------------------------


def _prune_kind(kind: _Kind, now: datetime, before: datetime, progress: Callable[[int], None]) -> int:
    mark, pace, done = _mark(kind.name), Pace(), 0
    seen_at = mark.ended_at or now
    if mark.ended_at is None:  # from here on, what ends behind the mark will be found by when it did
        RetentionMark.objects.update_or_create(kind=kind.name, defaults={"ended_at": now, "place": mark.place})
    for subjects in _ended_since(kind, seen_at, before):
        for part in _parts(subjects, pace):
            with transaction.atomic():
                done += kind.act(part, before)
            progress(done)
    more = True
    while more:
        with transaction.atomic():
            started = time.monotonic()  # what it waited for the lock before is no reason to go slower
            rows = kind.ahead(mark.place, pace.rows)
            old = list(takewhile(lambda row: row.at < before, rows))
            more = 0 < len(old) == pace.rows
            if old:
                done += kind.act(list(dict.fromkeys(row.subject for row in old)), before)
                mark.place = str(old[-1].place)
                RetentionMark.objects.filter(kind=kind.name).update(place=mark.place)
        if old:
            progress(done)
            pace.took(time.monotonic() - started)
    RetentionMark.objects.filter(kind=kind.name).update(ended_at=now - UNCOMMITTED)
    return done


def _ended_since(kind: _Kind, seen_at: datetime, before: datetime) -> Iterable[list[Any]]:
    """Yield the subjects of deliveries that ended since, and are older than `before`, in bounded lists."""
    newest = Message.objects.filter(created_at__lt=before).order_by("-created_at", "-position")
    position = newest.values_list("position", flat=True).first()
    if position is None:
        return
    old = Delivery.objects.filter(message_id__lte=position, created_at__lt=before)
    for end in ENDS:
        yield from _along(old.filter(**{f"{end}__gte": seen_at}), end, kind.subject)


def _along(ended: QuerySet[Any], end: str, subject: str) -> Iterable[list[Any]]:
    after: datetime | None = None
    while True:
        ahead = ended if after is None else ended.filter(**{f"{end}__gt": after})
        rows = list(ahead.order_by(end).values_list(end, subject)[:MOST])
        if not rows:
            return
        after = rows[-1][0]
        # Those that ended in the same moment go together, however many: the next list begins behind it.
        same = ended.filter(**{end: after}).values_list(subject, flat=True)
        yield list(dict.fromkeys([*(found for _, found in rows), *same]))


def _parts(subjects: list[Any], pace: Pace) -> Iterable[list[Any]]:
    while subjects:
        part, subjects = subjects[: pace.rows], subjects[pace.rows :]
        started = time.monotonic()
        yield part
        pace.took(time.monotonic() - started)


def _mark(kind: str) -> RetentionMark:
    return RetentionMark.objects.filter(pk=kind).first() or RetentionMark(kind=kind)


def _delete(rows: QuerySet[Any], progress: Callable[[int], None]) -> int:
    done, pace = 0, Pace()
    while True:
        started = time.monotonic()
        ids = list(rows.values_list("pk", flat=True)[: pace.rows])
        if not ids:
            return done
        rows.model._default_manager.filter(pk__in=ids).delete()
        done += len(ids)
        progress(done)
        pace.took(time.monotonic() - started)
