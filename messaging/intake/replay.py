"""A stored message as a draft again: to be sent as a new one, through what the registry says today."""

from collections.abc import Sequence

from endpoints.access.principal import Principal
from endpoints.edge import strict_json
from endpoints.errors import Conflict, ControlPlaneError, Malformed
from endpoints.transports.bodies import is_json
from messaging.intake.directory import DIRECTORY, broadcast_parties
from messaging.intake.envelope import Draft
from messaging.intake.fields import BROADCAST
from messaging.intake.plan import Planned, outline_or_error, slugs_of, take_all_keys
from messaging.models import Message


def draft_of(message: Message, targets: list[str] | None) -> Draft:
    """Return the message as its sender would send it today to `targets` (None: routes decide).

    Its id, its idempotency key and its time of delivery were for the old one; its time to
    live counts anew. The correlation id leads back: the old one's, or else its message id.
    Raises Conflict when retention took the payload.
    """
    if message.payload is None:
        raise Conflict("the payload was removed by retention, there is nothing left to send", code="payload_removed")
    payload = bytes(message.payload)
    return Draft(
        payload=payload,
        content_type=message.content_type,
        source_system=message.source.slug,
        target_system=targets,
        message_type=message.message_type,
        event_type=message.event_type,
        priority=message.priority,
        timestamp=message.timestamp,
        headers=dict(message.headers),
        correlation_id=message.correlation_id or message.message_id,
        reply_to=message.reply_to,
        ordering_key=message.ordering_key,
        recipient=message.recipient,
        search_keys=dict(message.search_keys),
        ttl=message.ttl_s,
        max_retries=message.max_retries,
        value=_value(message.content_type, payload),
    )


def plan_all(drafts: Sequence[Draft | ControlPlaneError], by: Principal) -> list[Planned | ControlPlaneError]:
    """Plan drafts against the registry of this moment; return a plan or the reason against it for each, in order."""
    good = [draft for draft in drafts if isinstance(draft, Draft)]
    parties = DIRECTORY.look_up(set().union(*(slugs_of(draft, by) for draft in good)))
    is_broadcast = any(BROADCAST in (draft.target_system or ()) for draft in good)
    broadcast = broadcast_parties() if is_broadcast else []
    planned = [outline_or_error(draft, by, parties, broadcast) for draft in drafts]
    take_all_keys([item for item in planned if isinstance(item, Planned)])
    return planned


def _value(content_type: str, payload: bytes) -> object:
    """Return the payload as parsed, for the search keys that are declared today; None where it is no JSON."""
    if not is_json(content_type):
        return None
    try:
        return strict_json.parse(payload)
    except Malformed:
        return None
