"""Who may do what: one row per resource and action, the same for the API, the admin and the tests.

What is not in the table nobody may do, so a new action without a row is refused
and noticed, never open by accident.
"""

from endpoints.access.principal import ROLES, Principal
from endpoints.errors import Forbidden

_READ = {"list": "viewer", "retrieve": "viewer"}
_WRITE = {"create": "editor", "update": "editor", "partial_update": "editor", "destroy": "editor"}

MAY: dict[str, dict[str, str]] = {
    "systems": {
        **_READ,
        **_WRITE,
        **dict.fromkeys(("pause", "resume"), "operator"),
        **dict.fromkeys(("pause_all", "resume_all"), "admin"),
        **dict.fromkeys(("retire", "unretire"), "editor"),
        "dependents": "viewer",
    },
    "maintenance": {**_READ, **dict.fromkeys(("create", "preview", "partial_update", "destroy", "end"), "operator")},
    "endpoints": {**_READ, **_WRITE, **dict.fromkeys(("pause", "resume", "disable", "enable", "probe"), "operator")},
    "credentials": {**_READ, **_WRITE, "test": "editor"},
    "keys": {"list": "admin", "retrieve": "admin", "create": "admin", "revoke": "admin"},
    "signing-keys": dict.fromkeys(("list", "retrieve", "create", "revoke"), "admin"),
    "listeners": {**_READ, **_WRITE, **dict.fromkeys(("enable", "disable"), "operator")},
    "users": {"list": "admin", "retrieve": "admin", "create": "admin", "update": "admin", "destroy": "admin"},
    "audit": {"list": "admin", "retrieve": "admin"},
    "messages": {**_READ, "create": "operator", "replay": "operator", "read_payload": "operator", "why": "viewer"},
    "deliveries": {**_READ, "resend": "operator", "cancel": "operator", "why": "viewer"},
    # Whose inbox it is decides, whatever the role of a key that is bound to the system.
    "inbox": dict.fromkeys(("inbox", "ack", "nack"), "viewer"),
    "dead-letters": {**_READ, "resolve": "operator"},
    "dead-groups": {**_READ, **dict.fromkeys(("note", "resolve", "try_one"), "operator")},
    "jobs": {**_READ, **dict.fromkeys(("create", "partial_update", "pause", "resume", "cancel"), "operator")},
    "suites": {
        **_READ,
        **dict.fromkeys(("create", "update", "destroy", "import_documents"), "editor"),
        **dict.fromkeys(("check", "export", "diff"), "viewer"),
        **dict.fromkeys(("run", "draft"), "operator"),
    },
    "schedules": {**_READ, **dict.fromkeys(("pause", "resume"), "operator")},
    "packs": {**_READ, "install": "editor", "run": "operator"},
    "runs": {
        **_READ,
        **dict.fromkeys(("cases", "failure"), "viewer"),
        **dict.fromkeys(("cancel", "report", "rerun", "import_results"), "operator"),
    },
    "history": dict.fromkeys(("list", "trend", "compare", "flaky", "slowest", "uncovered"), "viewer"),
    "attempts": {**_READ, "curl": "operator", "read_payload": "operator"},
    "gateway": {"connect": "viewer", "receive": "operator"},
    "ledger": {"list": "viewer"},
    "find": {"list": "viewer"},
    "incidents": {**_READ},
    "notice-targets": {**_READ, **_WRITE, "test": "editor"},
    "metrics": {"list": "viewer"},
    "services": {"list": "viewer"},
    "health": {"list": "viewer"},
    "config": {"list": "admin"},
}


def role_for(resource: str, action: str) -> str | None:
    """Return the least role that may do `action` on `resource`, None when nobody may."""
    return MAY.get(resource, {}).get(action)


def may(principal: Principal, resource: str, action: str) -> bool:
    """Say whether the caller's role suffices for `action` on `resource`."""
    needed = role_for(resource, action)
    return needed is not None and principal.may(needed)


def demand(principal: Principal, role: str) -> None:
    """Raise Forbidden unless the caller has `role`, or more: for services that stand behind several actions."""
    if not principal.may(role):
        raise Forbidden(f"this needs the role {role}")


def require(principal: Principal, resource: str, action: str) -> None:
    """Raise Forbidden, naming the role that is missing, unless the caller may do `action`."""
    if not may(principal, resource, action):
        needed = role_for(resource, action) or ROLES[-1]
        raise Forbidden(f"this takes the role '{needed}', you have '{principal.role}'")
