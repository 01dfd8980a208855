"""The live panels of the dashboard: rendered here once, for the first page and for every push after it."""

from datetime import datetime
from typing import Any

from django.conf import settings
from django.template.loader import render_to_string
from django.utils.module_loading import import_string

from endpoints.access.principal import Principal
from messaging.liveness import is_alive
from messaging.models import Process, State
from messaging.services import incidents
from messaging.services.answer import answer
from messaging.services.overview import Overview, grouped, overview

PANELS = ("answer", "incidents", "numbers", "traffic", "oldest", "waiting", "dead", "slowest", "processes")
MOST_ROWS = 6


def dashboard(principal: Principal, now: datetime) -> dict[str, str]:
    """Return the HTML of every panel by name, as `principal` may see them."""
    context = dashboard_context(overview(principal, now))
    context["incidents"] = incidents.open_incidents(principal)[: MOST_ROWS + 1]
    context["most"] = MOST_ROWS
    panels: dict[str, str] = {name: render_to_string(f"controlplane/panels/{name}.html", context) for name in PANELS}
    for path in settings.DASHBOARD_PANELS:  # of the apps above this one
        panels |= import_string(path)(principal, now)
    return panels


def dashboard_context(seen: Overview) -> dict[str, Any]:
    """Return what the panels show."""
    oldest = sorted(grouped(seen.backlog, State.PENDING, "system"), key=lambda row: row[2])[:MOST_ROWS]
    ages = [(key[0], count, due, (seen.now - due).total_seconds()) for key, count, due in oldest]
    return {
        "seen": seen,
        "answer": answer(seen),
        "pending": seen.total(State.PENDING),
        "sending": seen.total(State.SENDING),
        "dead": seen.total(State.DEAD),
        "oldest": ages,
        "oldest_longest": max((age for *_, age in ages), default=0),
        "waiting": [(key[0], count) for key, count, _ in grouped(seen.backlog, State.PENDING, "reason")],
        "died": [(key[0], count) for key, count, _ in grouped(seen.backlog, State.DEAD, "error_class")],
        "slowest_ms": max((speed.p95_ms for speed in seen.slowest), default=0),
        "processes": [_process(process, seen.now) for process in seen.processes],
    }


def _process(process: Process, now: datetime) -> dict[str, Any]:
    return {
        "role": process.role,
        "pid": process.pid,
        "host": process.host,
        "restarts": process.restarts,
        "state": "running" if is_alive(process, now) else "gone",
        "up_s": (now - process.started_at).total_seconds(),
        "silent_s": (now - process.seen_at).total_seconds(),
    }
