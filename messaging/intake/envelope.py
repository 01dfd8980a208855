"""What a sender says of a message: read from one JSON object, or from the headers beside a raw body."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from typing import Any

from endpoints.edge import strict_json
from endpoints.edge.numerals import decimal
from endpoints.errors import ControlPlaneError, Malformed
from endpoints.transports.bodies import is_json
from messaging.intake.fields import CHECKS, check_content_type, check_target
from messaging.models import MessageType, Priority


@dataclass(slots=True)
class Draft:
    """A message as its sender described it, checked field by field; nothing of it is looked up yet."""

    payload: bytes
    content_type: str = "application/json"
    message_id: str = ""
    source_system: str = ""
    target_system: list[str] | None = None
    message_type: str = MessageType.EVENT.value
    event_type: str = ""
    priority: int = Priority.NORMAL.value
    timestamp: datetime | None = None
    headers: dict[str, str] = field(default_factory=dict)
    correlation_id: str = ""
    reply_to: str = ""
    ordering_key: str = ""
    recipient: str = ""
    search_keys: dict[str, str] = field(default_factory=dict)
    ttl: float | None = None
    deliver_at: datetime | None = None
    max_retries: int | None = None
    idempotency_key: str = ""
    value: Any = None  # the payload as parsed, where there was JSON; for search keys

    def fingerprint(self) -> bytes:
        """Return 16 bytes that differ when what was sent differs.

        The timestamp stays out: a sender that tries again may well stamp anew.
        """
        told = (
            self.content_type,
            self.target_system,
            self.message_type,
            self.event_type,
            self.priority,
            sorted(self.headers.items()),
            self.correlation_id,
            self.reply_to,
            self.ordering_key,
            self.recipient,
            sorted(self.search_keys.items()),
            self.ttl,
            self.deliver_at,
            self.max_retries,
        )
        return hashlib.blake2b(self.payload, digest_size=16, key=hashlib.sha256(repr(told).encode()).digest()).digest()


class Unreadable(Malformed):
    """A message with fields at fault, and the id that it gives itself, if that is none of them."""

    def __init__(self, errors: list[dict[str, str]], message_id: str | None) -> None:
        told = "; ".join(f"{error['field']}: {error['detail']}" for error in errors[:5])
        super().__init__(told, code="invalid", errors=errors)
        self.message_id = message_id


FIELDS = frozenset((*CHECKS, "payload"))
MAX_ERRORS = 10  # then the rest is not looked at: a body of a million unknown fields must not cost a minute


def read_message(data: Any) -> Draft:
    """Return the draft that one JSON object describes; raises Malformed naming every field at fault."""
    if not isinstance(data, dict):
        raise Malformed("a message must be a JSON object")
    known: dict[str, Any] = {}
    errors: list[dict[str, str]] = []
    for name, value in data.items():
        if len(errors) == MAX_ERRORS:
            break
        if name == "payload" or value is None:
            if name not in FIELDS:
                errors.append(_unknown(name))
            continue
        check = CHECKS.get(name)
        if check is None:
            errors.append(_unknown(name))
            continue
        try:
            known[name] = check(value)
        except ValueError as exc:
            errors.append({"field": name, "code": "invalid", "detail": str(exc)})
    _read_payload(data, known, errors)
    if errors:
        raise Unreadable(errors, id_of(data))
    return Draft(**known)


def id_of(data: Any) -> str | None:
    """Return the id that a message gives itself, if that can be read, whatever else is wrong with it."""
    given = data.get("message_id") if isinstance(data, dict) else None
    try:
        return None if given is None else str(CHECKS["message_id"](given))
    except ValueError:
        return None


def name_of(item: Draft | ControlPlaneError) -> str | None:
    """Return the id that a message gives itself, as far as it could be read."""
    return getattr(item, "message_id", None) or None


def _read_payload(data: dict[str, Any], known: dict[str, Any], errors: list[dict[str, str]]) -> None:
    """Put the payload's bytes into `known`, from whichever of the two fields holds it."""
    value, binary = data.get("payload"), known.pop("payload_base64", None)
    if value is not None and binary is not None:
        errors.append(
            {"field": "payload_base64", "code": "invalid", "detail": "give payload or payload_base64, not both"}
        )
    elif value is not None:
        known["payload"], known["value"] = strict_json.dumps(value), value
    elif binary is not None:
        known["payload"] = binary
        known.setdefault("content_type", "application/octet-stream")
    elif data.get("payload_base64") is None:
        errors.append({"field": "payload", "code": "required", "detail": "give payload or payload_base64"})


def _unknown(name: str) -> dict[str, str]:
    near = get_close_matches(name, FIELDS, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return {"field": name[:100], "code": "unknown", "detail": f"is not a field of a message{hint}"}


# The envelope in headers, for senders that post a raw body.
HEADER_FIELDS = {
    "x-source-system": "source_system",
    "x-message-id": "message_id",
    "x-message-type": "message_type",
    "x-event-type": "event_type",
    "x-priority": "priority",
    "x-correlation-id": "correlation_id",
    "x-ordering-key": "ordering_key",
    "x-ttl": "ttl",
    "idempotency-key": "idempotency_key",
}


def read_raw(body: bytes, headers: Mapping[str, str], target: str) -> Draft:
    """Return the draft of a raw body posted to `target`, byte for byte; its envelope is in the headers.

    Raises Malformed. A body that calls itself JSON must be strict JSON.
    """
    known: dict[str, Any] = {}
    errors: list[dict[str, str]] = []
    for header, name in HEADER_FIELDS.items():
        text = headers.get(header)
        if text is None:
            continue
        try:
            known[name] = CHECKS[name](decimal(text) if name == "ttl" else text)
        except ValueError as exc:
            errors.append({"field": header, "code": "invalid", "detail": str(exc)})
    if headers.get("idempotency-key") == "":
        errors.append({"field": "idempotency-key", "code": "invalid", "detail": "must not be empty"})
    try:
        known["target_system"] = [check_target(target)]
    except ValueError as exc:
        errors.append({"field": "target", "code": "invalid", "detail": str(exc)})
    try:
        known["content_type"] = check_content_type(headers.get("content-type") or "application/octet-stream")
    except ValueError as exc:
        errors.append({"field": "content-type", "code": "invalid", "detail": str(exc)})
    if errors:
        raise Malformed(
            "; ".join(f"{error['field']}: {error['detail']}" for error in errors), code="invalid", errors=errors
        )
    if is_json(known["content_type"]):
        known["value"] = strict_json.parse(body)
    return Draft(payload=body, **known)
