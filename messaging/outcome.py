"""What a caller who waited is told: how each delivery ended, and the answer to a request."""

from collections.abc import Sequence
from typing import Any

from messaging.models import Delivery, Message, MessageType, later_answer_id
from messaging.serializers import DeliverySerializer, MessageDetailSerializer


def outcome_of(message: Message) -> dict[str, Any]:
    """Return `deliveries` and `response` of `?wait=`'s body; the response carries its payload."""
    deliveries = list(message.deliveries.select_related("message", "source", "system").order_by("id"))
    response = _response(deliveries)
    return {
        "deliveries": DeliverySerializer(deliveries, many=True).data,
        "response": MessageDetailSerializer(response).data if response else None,
    }


def _response(deliveries: Sequence[Delivery]) -> Message | None:
    """Return what was answered first; of a request that was sent again and answered anew, the last that was said."""
    names = {
        delivery.pk: (later_answer_id(delivery.pk, delivery.attempts + delivery.unspent), str(delivery.pk))
        for delivery in deliveries
    }
    answers = Message.objects.filter(
        message_type=MessageType.RESPONSE, message_id__in=[name for pair in names.values() for name in pair]
    )
    found = {answer.message_id: answer for answer in answers.select_related("source")}
    told = [found[name] for last, first in names.values() if (name := last if last in found else first) in found]
    return min(told, key=lambda answer: answer.position, default=None)
