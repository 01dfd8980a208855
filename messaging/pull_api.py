"""What the API document says of inboxes; requests with a key are answered in front of Django, and never come here."""

from typing import Any

from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from endpoints.errors import Forbidden
from messaging.intake.fields import PRIORITIES
from messaging.models import MessageType, Reason, State
from messaging.pulling.words import DEFAULTS, MAX_REASON, MAX_RESULTS, MAX_WAIT_S


class FetchedMessageSerializer(serializers.Serializer[Any]):
    """The envelope and its payload: JSON as it was sent, anything else as base64."""

    message_id = serializers.CharField()
    source_system = serializers.CharField()
    target_system = serializers.CharField()
    message_type = serializers.ChoiceField(MessageType.choices)
    event_type = serializers.CharField(allow_null=True)
    priority = serializers.ChoiceField(list(PRIORITIES))
    timestamp = serializers.DateTimeField()
    content_type = serializers.CharField()
    headers = serializers.DictField(child=serializers.CharField())
    correlation_id = serializers.CharField(allow_null=True)
    reply_to = serializers.CharField(allow_null=True)
    ordering_key = serializers.CharField(allow_null=True)
    recipient = serializers.CharField(allow_null=True)
    payload = serializers.JSONField(allow_null=True)
    payload_base64 = serializers.CharField(allow_null=True)


class FetchedSerializer(serializers.Serializer[Any]):
    """One delivery, yours until `lease_until`."""

    delivery_id = serializers.UUIDField()
    attempt = serializers.IntegerField(help_text="Say it in the ack: it names this lease.")
    lease_until = serializers.DateTimeField()
    message = FetchedMessageSerializer()


class InboxSerializer(serializers.Serializer[Any]):
    """What is leased to the caller; empty when there is nothing now."""

    results = FetchedSerializer(many=True)


class AckSerializer(serializers.Serializer[Any]):
    """All of it may be left out; `payload` answers a `request`."""

    attempt = serializers.IntegerField(required=False, min_value=1, help_text="Which lease is meant.")
    payload = serializers.JSONField(required=False, allow_null=True)
    payload_base64 = serializers.CharField(required=False)
    content_type = serializers.CharField(required=False)


class NackSerializer(serializers.Serializer[Any]):
    """All of it may be left out."""

    attempt = serializers.IntegerField(required=False, min_value=1, help_text="Which lease is meant.")
    reason = serializers.CharField(required=False, max_length=MAX_REASON)
    retry_after_s = serializers.FloatField(
        required=False, min_value=0, help_text="Not before; the schedule may wait longer."
    )


class StandingSerializer(serializers.Serializer[Any]):
    """How the delivery stands now."""

    delivery_id = serializers.UUIDField()
    state = serializers.ChoiceField(State.choices)
    reason = serializers.ChoiceField(Reason.choices)
    due_at = serializers.DateTimeField(allow_null=True)


LEASE_LOST = {409: OpenApiResponse(description="The lease is over: `lease_lost`.")}


class InboxViewSet(viewsets.ViewSet):
    """For systems that cannot be called: they fetch, and acknowledge. For keys and tokens; a session holds no lease."""

    resource = "inbox"

    @extend_schema(
        responses=InboxSerializer,
        parameters=[
            OpenApiParameter("interface", str, description=f"Which door; by default {DEFAULTS['interface']}."),
            OpenApiParameter(
                "max", int, description=f"At most so many, 1 to {MAX_RESULTS}; by default {DEFAULTS['max']}."
            ),
            OpenApiParameter(
                "wait", float, description=f"Wait so many seconds for the first (at most {MAX_WAIT_S:g})."
            ),
        ],
    )
    def inbox(self, request: Request, slug: str) -> Response:
        """Lease deliveries to the caller, in the usual order; each is to be acknowledged before its lease ends."""
        raise _needs_key()

    @extend_schema(request=AckSerializer, responses={200: StandingSerializer, **LEASE_LOST})
    def ack(self, request: Request, pk: Any) -> Response:
        """Say that a fetched delivery was taken, with the answer if it was a request; saying it twice is fine."""
        raise _needs_key()

    @extend_schema(request=NackSerializer, responses={200: StandingSerializer, **LEASE_LOST})
    def nack(self, request: Request, pk: Any) -> Response:
        """Say that a fetched delivery could not be taken; it is tried again by its endpoint's schedule, or dies."""
        raise _needs_key()


def _needs_key() -> Forbidden:
    return Forbidden("fetch with an API key or a token: a session holds no lease", code="key_required")
