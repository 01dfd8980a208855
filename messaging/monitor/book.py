"""The incidents' rows: what the facts of now make of them. Sync, in a transaction that only one monitor is in."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db.models import Q

from endpoints.models import Incident
from messaging.monitor import families, judgement
from messaging.monitor.facts import REMOVED, Facts, Subject
from messaging.monitor.families import DEPENDENCY, PROCESS, Member
from messaging.monitor.judgement import Limits

log = structlog.get_logger(__name__)

GRACE = 2.0  # settle times that what depends on something healed gets to heal, too, before it speaks for itself


def update(facts: Facts, limits: Limits, now: datetime) -> None:
    """Open, follow and resolve incidents, and say which of them speak for others."""
    rows = {row.subject: row for row in Incident.objects.filter(resolved_at__isnull=True).select_related("system")}
    for subject in facts.troubles:
        if subject not in rows:
            rows[subject] = _open(facts.subjects[subject], facts, limits, now)
    for row in rows.values():
        _follow(row, facts, limits, now)
    join([row for row in rows.values() if row.resolved_at is None], facts, limits, now)


def _open(subject: Subject, facts: Facts, limits: Limits, now: datetime) -> Incident:
    """Open an incident, or the one again that resolved a moment ago."""
    last = Incident.objects.filter(subject=subject.name).select_related("system").order_by("-opened_at").first()
    if last is not None and last.resolved_at and judgement.comes_back(last.resolved_at, limits, now):
        last.resolved_at, last.returns = None, last.returns + 1
        last.speak_at = now + timedelta(seconds=limits.gather_s)
        if last.told_resolved_at is not None or last.told_opened_at is None:  # else it never ended for who was told
            last.facts = {**last.facts, "returned_at": now.isoformat()}
        if last.told_resolved_at is not None:
            last.told_opened_at = last.told_resolved_at = None
            last.parent, last.parent_because = None, ""
        last.save()
        log.info("incident_returned", incident=str(last.pk), subject=last.label, returns=last.returns)
        return last
    causes = judgement.follow([], facts.troubles[subject.name], (), now)
    endpoint = subject.endpoint
    row = Incident(
        subject=subject.name,
        label=subject.label[:300],
        system=endpoint.system if endpoint else None,
        endpoint=endpoint,
        causes=causes,
        summary=judgement.summary(subject.label, causes),
        facts={"host": endpoint.host, "interface": endpoint.interface} if endpoint else {},
        opened_at=now,
        speak_at=now + timedelta(seconds=limits.gather_s),
        quiet_because=subject.quiet,
    )
    row.save(force_insert=True)
    log.info("incident_opened", incident=str(row.pk), subject=row.label, causes=[entry["cause"] for entry in causes])
    return row


def _follow(row: Incident, facts: Facts, limits: Limits, now: datetime) -> None:
    """Bring one incident up to now."""
    subject = facts.subjects.get(row.subject)
    is_process = row.subject.startswith("process:")
    ended = subject.ended if subject else ("" if is_process else REMOVED)
    frozen = ("late",) if subject and subject.is_held else ()
    troubles = {} if ended else facts.troubles.get(row.subject, {})
    causes = judgement.follow(row.causes, troubles, frozen if not ended else (), now)
    changed: dict[str, Any] = {}
    if not judgement.is_same(causes, row.causes):
        changed |= {"causes": causes, "summary": judgement.summary(row.label, causes)}
    quiet = subject.quiet if subject else ""
    if quiet != row.quiet_because:
        changed["quiet_because"] = quiet
        if not quiet:  # what was held back drains first; what is broken still is told then
            changed["speak_at"] = now + timedelta(seconds=limits.settle_s)
    if ended or judgement.is_over(causes, row.returns, limits, now):
        changed["resolved_at"] = now
        if ended:
            changed["facts"] = {**row.facts, "ended": ended}
        log.info("incident_resolved", incident=str(row.pk), subject=row.label)
    if changed:
        _save(row, changed)


def join(open_rows: Sequence[Incident], facts: Facts, limits: Limits, now: datetime) -> None:
    """Let what is broken by another thing stand behind it, and what outlives that speak for itself."""
    parents = {row.parent_id for row in open_rows if row.parent_id}
    heads = {row.pk: row for row in Incident.objects.filter(pk__in=parents).select_related("system")}
    heads |= {row.pk: row for row in open_rows if row.parent_id is None}
    for row in sorted(open_rows, key=lambda one: (one.opened_at, str(one.pk))):
        if row.parent_id is not None:
            _leave_healed(row, heads.get(row.parent_id), limits, now)
            if row.parent_id is None:
                heads[row.pk] = row
            continue
        if row.told_opened_at is not None:
            continue
        roots = [_member(head) for pk, head in heads.items() if pk != row.pk]
        found = families.bond(_member(row), roots, facts.above)
        if found is not None:
            head = next(head for pk, head in heads.items() if str(pk) == found.root)
            _save(row, {"parent": head, "parent_because": found.because})
            Incident.objects.filter(parent=row).update(parent=head)
            del heads[row.pk]


def _leave_healed(row: Incident, head: Incident | None, limits: Limits, now: datetime) -> None:
    """Let an incident speak for itself when what it depends on healed a while ago and it did not."""
    if head is None or (row.parent_because not in (DEPENDENCY, PROCESS)):
        return
    if head.resolved_at is not None and now - head.resolved_at >= timedelta(seconds=GRACE * limits.settle_s):
        _save(row, {"parent": None, "parent_because": "", "told_opened_at": None, "speak_at": now})


def _member(row: Incident) -> Member:
    return Member(
        id=str(row.pk),
        opened_at=row.opened_at,
        is_open=row.resolved_at is None,
        system_id=row.system_id,
        owner_id=row.system.owner_id if row.system else None,
        host=row.facts.get("host", ""),
        causes=frozenset(entry["cause"] for entry in row.causes if entry["until"] is None),
        sends=row.subject.startswith("process:deliver@"),
    )


def _save(row: Incident, changed: dict[str, Any]) -> None:
    for name, value in changed.items():
        setattr(row, name, value)
    row.save(update_fields=list(changed))


def in_play() -> list[Incident]:
    """Return the incidents that somebody may have to be told of: open ones, half told ones, and their families."""
    rows = Incident.objects.filter(
        Q(resolved_at__isnull=True) | Q(told_opened_at__isnull=False, told_resolved_at__isnull=True)
    )
    keys = {row.pk for row in rows} | {row.parent_id for row in rows if row.parent_id}
    family = Incident.objects.filter(Q(pk__in=keys) | Q(parent_id__in=keys))
    return list(family.select_related("system__owner", "endpoint").order_by("opened_at", "id"))
