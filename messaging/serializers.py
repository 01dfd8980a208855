"""How messages, deliveries and attempts read in the API: the fields, and nothing that the caller may not see."""

import base64
from typing import Any
from uuid import UUID

import orjson
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from endpoints.access.principal import Principal
from messaging.intake.fields import PRIORITIES, PRIORITY_NAMES
from messaging.models import ACK_LEVELS, ERROR_CLASSES, Attempt, Delivery, Message, MessageType, State
from messaging.models import Outcome as AttemptOutcome
from messaging.models import Reason as DeliveryReason
from messaging.models import Trigger as AttemptTrigger
from messaging.payloads import verbatim_json


class TextOrNull(serializers.CharField):
    """Text that is stored as "" and reads as null when there is none."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_null=True, **options)

    def to_representation(self, value: Any) -> Any:
        return value or None


class ChoiceOrNull(serializers.ChoiceField):
    """A choice that is stored as "" and reads as null when there is none."""

    def __init__(self, choices: Any, **options: Any) -> None:
        super().__init__(choices, allow_null=True, **options)

    def to_representation(self, value: Any) -> Any:
        return value or None


class PriorityField(serializers.ChoiceField):
    """A priority by its name; stored as a number, so that the database can order it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(list(PRIORITIES), **options)

    def to_representation(self, value: Any) -> str:
        return PRIORITY_NAMES[value]


class AttemptSerializer(serializers.ModelSerializer[Attempt]):
    """One try, without what was said: as lists show it."""

    delivery = serializers.UUIDField(source="delivery_id", read_only=True)
    endpoint = serializers.UUIDField(source="endpoint_id", read_only=True, allow_null=True)
    outcome = serializers.ChoiceField(AttemptOutcome.choices, read_only=True)
    error_class = ChoiceOrNull(ERROR_CLASSES, read_only=True)
    error = TextOrNull(read_only=True)
    trigger = serializers.ChoiceField(AttemptTrigger.choices, read_only=True)
    phases_ms = serializers.DictField(child=serializers.FloatField(), read_only=True)

    class Meta:
        model = Attempt
        fields = [
            "id",
            "delivery",
            "number",
            "endpoint",
            "started_at",
            "took_ms",
            "phases_ms",
            "outcome",
            "error_class",
            "error",
            "status_code",
            "trigger",
        ]
        read_only_fields = fields


class AttemptDetailSerializer(AttemptSerializer):
    """One try with request and response; their bodies only for those who may read payloads."""

    request = serializers.SerializerMethodField()
    response = serializers.SerializerMethodField()

    class Meta(AttemptSerializer.Meta):
        fields = [*AttemptSerializer.Meta.fields, "request", "response"]

    def get_request(self, attempt: Attempt) -> dict[str, Any] | None:
        """`{"method", "url", "headers"}` with secrets as `$NAME`; `body` only where it is not simply the payload."""
        shown = {name: value for name, value in attempt.request.items() if name != "body" or self._may_read}
        return shown or None

    def get_response(self, attempt: Attempt) -> dict[str, Any] | None:
        """`{"headers", "body" or "body_base64", "truncated"}`; null when nothing came back."""
        if attempt.status_code is None and not attempt.response_headers and attempt.response_body is None:
            return None
        shown: dict[str, Any] = {"headers": attempt.response_headers, "truncated": attempt.response_truncated}
        if self._may_read:
            shown |= _text_or_base64("body", bytes(attempt.response_body or b""))
        return shown

    @property
    def _may_read(self) -> bool:
        principal: Principal = self.context["principal"]
        return principal.may("operator")


class HeadSerializer(serializers.Serializer[Any]):
    """The delivery that holds up an ordering key; without its ids for those who may not see it."""

    delivery = serializers.UUIDField(allow_null=True)
    message_id = serializers.CharField(allow_null=True)
    state = serializers.ChoiceField(State.choices)
    reason = serializers.ChoiceField(DeliveryReason.choices)
    error = TextOrNull()
    since = serializers.DateTimeField()
    due_at = serializers.DateTimeField()
    text = serializers.CharField(help_text="The same in one sentence.")


class DeliverySerializer(serializers.ModelSerializer[Delivery]):
    """One delivery as lists show it. Expects `message`, `source` and `system` to be loaded, and `blocked_by_id`."""

    message_id = serializers.CharField(source="message.message_id", read_only=True)
    source_system = serializers.SlugRelatedField("slug", source="source", read_only=True)  # type: ignore[var-annotated]
    system = serializers.SlugRelatedField("slug", read_only=True)  # type: ignore[var-annotated]
    endpoint = serializers.UUIDField(source="endpoint_id", read_only=True, allow_null=True)
    state = serializers.ChoiceField(State.choices, read_only=True)
    reason = serializers.ChoiceField(DeliveryReason.choices, read_only=True)
    error_class = ChoiceOrNull(ERROR_CLASSES, read_only=True)
    error = TextOrNull(read_only=True)
    ack_level = ChoiceOrNull(ACK_LEVELS, read_only=True)
    priority = PriorityField(read_only=True)
    ordering_key = TextOrNull(read_only=True)
    dead_group = serializers.UUIDField(source="group_id", read_only=True, allow_null=True)
    blocked_by = serializers.SerializerMethodField()

    class Meta:
        model = Delivery
        fields = [
            *("id", "message_id", "source_system", "system", "interface", "endpoint", "state", "reason"),
            *("error_class", "error", "ack_level", "priority", "attempts", "max_attempts"),
            *("due_at", "created_at", "finished_at", "ordering_key", "blocked_by", "halting"),
            *("dead_group", "resolved_at"),
        ]
        read_only_fields = fields

    def get_blocked_by(self, delivery: Delivery) -> UUID | None:
        """The delivery that this one waits behind, of the same ordering key."""
        return getattr(delivery, "blocked_by_id", None) if delivery.reason == DeliveryReason.BLOCKED else None


class DeliveryDetailSerializer(DeliverySerializer):
    """One delivery with its tries, oldest first. Expects `attempts` in the context, and what holds it: `head`."""

    blocked = serializers.SerializerMethodField()
    attempt_list = serializers.SerializerMethodField()

    class Meta(DeliverySerializer.Meta):
        fields = [*DeliverySerializer.Meta.fields, "blocked", "attempt_list"]

    @extend_schema_field(HeadSerializer(allow_null=True))
    def get_blocked(self, delivery: Delivery) -> dict[str, Any] | None:
        """What it waits behind, since when that is so, and why."""
        head = self.context["head"]
        return None if head is None else dict(HeadSerializer(head).data)

    def get_attempt_list(self, delivery: Delivery) -> list[dict[str, Any]]:
        found = AttemptDetailSerializer(self.context["attempts"], many=True, context=self.context)
        return list(found.data)


class MessageSerializer(serializers.ModelSerializer[Message]):
    """The envelope and what came of it, without the payload.

    Expects `source` to be loaded and the deliveries that the caller may see prefetched.
    """

    source_system = serializers.SlugRelatedField("slug", source="source", read_only=True)  # type: ignore[var-annotated]
    target_system = serializers.SerializerMethodField()
    message_type = serializers.ChoiceField(MessageType.choices, read_only=True)
    event_type = TextOrNull(read_only=True)
    priority = PriorityField(read_only=True)
    correlation_id = TextOrNull(read_only=True)
    reply_to = TextOrNull(read_only=True)
    ordering_key = TextOrNull(read_only=True)
    recipient = TextOrNull(read_only=True)
    headers = serializers.DictField(child=serializers.CharField(), read_only=True)
    search_keys = serializers.DictField(child=serializers.CharField(), read_only=True)
    ttl = serializers.FloatField(source="ttl_s", read_only=True, allow_null=True)
    deliveries = DeliverySerializer(many=True, read_only=True)

    class Meta:
        model = Message
        fields = [
            "message_id",
            "source_system",
            "target_system",
            "message_type",
            "event_type",
            "priority",
            "timestamp",
            "content_type",
            "headers",
            "correlation_id",
            "reply_to",
            "ordering_key",
            "recipient",
            "search_keys",
            "ttl",
            "deliver_at",
            "max_retries",
            "position",
            "created_at",
            "size",
            "unrouted",
            "deliveries",
        ]
        read_only_fields = fields

    def get_target_system(self, message: Message) -> str | list[str] | None:
        """As it was sent: one target, a list of them, or null where routes decide."""
        targets = message.targets
        return targets[0] if isinstance(targets, list) and len(targets) == 1 else targets


class MessageDetailSerializer(MessageSerializer):
    """A message with its payload: for those who may read it, after it was audited.

    JSON reads as `payload` with the very bytes that were sent (`1e2` stays `1e2`),
    anything else as `payload_base64`; `payload_removed` says that retention took it.
    """

    payload = serializers.SerializerMethodField()
    payload_base64 = serializers.SerializerMethodField()
    payload_removed = serializers.SerializerMethodField()

    class Meta(MessageSerializer.Meta):
        fields = [*MessageSerializer.Meta.fields, "payload", "payload_base64", "payload_removed"]

    def to_representation(self, instance: Message) -> dict[str, Any]:
        shown: dict[str, Any] = super().to_representation(instance)
        if instance.payload is not None and shown["payload"] is None:
            shown["payload_base64"] = base64.b64encode(bytes(instance.payload)).decode("ascii")
        return shown

    def get_payload(self, message: Message) -> Any:
        return as_json(message)

    def get_payload_base64(self, message: Message) -> str | None:
        return None

    def get_payload_removed(self, message: Message) -> bool:
        return message.payload is None


class LedgerSerializer(serializers.Serializer[Any]):
    """The balance of a span of time."""

    system = serializers.CharField(allow_null=True)
    to = serializers.DateTimeField(source="end")
    expected = serializers.IntegerField(help_text="Deliveries owed, as counted when their messages were accepted.")
    states = serializers.DictField(child=serializers.IntegerField(), help_text="Deliveries there are, by state.")
    purged = serializers.IntegerField(help_text="Deliveries that a job deleted after they had ended.")
    balanced = serializers.BooleanField(help_text="Whether `states` and `purged` sum up to `expected`.")
    dead_unresolved = serializers.IntegerField(help_text="Of the dead ones those that wait for a person.")
    unrouted = serializers.IntegerField(help_text="Messages that matched no target, so that nothing is owed.")

    def get_fields(self) -> dict[str, Any]:
        # `from` is a word of Python's, so it cannot be declared above.
        return {"from": serializers.DateTimeField(source="start"), **super().get_fields()}


def as_json(message: Message) -> orjson.Fragment | None:
    """Return the payload as JSON to be written verbatim, or None when it is not JSON."""
    return None if message.payload is None else verbatim_json(bytes(message.payload), message.content_type)


def _text_or_base64(name: str, body: bytes) -> dict[str, str]:
    try:
        return {name: body.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(body).decode("ascii")}
