"""Who has to be told what: one notice when a family of incidents opens, one when all of it is resolved.

Written as rows in the transaction that decides it; `outbox` sends them afterwards.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from endpoints.models import Incident, Notice, NoticeKind, NoticeTarget
from messaging.monitor import wording
from messaging.monitor.book import in_play

MOST_APART = 3  # notices to one target within a minute; what is more goes out as a digest
APART_WITHIN = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Family:
    """An incident that speaks, and those it speaks for."""

    root: Incident
    members: list[Incident]  # the root first

    @property
    def is_resolved(self) -> bool:
        return all(row.resolved_at is not None for row in self.members)

    def seen_by(self, target: NoticeTarget) -> list[Incident]:
        """Return the members that this target's team may know of."""
        return [row for row in self.members if target.team_id is None or _owner(row) in (None, target.team_id)]

    def healed_for(self, target: NoticeTarget) -> list[Incident]:
        """Return those of a resolved family that this target hears of: not who stayed well when the root came back."""
        return [row for row in self.seen_by(target) if row.resolved_at and row.resolved_at >= self.root.broken_since]


@dataclass(frozen=True, slots=True)
class Wanted:
    """One thing to tell one target."""

    kind: str
    family: Family
    target: NoticeTarget

    @property
    def key(self) -> tuple[UUID, str, int, UUID]:
        return self.family.root.pk, self.kind, self.family.root.returns, self.target.pk


def tell(now: datetime) -> None:
    """Write the notices that are due now, and mark the incidents as told once all who should know do."""
    families = _families(in_play())
    targets = list(NoticeTarget.objects.all())
    notices = Notice.objects.filter(incident__in=[family.root.pk for family in families])
    told = {(row.incident_id, row.kind, row.round, row.target_id) for row in notices}
    opened = [(family, due) for family in families if (due := _untold(family, now))]
    resolved = [family for family in families if _is_healing_untold(family)]
    wanted = [
        Wanted(NoticeKind.OPENED, family, target)
        for family, due in opened
        for target in _recipients(family, due, targets)
    ]
    since: dict[UUID | None, datetime] = {family.root.pk: family.root.broken_since for family in families}
    opening = [row for row in notices if row.kind == NoticeKind.OPENED]
    knows = {(row.incident_id, row.target_id) for row in opening if row.created_at >= since[row.incident_id]}
    wanted += [
        Wanted(NoticeKind.RESOLVED, family, target)
        for family in resolved
        for target in targets
        if (family.root.pk, target.pk) in knows and family.healed_for(target)
    ]
    left = _write([one for one in wanted if one.key not in told], now)
    for family, due in opened:
        kept_back = any(one.family.root.pk == family.root.pk and one.kind == NoticeKind.OPENED for one in left)
        if not kept_back and any(one.family.root.pk == family.root.pk for one in wanted):
            Incident.objects.filter(pk__in=[row.pk for row in due]).update(told_opened_at=now)
    for family in resolved:
        if not any(one.family.root.pk == family.root.pk for one in left):
            Incident.objects.filter(pk__in=[row.pk for row in family.members]).update(told_resolved_at=now)


def _families(rows: Sequence[Incident]) -> list[Family]:
    by_root: dict[UUID, list[Incident]] = defaultdict(list)
    known = {row.pk for row in rows}
    for row in rows:
        by_root[row.parent_id if row.parent_id in known else row.pk].append(row)
    found = []
    for root_id, members in by_root.items():
        root = next(row for row in members if row.pk == root_id)
        found.append(Family(root, [root, *(row for row in members if row.pk != root_id)]))
    return found


def _untold(family: Family, now: datetime) -> list[Incident]:
    """Return the open members that somebody has to hear of now."""
    return [
        row
        for row in family.members
        if row.resolved_at is None and row.told_opened_at is None and not row.quiet_because and row.speak_at <= now
    ]


def _is_healing_untold(family: Family) -> bool:
    return family.is_resolved and any(row.told_opened_at and not row.told_resolved_at for row in family.members)


def _recipients(family: Family, due: Iterable[Incident], targets: Sequence[NoticeTarget]) -> list[NoticeTarget]:
    """Return who hears of it: those for everyone's incidents, and those of a team that owns one of the members.

    A target that is itself broken hears of it only if nobody else does.
    """
    teams = {_owner(row) for row in due}
    found = [target for target in targets if target.team_id is None or target.team_id in teams]
    doors = {_door(row) for row in family.members if row.resolved_at is None}
    well = [target for target in found if (target.target + ("" if "/" in target.target else "/main")) not in doors]
    return well or found


def _owner(row: Incident) -> int | None:
    return row.system.owner_id if row.system else None


def _door(row: Incident) -> str:
    return f"{row.system.slug}/{row.facts.get('interface', 'main')}" if row.system else ""


def _write(wanted: Sequence[Wanted], now: datetime) -> list[Wanted]:
    """Write what may go out now; return what has to wait, since its target got enough within the last minute."""
    by_target: dict[UUID, list[Wanted]] = defaultdict(list)
    for one in wanted:
        by_target[one.target.pk].append(one)
    left: list[Wanted] = []
    for target_id, items in by_target.items():
        lately = Notice.objects.filter(target_id=target_id, carrier__isnull=True, created_at__gt=now - APART_WITHIN)
        room = MOST_APART - lately.exclude(kind=NoticeKind.TEST).count()
        if room <= 0:
            left += items
        elif len(items) <= room:
            for one in items:
                _row(one, now, _payload(one, now)).save(force_insert=True)
        else:
            _digest(items, now)
    return left


def _digest(items: Sequence[Wanted], now: datetime) -> None:
    carrier = _row(items[0], now, wording.digest([_payload(one, now) for one in items]))
    carrier.save(force_insert=True)
    for one in items[1:]:
        row = _row(one, now, {})
        row.carrier = carrier
        row.save(force_insert=True)


def _payload(one: Wanted, now: datetime) -> dict[str, Any]:
    if one.kind == NoticeKind.RESOLVED:
        shown = one.family.healed_for(one.target)
    else:
        shown = [row for row in one.family.seen_by(one.target) if row.resolved_at is None and not row.quiet_because]
    return wording.notice(one.kind, shown[0], shown[1:], now)


def _row(one: Wanted, now: datetime, payload: dict[str, Any]) -> Notice:
    return Notice(
        incident=one.family.root,
        target=one.target,
        told=str(one.target),
        kind=one.kind,
        round=one.family.root.returns,
        payload=payload,
        next_at=now,
        created_at=now,
    )
