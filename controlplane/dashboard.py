"""What the admin's frame shows around every page: the dashboard's panels, the menu, the marks."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy
from django.utils import timezone

from endpoints.edge.model_pages import may, principal_of
from messaging import panels
from messaging.services import dead_groups, incidents

TONES = {"development": "info", "staging": "warning", "production": "danger"}


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add the dashboard's panels to the admin's front page; the same that are pushed live afterwards."""
    context["panels"] = panels.dashboard(principal_of(request), timezone.now())
    context["title"] = "Dashboard"
    return context


def environment(request: HttpRequest) -> list[str]:
    """Return the label in the corner that says where one is."""
    return [settings.ENVIRONMENT, TONES.get(settings.ENVIRONMENT, "info")]


def mark(request: HttpRequest) -> str:
    return static("controlplane/mark.svg")


def style(request: HttpRequest) -> str:
    return static("controlplane/pages.css")


def suites_style(request: HttpRequest) -> str:
    return static("controlplane/suites.css")


def script(request: HttpRequest) -> str:
    return static("controlplane/pages.js")


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the menu as the visitor's role allows: nothing is listed that would answer 403."""
    groups = [
        {
            "title": title,
            "separator": bool(title),
            "items": [_item(*row[:3], badge=_badge(request, row[3])) for row in rows if may(request, *row[3:])],
        }
        for title, rows in MENU
    ]
    return [group for group in groups if group["items"]]


def _item(title: str, icon: str, link: Any, badge: str = "") -> dict[str, Any]:
    return {"title": title, "icon": icon, "link": link, "badge": badge, "badge_variant": "danger"}


def _badge(request: HttpRequest, resource: str) -> str:
    """Return the number that stands behind an entry of the menu, "" for most."""
    count = BADGES[resource](principal_of(request)) if resource in BADGES else 0
    return f"{count:,}" if count else ""


def _list(model: str) -> Any:
    return reverse_lazy(f"admin:{model}_changelist")


# What of a resource waits for a person.
BADGES = {"dead-groups": dead_groups.in_groups, "incidents": incidents.count_open}
# Groups of (title, icon, link, resource, action): the last two are a row of the role table.
MENU: list[tuple[str, list[tuple[str, str, Any, str, str]]]] = [
    (
        "",
        [
            ("Dashboard", "monitoring", reverse_lazy("admin:index"), "deliveries", "list"),
            ("Find", "search", reverse_lazy("pages:find"), "find", "list"),
            ("Incidents", "notification_important", reverse_lazy("pages:incidents"), "incidents", "list"),
            ("Deliveries", "local_shipping", _list("messaging_delivery"), "deliveries", "list"),
            ("Dead letters", "healing", reverse_lazy("pages:dead-letters"), "dead-groups", "list"),
            ("Messages", "mail", _list("messaging_message"), "messages", "list"),
            ("Live stream", "stream", reverse_lazy("pages:stream"), "messages", "list"),
            ("Jobs", "playlist_play", reverse_lazy("pages:jobs"), "jobs", "list"),
            ("Send a message", "send", reverse_lazy("pages:send"), "messages", "create"),
        ],
    ),
    (
        "Suites",
        [
            ("Schedules", "schedule", _list("testing_schedule"), "schedules", "list"),
            ("Suites", "science", reverse_lazy("suites:suites"), "suites", "list"),
            ("Runs", "fact_check", reverse_lazy("suites:runs"), "runs", "list"),
            ("Suite health", "monitor_heart", reverse_lazy("suites:health"), "history", "list"),
            ("Packs", "inventory_2", reverse_lazy("suites:packs"), "packs", "list"),
        ],
    ),
    (
        "Registry",
        [
            ("Systems", "hub", _list("endpoints_system"), "systems", "list"),
            ("Endpoints", "lan", _list("endpoints_endpoint"), "endpoints", "list"),
            ("Listeners", "input", _list("messaging_listener"), "listeners", "list"),
            ("Credentials", "lock", _list("endpoints_credential"), "credentials", "list"),
        ],
    ),
    (
        "Access",
        [
            ("API keys", "vpn_key", _list("endpoints_apikey"), "keys", "list"),
            ("Signing keys", "draw", _list("endpoints_signingkey"), "signing-keys", "list"),
            ("People", "person", _list("auth_user"), "users", "list"),
            ("Teams", "group", _list("auth_group"), "users", "list"),
            ("Audit", "history", _list("endpoints_auditentry"), "audit", "list"),
        ],
    ),
]
