"""What to do next: one row an action, each as a request, a command and a page; only what the caller may do."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from endpoints.access import roles
from endpoints.access.principal import Principal
from messaging.models import State
from messaging.services.why.facts import (
    BREAKER,
    DISABLED,
    INTERFACE,
    MAINTENANCE,
    NO_ENDPOINT,
    NO_PROCESS,
    STOP,
    SYSTEM,
    Action,
    Facts,
)
from messaging.services.why.rows import row_of

API = "/api/v1"


def message_url(position: int, delivery: str = "") -> str:
    """Return the page of a message, at one of its deliveries."""
    return f"/admin/messaging/message/{position}/change/" + (f"#{delivery}" if delivery else "")


def _job(action: str, label: str, wanted: dict[str, str]) -> Action:
    given = " ".join(f"--filter {name}={value}" for name, value in wanted.items())
    query = urlencode({"action": action, **wanted})
    return Action(
        action,
        label,
        "POST",
        f"{API}/jobs/",
        {"action": action, "filter": wanted},
        f"controlplane jobs create {action} {given}",
        f"/admin/jobs/new/?{query}",
    )


def _one(facts: Facts) -> dict[str, str]:
    """Return the filter that finds this delivery alone."""
    return {
        "message_id": facts.message_id,
        "source_system": facts.source,
        "system": facts.system,
        "interface": facts.interface,
    }


def _same(facts: Facts) -> dict[str, str]:
    return {"state": facts.state, "reason": facts.reason, "system": facts.system, "interface": facts.interface}


def _on_delivery(name: str, verb: str, label: str, facts: Facts) -> Action:
    return Action(
        name,
        label,
        "POST",
        f"{API}/deliveries/{facts.delivery}/{verb}/",
        url=message_url(facts.position, facts.delivery),
    )


def _on_head(name: str, verb: str, label: str, states: tuple[str, ...]) -> Callable[[Facts], Action | None]:
    def made(facts: Facts) -> Action | None:
        head = facts.behind
        if head is None or not head.delivery or not head.position or head.state not in states:
            return None
        page = message_url(head.position, head.delivery)
        return Action(name, label, "POST", f"{API}/deliveries/{head.delivery}/{verb}/", url=page)

    return made


def _why_head(facts: Facts) -> Action | None:
    head = facts.behind
    if head is None or not head.delivery or not head.position:
        return None
    path = f"{API}/deliveries/{head.delivery}/why/"
    page = message_url(head.position, head.delivery)
    return Action("why_head", "why the head", "GET", path, {}, f"controlplane why {head.delivery}", page)


def _retry_head(facts: Facts) -> Action | None:
    head = facts.behind
    if head is None or not head.message_id or head.state != State.PENDING:
        return None
    found = _job("retry_now", "retry the head now", {**_one(facts), "message_id": head.message_id})
    return Action("retry_head", found.label, found.method, found.path, found.body, found.command, found.url)


def _resume(name: str, kind: str, path: str, target: str) -> Callable[[Facts], Action | None]:
    def made(facts: Facts) -> Action | None:
        if facts.hold(kind) is None or not (facts.owner.is_seen or kind == STOP):
            return None
        named = target.format(f=facts)
        body = {"interface": facts.interface} if kind == INTERFACE else {}
        page = "/admin/" if kind == STOP else f"/admin/systems/{facts.system}/"
        label = "resume everything" if kind == STOP else f"resume {named}"
        return Action(name, label, "POST", API + path.format(f=facts), body, f"controlplane resume {named}", page)

    return made


def _see_endpoint(facts: Facts) -> Action | None:
    hold = facts.hold(BREAKER)
    endpoint = (hold.endpoint if hold else "") or facts.endpoint
    if not endpoint or not facts.owner.is_seen:
        return None
    page = f"/admin/endpoints/endpoint/{endpoint}/change/"
    return Action("see_endpoint", "see the endpoint", "GET", f"{API}/endpoints/{endpoint}/", url=page)


def _enable(facts: Facts) -> Action | None:
    hold = facts.hold(DISABLED)
    if hold is None or not hold.endpoint:
        return None
    page = f"/admin/endpoints/endpoint/{hold.endpoint}/change/"
    return Action("enable", "enable the endpoint", "POST", f"{API}/endpoints/{hold.endpoint}/enable/", url=page)


def _register(facts: Facts) -> Action | None:
    if facts.hold(NO_ENDPOINT) is None or not facts.owner.is_seen:
        return None
    page = f"/admin/systems/{facts.system}/#connect"
    return Action("register_endpoint", "register an endpoint", "POST", f"{API}/endpoints/", url=page)


def _start(facts: Facts) -> Action | None:
    if facts.hold(NO_PROCESS) is None:
        return None
    return Action("start", "start delivering", command="controlplane up", url="/admin/")


def _group(facts: Facts) -> Action | None:
    if not facts.dead_group:
        return None
    page = f"/admin/dead-letters/{facts.dead_group}/"
    path = f"{API}/dead-letters/?dead_group={facts.dead_group}"
    return Action("dead_group", "see all of this cause", "GET", path, url=page)


def _system(facts: Facts) -> Action | None:
    if not facts.owner.is_seen:
        return None
    page = f"/admin/systems/{facts.system}/"
    return Action("see_system", f"see {facts.system}", "GET", f"{API}/systems/{facts.system}/", url=page)


def _pause(facts: Facts) -> Action | None:
    if not facts.owner.is_seen or facts.hold(SYSTEM):
        return None
    path, command = f"{API}/systems/{facts.system}/pause/", f"controlplane pause {facts.system}"
    return Action("pause_system", f"pause {facts.system}", "POST", path, {}, command, f"/admin/systems/{facts.system}/")


def _maintenance(facts: Facts) -> Action | None:
    if not facts.owner.is_seen or facts.hold(MAINTENANCE) is None:
        return None
    page, path = f"/admin/systems/{facts.system}/maintenance/", f"{API}/systems/{facts.system}/maintenance/end/"
    command = f"controlplane maintenance {facts.system} --end"
    return Action("end_maintenance", "end the maintenance", "POST", path, {}, command, page)


def _resend(facts: Facts) -> Action | None:
    return None if facts.is_removed or facts.is_retired else _on_delivery("resend", "resend", "send again", facts)


# Of each action: what is asked of the role table, and how it is made (None: it does not fit).
ACTIONS: dict[str, tuple[str, str, Callable[[Facts], Action | None]]] = {
    "retry_now": ("jobs", "create", lambda f: _job("retry_now", "retry now", _one(f))),
    "retry_all": (
        *("jobs", "create"),
        lambda f: (
            None
            if f.others is None or not f.others.count
            else _job("retry_now", f"retry all {f.others.text}", _same(f))
        ),
    ),
    "cancel": ("deliveries", "cancel", lambda f: _on_delivery("cancel", "cancel", "cancel", f)),
    "skip": (
        *("deliveries", "cancel"),
        lambda f: _on_delivery("skip", "cancel", "skip it", f) if f.is_halting else None,
    ),
    "resend": ("deliveries", "resend", _resend),
    "resolve": ("jobs", "create", lambda f: None if f.resolved_at else _job("resolve", "resolve", _one(f))),
    "why_head": ("deliveries", "why", _why_head),
    "retry_head": ("jobs", "create", _retry_head),
    "resend_head": ("deliveries", "resend", _on_head("resend_head", "resend", "send the head again", (State.DEAD,))),
    "skip_head": (
        *("deliveries", "cancel"),
        _on_head("skip_head", "cancel", "skip head", (State.DEAD, State.PENDING)),
    ),
    "resume_all": ("systems", "resume_all", _resume("resume_all", STOP, "/systems/resume_all/", "--all")),
    "resume_system": (
        *("systems", "resume"),
        _resume("resume_system", SYSTEM, "/systems/{f.system}/resume/", "{f.system}"),
    ),
    "resume_interface": (
        *("systems", "resume"),
        _resume("resume_interface", INTERFACE, "/systems/{f.system}/resume/", "{f.system}/{f.interface}"),
    ),
    "end_maintenance": ("maintenance", "end", _maintenance),
    "see_endpoint": ("endpoints", "retrieve", _see_endpoint),
    "see_system": ("systems", "retrieve", _system),
    "see_message": (
        *("messages", "retrieve"),
        lambda f: Action(
            "see_message",
            "see the message",
            "GET",
            f"{API}/deliveries/{f.delivery}/",
            url=message_url(f.position, f.delivery),
        ),
    ),
    "pause_system": ("systems", "pause", _pause),
    "enable": ("endpoints", "enable", _enable),
    "register_endpoint": ("endpoints", "create", _register),
    "start": ("deliveries", "list", _start),
    "dead_group": ("dead-letters", "list", _group),
}


def actions(facts: Facts, principal: Principal) -> tuple[Action, ...]:
    """Return what the principal may do about it, the nearest first."""
    row = row_of(facts)
    # What holds it besides its own reason is as good a place to begin.
    extra = (
        ("resume_all", "resume_system", "resume_interface", "end_maintenance") if facts.state == State.PENDING else ()
    )
    found = []
    for name in dict.fromkeys((*row.todo, *extra)):
        resource, verb, make = ACTIONS[name]
        action = make(facts) if roles.may(principal, resource, verb) else None
        if action is not None:
            found.append(action)
    return tuple(found)


def as_json(action: Action) -> dict[str, Any]:
    """Return an action as the API gives it."""
    return {
        "name": action.name,
        "label": action.label,
        "method": action.method or None,
        "path": action.path or None,
        "body": action.body or None,
        "command": action.command or None,
        "url": action.url or None,
    }
