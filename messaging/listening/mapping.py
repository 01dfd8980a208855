"""Fields of an envelope from what a hook brought: declared as `header.<name>` or `payload.<JSONPath>`."""

from collections.abc import Mapping
from typing import Any

from endpoints.edge import wire
from endpoints.edge.json_path import path_fault
from endpoints.errors import Malformed
from messaging.intake.fields import CHECKS
from messaging.intake.keys import Document, effort

FIELDS = ("event_type", "message_id", "idempotency_key", "ordering_key", "correlation_id", "recipient")
HEADER = "header"
KEY = "search_keys."
MAX_PATHS = 30
# What shows a secret, or signs with one, is nothing to be copied where viewers read it.
SECRETS = frozenset(
    {"authorization", "cookie", "proxy-authorization", "x-api-key", "x-gitlab-token", "x-webhook-token"}
)


def mapping_faults(fields: Any) -> list[str]:
    """Return what is wrong with a declaration, nothing when it can be used."""
    if not isinstance(fields, dict) or len(fields) > MAX_PATHS:
        return [f"must be an object of at most {MAX_PATHS} fields"]
    faults = []
    for name, place in fields.items():
        is_key = name.startswith(KEY) and 1 <= len(name) - len(KEY) <= 50 and name.isprintable()
        if name not in FIELDS and not is_key:
            faults.append(f"'{name[:50]}' is none of {', '.join(FIELDS)}, {KEY}<name>")
            continue
        kind, _, rest = place.partition(".") if isinstance(place, str) and len(place) <= 300 else ("", "", "")
        if kind == HEADER and rest.lower() in SECRETS:
            faults.append(f"{name}: {rest[:50]} holds a secret")
            continue
        if kind == HEADER and rest:
            continue
        if kind != "payload":
            faults.append(f"{name}: must be header.<name> or payload.<JSONPath>")
            continue
        if fault := path_fault(rest, "payload."):
            faults.append(f"{name}: {fault}")
    return faults


def effort_of(fields: Mapping[str, str], text: bytes) -> int:
    """Return how many bytes must be looked through to find these fields."""
    return effort(
        text, [rest for kind, _, rest in (place.partition(".") for place in fields.values()) if kind != HEADER]
    )


def mapped(fields: Mapping[str, str], headers: Mapping[bytes, bytes], document: Document) -> dict[str, Any]:
    """Return the fields of a draft as far as they are there; raises Malformed for a value that no field can hold."""
    found: dict[str, Any] = {}
    keys: dict[str, str] = {}
    for name, place in fields.items():
        kind, _, rest = place.partition(".")
        text = _header(rest, headers) if kind == HEADER else document.find(rest)
        if not text:
            continue
        if name.startswith(KEY):
            keys[name.removeprefix(KEY)] = text[:200]
            continue
        try:
            found[name] = CHECKS[name](text)
        except ValueError as exc:
            raise Malformed(f"{name}, from {place}: {exc}", code="invalid") from exc
    if keys:
        try:
            found["search_keys"] = CHECKS["search_keys"](keys)
        except ValueError as exc:
            raise Malformed(f"search_keys: {exc}", code="invalid") from exc
    return found


def _header(name: str, headers: Mapping[bytes, bytes]) -> str:
    return wire.text_of(headers.get(name.lower().encode("latin-1", "replace"), b""))
