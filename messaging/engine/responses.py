"""What receivers answered to requests: each becomes a message of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from endpoints.access.principal import Principal
from endpoints.errors import ControlPlaneError
from endpoints.transports.base import Reply
from messaging import store
from messaging.intake.commit import store_planned
from messaging.intake.directory import DIRECTORY
from messaging.intake.envelope import Draft
from messaging.intake.fields import is_media_type
from messaging.intake.plan import Planned, plan
from messaging.models import MessageType, later_answer_id
from messaging.store import Claim

log = structlog.get_logger(__name__)

ENGINE = Principal(label="engine", role="admin", via="engine")


@dataclass(frozen=True, slots=True)
class Response:
    """What a receiver answered to a `request`: to become a message of its own."""

    claim: Claim
    content_type: str
    body: bytes


def answer_of(claim: Claim, reply: Reply) -> Response | None:
    """Return what a receiver answered to a request, over whichever protocol; None of what is no request, or was cut."""
    if claim.message_type != MessageType.REQUEST or reply.truncated:
        return None
    given = next((value for name, value in reply.headers.items() if name.lower() == "content-type"), "")
    return Response(claim, given if is_media_type(given) else "application/octet-stream", reply.body)


def store_responses(responses: Sequence[Response]) -> None:
    """Accept each answer as a message from the system that gave it; its name comes from the delivery's id.

    Called in the transaction that ends the deliveries, so a round of sending stores one answer at most.
    """
    planned: list[Planned] = []
    names = _names([response.claim for response in responses])
    for response, name in zip(responses, names, strict=True):
        claim = response.claim
        draft = Draft(
            payload=response.body,
            content_type=response.content_type,
            message_id=name,
            source_system=claim.target,
            target_system=[claim.reply_to] if claim.reply_to else [],
            message_type=MessageType.RESPONSE.value,
            event_type=claim.event_type,
            correlation_id=claim.correlation_id or claim.message_id,
        )
        parties = DIRECTORY.look_up({claim.target, claim.reply_to.partition("/")[0]} - {""})
        # An answer that `reply_to` does not take is kept all the same: unrouted, for people to find.
        for targets in (draft.target_system, None):
            draft.target_system = targets
            try:
                planned.append(plan(draft, ENGINE, parties, []))
                break
            except ControlPlaneError as exc:
                log.warning("response_not_accepted", source=claim.target, reply_to=claim.reply_to, error=exc.detail)
    for item, answer in zip(planned, store_planned(planned), strict=True):
        if isinstance(answer, ControlPlaneError):
            name = item.draft.message_id
            log.warning("response_not_accepted", source=item.source.slug, message_id=name, error=answer.detail)


def _names(claims: Sequence[Claim]) -> list[str]:
    """Return the message ids of the answers: what was sent again may have been answered before, and keeps both."""
    tried = [claim for claim in claims if claim.attempts + claim.unspent]
    stored = store.find_messages([(claim.system_id, str(claim.id)) for claim in tried])
    return [
        later_answer_id(claim.id, claim.attempts + claim.unspent + 1)
        if (claim.system_id, str(claim.id)) in stored
        else str(claim.id)
        for claim in claims
    ]
