"""What a caller who waited is told: how each delivery ended, and the answer to a request."""

from typing import Any

from messaging.models import Message, MessageType
from messaging.serializers import DeliverySerializer, MessageDetailSerializer


def outcome_of(message: Message) -> dict[str, Any]:
    """Return `deliveries` and `response` of `?wait=`'s body; the response carries its payload."""
    deliveries = list(message.deliveries.select_related("message", "source", "system").order_by("id"))
    response = (
        Message.objects.filter(
            message_type=MessageType.RESPONSE, message_id__in=[str(delivery.pk) for delivery in deliveries]
        )
        .select_related("source")
        .order_by("position")
        .first()
    )
    return {
        "deliveries": DeliverySerializer(deliveries, many=True).data,
        "response": MessageDetailSerializer(response).data if response else None,
    }
