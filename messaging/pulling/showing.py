"""How a fetched delivery reads: the envelope as its sender gave it, the payload verbatim. Pure."""

import base64
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson

from endpoints.edge import strict_json
from endpoints.errors import Malformed
from endpoints.transports.bodies import is_json
from messaging.intake.fields import PRIORITY_NAMES
from messaging.store import Claim


def answer(claims: Sequence[Claim], until: datetime | None) -> bytes:
    """Return the body that answers a call for an inbox."""
    shown = [
        {
            "delivery_id": str(claim.id),
            "attempt": claim.attempts + claim.unspent + 1,
            "lease_until": until,
            "message": message_of(claim),
        }
        for claim in claims
    ]
    return orjson.dumps({"results": shown}, option=orjson.OPT_UTC_Z)


def message_of(claim: Claim) -> dict[str, Any]:
    """Return the envelope with its payload: JSON as it came, anything else as base64."""
    body = claim.payload or b""
    is_shown = is_json(claim.content_type) and _is_strict(body)
    return {
        "message_id": claim.message_id,
        "source_system": claim.source,
        "target_system": claim.target if claim.interface == "main" else f"{claim.target}/{claim.interface}",
        "message_type": claim.message_type,
        "event_type": claim.event_type or None,
        "priority": PRIORITY_NAMES[claim.priority],
        "timestamp": claim.timestamp,
        "content_type": claim.content_type,
        "headers": claim.headers,
        "correlation_id": claim.correlation_id or None,
        "reply_to": claim.reply_to or None,
        "ordering_key": claim.ordering_key or None,
        "recipient": claim.recipient or None,
        "payload": orjson.Fragment(body) if is_shown else None,
        "payload_base64": None if is_shown else base64.b64encode(body).decode("ascii"),
    }


def _is_strict(body: bytes) -> bool:
    """Say whether it is JSON that every reader takes: a raw body may call itself JSON and not be."""
    try:
        strict_json.parse(body)
    except Malformed:
        return False
    return True
