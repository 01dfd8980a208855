"""Incidents as they are read: which are open, and all that a person needs who opens one at night."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet

from endpoints.access.principal import Principal
from endpoints.models import Breaker, Incident, Notice, NoticeKind, NoticeTarget, System
from messaging.models import RARE, UNSETTLED, WAITS_ITS_TURN, Attempt, Delivery, State

MOST_COUNTED = 5_000
MOST_SHOWN = 50
MOST_LOOKED_AT = 100
SAID_BYTES = 2_000


def incidents(principal: Principal) -> QuerySet[Any]:
    """Return the incidents a caller may see: of its teams' systems, of nobody's, and of our own processes."""
    return Incident.objects.visible_to(principal).select_related("system__owner", "endpoint")


def open_incidents(principal: Principal) -> QuerySet[Any]:
    """Return those that are open, the latest first."""
    return incidents(principal).filter(resolved_at__isnull=True).order_by("-opened_at", "-id")


# What each cause means, and what to do: read at night by someone who did not build this.
EXPLAINS = {
    "breaker": "Sends to it kept failing, so they are held back: nothing is lost and no attempt is spent. One delivery "
    "is tried from time to time; as soon as one goes through, all the others follow.",
    "late": "Deliveries to it are due and do not go out, or not fast enough. They are kept and go as soon as they can.",
    "dead": "Many deliveries to it were given up within minutes. They are kept as dead letters until somebody sends "
    "them again or says that nothing is to be done.",
    "gone": "It answered 410, which means that it is gone for good, so it was paused. Correct its address and resume "
    "it, or retire it; what waits is kept.",
    "dying": "This process of the control plane is started again and again and ends each time. Its log says why.",
    "silent": "This process of the control plane has stopped answering and nothing took its place. Start it again.",
}


SAID = {
    "breaker": "Sends kept failing and are held back",
    "late": "What is due did not go out",
    "dead": "Many deliveries died",
    "gone": "Answered 410 and was paused",
    "dying": "Kept dying",
    "silent": "Not seen any more",
}


@dataclass(frozen=True, slots=True)
class Event:
    """One line of an incident's timeline."""

    at: datetime
    tone: str  # ok | wait | bad | info | muted
    text: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Detail:
    """One incident with what is around it."""

    incident: Incident
    breaker: Breaker | None = None
    children: Sequence[Incident] = ()
    notices: Sequence[Notice] = ()
    counts: dict[str, int] = field(default_factory=dict)  # waiting, dead; up to MOST_COUNTED
    last_error: str = ""
    last_error_at: datetime | None = None
    last_said: str = ""  # by the receiver, to who may read payloads
    told_at: datetime | None = None  # when somebody heard of it; one that joined another in silence, nobody did

    @property
    def explanations(self) -> list[str]:
        """What is wrong in plain language: of what is there now, or of what was."""
        there = [entry for entry in self.incident.causes if entry["until"] is None] or self.incident.causes
        return [EXPLAINS[entry["cause"]] for entry in there if entry["cause"] in EXPLAINS]

    @property
    def timeline(self) -> list[Event]:
        """What happened, oldest first."""
        row = self.incident
        found = [Event(row.opened_at, "bad", "Opened")]
        for entry in row.causes:
            times = f", {entry['times']} times" if entry.get("times", 1) > 1 else ""
            since = datetime.fromisoformat(entry["since"])
            found.append(Event(since, "bad", f"{SAID[entry['cause']]}{times}", entry.get("detail", "")))
            if entry["until"]:
                found.append(
                    Event(datetime.fromisoformat(entry["until"]), "wait", f"No longer: {SAID[entry['cause']]}")
                )
        if row.broken_since != row.opened_at:
            found.append(Event(row.broken_since, "bad", "Came back"))
        for notice in self.notices:
            how = " (in a digest)" if notice.carrier_id else ""
            how += " (with the one that spoke for it)" if notice.incident_id != row.pk else ""
            if notice.sent_at:
                found.append(Event(notice.sent_at, "info", f"Told {notice.told}: {notice.kind}{how}"))
            elif notice.error:
                text = f"Not told {notice.told}: {notice.kind}{how}"
                found.append(Event(notice.created_at, "wait", text, notice.error))
        if row.resolved_at:
            found.append(Event(row.resolved_at, "ok", "Resolved", str(row.facts.get("ended", ""))))
        return sorted(found, key=lambda event: event.at)


def detail(incident: Incident, principal: Principal) -> Detail:
    """Return all about one incident, as `principal` may see it."""
    breaker = Breaker.objects.filter(pk=incident.endpoint_id).first() if incident.endpoint_id else None
    children = incidents(principal).filter(parent=incident).order_by("opened_at", "id")[:MOST_SHOWN]
    notices = _about(incident).select_related("target", "carrier")
    error, at = _last_error(incident, breaker)
    return Detail(
        incident=incident,
        breaker=breaker,
        children=list(children),
        notices=[row for row in notices.order_by("created_at", "id")[:MOST_SHOWN] if _may_see(row, principal)],
        counts=counts(incident),
        last_error=error,
        last_error_at=at,
        last_said=_last_said(breaker) if breaker is not None and principal.may("operator") else "",
        told_at=incident.told_opened_at if _was_told(incident) else None,
    )


def counts(incident: Incident) -> dict[str, int]:
    """Return how many wait and how many lie dead at the interface, up to `MOST_COUNTED`."""
    interface = incident.facts.get("interface")
    if incident.system_id is None or interface is None:
        return {}
    own = Q(system_id=incident.system_id, interface=interface)
    rows = {
        "waiting": Delivery.objects.filter(own, UNSETTLED, state=State.PENDING),
        "dead": Delivery.objects.filter(own, RARE, state=State.DEAD, resolved_at__isnull=True),
    }
    return {name: found.order_by().values("pk")[:MOST_COUNTED].count() for name, found in rows.items()}


def of_system(system: System, principal: Principal) -> list[Incident]:
    """Return the open incidents of one system."""
    return list(open_incidents(principal).filter(system=system)[:MOST_SHOWN])


def count_open(principal: Principal | None = None) -> int:
    """Return how many incidents are open, of those that `principal` may see, or of all."""
    rows = Incident.objects.all() if principal is None else Incident.objects.visible_to(principal)
    return rows.filter(resolved_at__isnull=True).order_by().count()


def has_targets() -> bool:
    """Say whether anybody is told at all."""
    return NoticeTarget.objects.exists()


def _about(incident: Incident) -> QuerySet[Notice]:
    """Return the notices that told of it: its own, and those of the one that speaks for it since it is broken."""
    spoken_for = Q(incident=incident.parent_id, created_at__gte=incident.broken_since)
    return Notice.objects.filter(Q(incident=incident) | spoken_for if incident.parent_id else Q(incident=incident))


def _was_told(incident: Incident) -> bool:
    """Say whether a notice told of it: who joined another in silence is marked as told, but only that one was."""
    return incident.parent_id is None or _about(incident).filter(kind=NoticeKind.OPENED).exists()


def _may_see(notice: Notice, principal: Principal) -> bool:
    """Say whether it was for the principal's team; whose a deleted target was, only those know who see every team."""
    if notice.target is None:
        return principal.team_ids is None
    return principal.sees_team(notice.target.team_id)


def _last_said(breaker: Breaker) -> str:
    """Return what the endpoint answered to the delivery that failed last, if that is text."""
    tried = Attempt.objects.filter(delivery=breaker.last_failed).order_by("-number", "-id")
    body = tried.values_list("response_body", flat=True).first() if breaker.last_failed else None
    text = bytes(body or b"")[:SAID_BYTES].decode(errors="replace").strip()
    return "" if "\ufffd" in text[:-1] else text


def _last_error(incident: Incident, breaker: Breaker | None) -> tuple[str, datetime | None]:
    """Return what the endpoint's latest failure said: of its breaker, else of a delivery that died or waits."""
    if breaker is not None and breaker.error_class:
        return f"{breaker.error_class.replace('_', ' ')}: {breaker.error}", breaker.tried_at
    interface = incident.facts.get("interface")
    if incident.system_id is None or interface is None:
        return "", None
    own: Any = Delivery.objects.filter(system_id=incident.system_id)
    dead = own.filter(RARE, state=State.DEAD).order_by("-message_id")
    waiting = own.filter(WAITS_ITS_TURN, interface=interface).order_by("-priority", "due_at")
    for rows in (waiting, dead):  # the first along an index: one that failed is among them, or it says nothing
        for row in rows.only("interface", "error_class", "error", "finished_at")[:MOST_LOOKED_AT]:
            if row.interface == interface and row.error_class:
                return f"{row.error_class.replace('_', ' ')}: {row.error}", row.finished_at
    return "", None
