"""Ways in: registered, changed, opened, closed and removed, each checked and audited; and what is seen of them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.utils.dateparse import parse_datetime

from endpoints.access import audit, roles
from endpoints.access.principal import Principal
from endpoints.errors import Conflict, Forbidden, NotFound
from endpoints.models import SystemState
from endpoints.services.registry import difference
from messaging.models import Envelope, Listener, ListenerKind, ListenerReport
from messaging.services import listener_rules

RESOURCE = "listeners"
FRESH = timedelta(seconds=30)
MAX_REFUSALS = 20
EVERYONES = "a listener of no system is everyone's: it is for those to change who see every team"


def save(listener: Listener, *, by: Principal, action: str = "create") -> Listener:
    """Store a listener; the edge process follows within seconds.

    Raises Malformed naming the fields at fault, Forbidden for the role or team, Conflict for a slug that is taken.
    """
    roles.require(by, RESOURCE, action)
    with transaction.atomic():
        before = _lock(listener, by) if action == "update" else None
        _settle_team(listener, before, by)
        listener_rules.check(listener, by)
        _store(listener)
        if changes := difference(before, listener):
            audit.record(by, action, listener, changes)
    return listener


def delete(listener: Listener, *, by: Principal) -> None:
    """Remove a listener; what came in by it stays."""
    roles.require(by, RESOURCE, "destroy")
    with transaction.atomic():
        stored = _lock(listener, by)
        _settle_team(stored, stored, by)
        audit.record(by, "delete", stored, difference(stored, None))
        stored.delete()


def enable(listener: Listener, *, by: Principal) -> Listener:
    """Open it."""
    return _switch(listener, "enable", by, enabled=True)


def disable(listener: Listener, *, by: Principal) -> Listener:
    """Close it, and with it every connection it has; what came is stored and answered first."""
    return _switch(listener, "disable", by, enabled=False)


def _switch(listener: Listener, action: str, by: Principal, *, enabled: bool) -> Listener:
    roles.require(by, RESOURCE, action)
    with transaction.atomic():
        stored = _lock(listener, by)
        _settle_team(stored, stored, by)
        if stored.enabled != enabled:
            if enabled and stored.system is not None and stored.system.state == SystemState.RETIRED:
                raise Conflict(f"{stored.system.slug} is retired: it sends no more", code="retired")
            stored.enabled = enabled
            stored.save(update_fields=["enabled", "updated_at"])
            audit.record(by, action, stored, {"enabled": [not enabled, enabled]})
    return stored


def _lock(listener: Listener, by: Principal) -> Listener:
    rows = Listener.objects.visible_to(by).select_for_update(of=("self",)).select_related("system", "credential")
    found: Listener | None = rows.filter(pk=listener.pk).first()
    if found is None:
        raise NotFound("there is nothing here, or it is not yours to see")
    return found


def _settle_team(listener: Listener, before: Listener | None, by: Principal) -> None:
    """Hold the caller to its teams, before and after."""
    if by.team_ids is None:
        return
    for row in (listener, before):
        owner = row.system.owner_id if row is not None and row.system is not None else None
        if row is not None and owner not in by.team_ids:
            raise Forbidden(EVERYONES if owner is None else "the system belongs to another team")


def _store(listener: Listener) -> None:
    try:
        listener.validate_unique()
        with transaction.atomic():
            listener.save()
    except ValidationError as exc:
        field_name, text = next((name, text) for name, texts in exc.message_dict.items() for text in texts)
        errors = [{"field": field_name, "code": "taken", "detail": text}]
        raise Conflict(text, code="taken", errors=errors) from exc
    except IntegrityError as exc:
        raise Conflict("another change came first, or the name is taken", code="taken") from exc


# --- what is seen --------------------------------------------------------------


@dataclass(slots=True)
class Seen:
    """What the processes that serve a listener report, taken together."""

    state: str  # disabled | open | failed | waiting (nobody serves it yet)
    problem: str = ""
    connections: int = 0
    accepted: int = 0
    duplicates: int = 0
    refused: int = 0
    dropped: int = 0
    rate_per_s: float = 0.0
    refusals: list[dict[str, Any]] = field(default_factory=list)
    seen_at: datetime | None = None


COUNTS = ("accepted", "duplicates", "refused", "dropped")


def seen(listeners: Iterable[Listener]) -> dict[Any, Seen]:
    """Return what is seen of each, by primary key; counts are those of the processes that run now."""
    rows = list(listeners)
    reports: dict[Any, list[ListenerReport]] = {}
    for report in ListenerReport.objects.filter(listener__in=rows, seen_at__gt=Now() - FRESH):
        reports.setdefault(report.listener_id, []).append(report)
    return {row.pk: _seen(row, reports.get(row.pk, [])) for row in rows}


def _seen(listener: Listener, reports: list[ListenerReport]) -> Seen:
    found = Seen(state="waiting")
    for report in reports:
        for name in (*COUNTS, "connections", "rate_per_s"):
            setattr(found, name, getattr(found, name) + getattr(report, name))
        found.refusals += report.refusals
        found.problem = found.problem or report.problem
        found.seen_at = max(report.seen_at, found.seen_at or report.seen_at)
    for one in found.refusals:
        one["at_time"] = parse_datetime(str(one.get("at", "")))
    found.refusals = sorted(found.refusals, key=lambda one: str(one.get("at")), reverse=True)[:MAX_REFUSALS]
    if not listener.enabled:
        found.state, found.problem = "disabled", ""
    elif any(not report.problem for report in reports) or listener.kind == ListenerKind.HOOK:
        found.state = "open"
    elif reports:
        found.state = "failed"
    return found


def failed() -> list[str]:
    """Return a sentence for each listener that is enabled and cannot be opened."""
    rows = ListenerReport.objects.filter(listener__enabled=True, seen_at__gt=Now() - FRESH).exclude(problem="")
    return sorted(
        {f"listener {slug} is not open: {problem}" for slug, problem in rows.values_list("listener__slug", "problem")}
    )


def address_of(listener: Listener) -> str:
    """Return where senders find it."""
    if listener.kind == ListenerKind.HOOK:
        return f"/in/{listener.slug}/"
    host = f"[{listener.host}]" if ":" in listener.host else listener.host
    tls = "+tls" if listener.tls else ""
    return f"{listener.kind}{tls}://{host}:{listener.port}"


def speaks(listener: Listener) -> str:
    """Return in a few words how senders speak to it."""
    if listener.kind == ListenerKind.HOOK:
        return f"signature {listener.signature or 'none'}"
    if listener.kind == ListenerKind.UDP:
        return "signed datagrams" if listener.envelope == Envelope.MESSAGE else "datagrams as they are"
    return f"{listener.framing}, " + ("our envelope" if listener.envelope == Envelope.MESSAGE else "no envelope")
