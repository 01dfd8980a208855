"""How a notice reads: one sentence that any chat shows, and the same as fields for programs."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Q

from endpoints.edge.display import span
from endpoints.models import Breaker, Incident, NoticeKind
from messaging.models import RARE, UNSETTLED, Delivery, State

MOST_COUNTED = 10_000
MOST_NAMED = 20
MOST_IN_TEXT = 5
EVENTS = {NoticeKind.OPENED: "incident.opened", NoticeKind.RESOLVED: "incident.resolved"}
DIGEST = "incident.digest"
TEST = "incident.test"


def page_url(incident_id: UUID | None = None) -> str:
    """Return where a person reads more."""
    return f"{settings.PUBLIC_URL}/admin/incidents/" + (f"{incident_id}/" if incident_id else "")


def notice(kind: str, head: Incident, others: Sequence[Incident], now: datetime) -> dict[str, Any]:
    """Return the payload of one notice; `others` are those that `head` speaks for."""
    found = {
        "event": EVENTS[NoticeKind(kind)],
        **_fields(head, now),
        "also": [row.label for row in others][:MOST_NAMED],
    }
    found["also_count"] = len(others)
    say = _opened if kind == NoticeKind.OPENED else _resolved
    return {"text": say(head, len(others), found), **found}


def digest(payloads: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the payload of one notice that carries several."""
    opened = [one for one in payloads if one["event"] == EVENTS[NoticeKind.OPENED]]
    resolved = [one for one in payloads if one not in opened]
    counts = " and ".join(
        f"{len(found)} {'incident' if len(found) == 1 else 'incidents'} {word}"
        for found, word in ((opened, "opened"), (resolved, "resolved"))
        if found
    )
    names = [f"{'opened' if one in opened else 'resolved'}: {one['label']}" for one in payloads]
    more = f"\n... and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    text = f"{counts[0].upper()}{counts[1:]}.\n" + "\n".join(names[:MOST_NAMED]) + f"{more}\n{page_url()}"
    short = [{name: one[name] for name in ("event", "incident_id", "label", "cause", "url")} for one in payloads]
    return {"text": text, "event": DIGEST, "incidents": short, "url": page_url()}


def trial(now: datetime) -> dict[str, Any]:
    """Return the payload of a notice that only shows that notices arrive."""
    text = f"This is a test: notices of the control plane arrive here. {page_url()}"
    return {"text": text, "event": TEST, "at": _time(now), "url": page_url()}


def _fields(row: Incident, now: datetime) -> dict[str, Any]:
    there = [entry for entry in row.causes if entry["until"] is None] or row.causes
    system = row.system
    interface = row.facts.get("interface")
    return {
        "incident_id": str(row.pk),
        "label": row.label,
        "system": system.slug if system else None,
        "interface": interface,
        "endpoint": str(row.endpoint_id) if row.endpoint_id else None,
        "cause": there[0]["cause"] if there else None,
        "causes": [entry["cause"] for entry in there],
        "summary": row.summary,
        "since": _time(row.broken_since),
        "resolved_at": _time(row.resolved_at) if row.resolved_at else None,
        "lasted_s": round(((row.resolved_at or now) - row.broken_since).total_seconds(), 1),
        "returns": row.returns,
        **_counts(row, interface),
        "last_error": _last_error(row),
        "owner": system.owner.name if system and system.owner else None,
        "contact": (system.contact if system else "") or None,
        "runbook": (system.runbook_url if system else "") or None,
        "url": page_url(row.pk),
    }


def _counts(row: Incident, interface: str | None) -> dict[str, Any]:
    if row.system_id is None:
        return {"waiting": None, "dead": None}
    own = Q(system_id=row.system_id, interface=interface)
    waiting = Delivery.objects.filter(own, UNSETTLED, state=State.PENDING)
    dead = Delivery.objects.filter(own, RARE, state=State.DEAD, resolved_at__isnull=True)
    return {
        name: rows.order_by().values("pk")[:MOST_COUNTED].count()
        for name, rows in (("waiting", waiting), ("dead", dead))
    }


def _last_error(row: Incident) -> str | None:
    breaker = Breaker.objects.filter(pk=row.endpoint_id).first() if row.endpoint_id else None
    if breaker is None or not breaker.error_class:
        return None
    return f"{breaker.error_class.replace('_', ' ')}: {breaker.error}"[:500]


def _opened(row: Incident, others: int, found: dict[str, Any]) -> str:
    again = " It came back shortly after it was resolved." if row.returns else ""
    counts = [
        f"{_count(found[name])} {word}" for name, word in (("waiting", "wait"), ("dead", "are dead")) if found[name]
    ]
    told = [f"{name.title()} {found[name]}" for name in ("owner", "contact", "runbook") if found[name]]
    parts = [
        f"OPEN: {row.summary}.{again}",
        f"Since {row.broken_since.astimezone(UTC):%H:%M} UTC" + (f"; {', '.join(counts)}." if counts else "."),
        _others(found["also"], others),
        f"{', '.join(told)}." if told else "",
        found["url"],
    ]
    return "\n".join(part for part in parts if part)


def _resolved(row: Incident, others: int, found: dict[str, Any]) -> str:
    how = row.facts.get("ended") or "it is well again"
    parts = [
        f"RESOLVED: {row.label}, {how} after {span(found['lasted_s'])}.",
        _others(found["also"], others),
        f"{_count(found['dead'])} dead letters stay until somebody sees to them." if found["dead"] else "",
        found["url"],
    ]
    return "\n".join(part for part in parts if part)


def _others(labels: Sequence[str], count: int) -> str:
    """Name the first of those that one incident speaks for."""
    if not count:
        return ""
    shown = ", ".join(labels[:MOST_IN_TEXT])
    return f"With it: {shown}" + (f" and {count - MOST_IN_TEXT} more." if count > MOST_IN_TEXT else ".")


def _count(value: int) -> str:
    return f"{value:,}" + ("+" if value >= MOST_COUNTED else "")


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
