"""How the answers of why and find read in the API."""

from typing import Any

from rest_framework import serializers
from rest_framework.utils.urls import replace_query_param

from messaging.services.trace import Trace
from messaging.services.why.marks import plain


class MarkedField(serializers.CharField):
    """What is said, with its times in UTC."""

    def to_representation(self, value: Any) -> str:
        return plain(value, self.context["now"])


class ActionSerializer(serializers.Serializer[Any]):
    """One thing to do next; only what the caller may do is listed."""

    name = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]
    method = serializers.CharField(allow_null=True)
    path = serializers.CharField(allow_null=True)
    body = serializers.DictField(allow_null=True)
    command = serializers.CharField(allow_null=True)
    url = serializers.CharField(allow_null=True, help_text="The page to do it on.")


class WhySerializer(serializers.Serializer[Any]):
    """Where it is, since when, what it waits for or died of, and what to do about it."""

    text = serializers.CharField(help_text="All of it in one paragraph, times in UTC.")
    short = serializers.CharField(help_text="In one line.")
    state = serializers.CharField(help_text="Of the delivery; `unrouted` or `kept` of a message that has none.")
    reason = serializers.CharField()
    since = serializers.DateTimeField()
    facts = serializers.DictField(help_text="What the paragraph says, field by field.")
    actions = ActionSerializer(many=True)


class StepSerializer(serializers.Serializer[Any]):
    """One delivery of a hop."""

    id = serializers.UUIDField(source="delivery.pk")
    system = serializers.CharField(source="delivery.system.slug")
    interface = serializers.CharField(source="delivery.interface")
    state = serializers.CharField(source="delivery.state")
    reason = serializers.CharField(source="delivery.reason")
    text = MarkedField(source="marked", help_text="Why, in one line.")


class HopSerializer(serializers.Serializer[Any]):
    """One message, what it was found by, and what came of it."""

    position = serializers.IntegerField(source="message.pk")
    message_id = serializers.CharField(source="message.message_id")
    source_system = serializers.CharField(source="message.source.slug")
    message_type = serializers.CharField(source="message.message_type")
    event_type = serializers.CharField(source="message.event_type")
    correlation_id = serializers.CharField(source="message.correlation_id")
    search_keys = serializers.DictField(source="message.search_keys", child=serializers.CharField())
    created_at = serializers.DateTimeField(source="message.created_at")
    payload_removed = serializers.BooleanField(source="message.is_removed")
    found_by = serializers.ListField(child=serializers.CharField())
    text = MarkedField(source="marked")
    gaps = serializers.ListField(child=serializers.CharField())
    deliveries = StepSerializer(source="steps", many=True)


class TraceSerializer(serializers.Serializer[Any]):
    """Every hop that shares a key, in order of time; the newest of them, `next` leads to older ones."""

    query = serializers.CharField()
    text = MarkedField(source="marked")
    hops = HopSerializer(many=True)
    gaps = serializers.ListField(child=MarkedField(), help_text="What did not come.")
    hidden = serializers.IntegerField(help_text="Hops of other teams.")
    kept_since = serializers.DateTimeField(allow_null=True, help_text="Older messages were removed by retention.")
    other_keys = serializers.SerializerMethodField(help_text="Business keys of these messages that were not followed.")
    next = serializers.SerializerMethodField()

    def get_other_keys(self, found: Trace) -> list[str]:
        return [f"{name}={value}" for name, value in found.keys]

    def get_next(self, found: Trace) -> str | None:
        url: str = self.context["url"]
        return None if found.before is None else replace_query_param(url, "before", str(found.before))
