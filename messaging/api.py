"""The REST face of messages, deliveries and attempts: parse, call one service, answer."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from django.db.models import Q, QuerySet
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, OpenApiTypes, extend_schema
from orjson import Fragment
from rest_framework import mixins, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from endpoints.access import roles
from endpoints.access.rest import principal_of
from endpoints.edge.filters import documented, values
from endpoints.edge.json_api import ExactJSONParser
from endpoints.edge.renderers import ExactJSONRenderer, PlainTextRenderer
from endpoints.edge.walks import Order, Walk
from endpoints.errors import Malformed
from messaging import store, walks
from messaging.filters import ATTEMPTS, DELIVERIES, FIND, LEDGER, MESSAGE, MESSAGES
from messaging.intake.answers import summary
from messaging.intake.envelope import id_of
from messaging.intake.reading import check_batch
from messaging.models import Attempt, Delivery, Message, State
from messaging.openapi import IDEMPOTENCY_KEY, REQUEST, RESPONSES, WAIT
from messaging.serializers import (
    AttemptDetailSerializer,
    AttemptSerializer,
    DeliveryDetailSerializer,
    DeliverySerializer,
    LedgerSerializer,
    MessageDetailSerializer,
    MessageSerializer,
)
from messaging.serializers_jobs import AcceptedSerializer
from messaging.services import curl, deliveries, finding, ledger, lookup, order, sending
from messaging.services.trace import SIZE, trace
from messaging.services.why import as_json, why
from messaging.services.why.asked import why_of
from messaging.shapes import TraceSerializer, WhySerializer

LEDGER_SPAN = timedelta(days=1)


class ReadViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Any]):
    """Lists by cursor and filter table; one row by its id. Serializers are told who asks."""

    lookup_value_converter = "uuid"

    def get_serializer_context(self) -> dict[str, Any]:
        return {**super().get_serializer_context(), "principal": principal_of(self.request)}


class MessageViewSet(ReadViewSet):
    """What was accepted. Without payload in lists; with it, for operators and on the record, one by one."""

    resource = "messages"
    queryset = Message.objects.all()
    serializer_class = MessageSerializer
    lookup_field = "message_id"
    lookup_value_converter = "str"
    filters = MESSAGES
    parser_classes = [ExactJSONParser]
    orderings = {"created_at": "position", "position": "position"}
    default_ordering = "-position"

    def walk(self, request: Request, order: Order) -> Walk:
        return walks.messages(walks.parsed_values(MESSAGES, request), principal_of(request), order)

    def get_queryset(self) -> QuerySet[Message]:
        return lookup.messages(principal_of(self.request))

    @extend_schema(responses=MessageDetailSerializer, parameters=documented(MESSAGE))
    def retrieve(self, request: Request, message_id: str) -> Response:
        """Show one message; several sources may use one id, then `source_system` says which is meant (409)."""
        asked = values(MESSAGE, request)
        found = lookup.message(principal_of(request), message_id, asked.get("source_system"))
        shown: type[BaseSerializer[Any]] = MessageSerializer
        if roles.may(principal_of(request), self.resource, "read_payload"):
            lookup.view_payload(found, by=principal_of(request))
            shown = MessageDetailSerializer
        return Response(shown(found, context=self.get_serializer_context()).data)

    @extend_schema(responses=WhySerializer, parameters=documented(MESSAGE))
    @action(detail=True, methods=["get"])
    def why(self, request: Request, message_id: str) -> Response:
        """Say what became of a message, why, and what to do; also of one that nobody was to get."""
        by, now = principal_of(request), store.now()
        found = lookup.message(by, message_id, values(MESSAGE, request).get("source_system"))
        [message] = finding.messages([found.pk], by)
        return Response(as_json(why_of(message, by, now), now))

    @extend_schema(
        request=REQUEST,
        responses=RESPONSES,
        parameters=[
            OpenApiParameter("wait", WAIT["schema"], description=WAIT["description"]),
            OpenApiParameter("Idempotency-Key", IDEMPOTENCY_KEY["schema"], OpenApiParameter.HEADER),
        ],
    )
    def create(self, request: Request) -> Response:
        """Accept one message, an array or a stream of them; answers once they are stored.

        With `ce-` headers the body is the data of a CloudEvent, of any content type.
        Requests with a key never come here: they are answered in front of Django. This
        is for the session of the pages, which can send objects and arrays of them.
        """
        values({}, request)
        by = principal_of(request)
        if isinstance(request.data, list):
            check_batch(request.data)
            names = [id_of(item) for item in request.data]
            return Response(Fragment(summary(sending.send_many(request.data, by=by), names)), status=202)
        key = request.headers.get("Idempotency-Key")
        named = {} if key is None or not isinstance(request.data, dict) else {"idempotency_key": key}
        return Response(asdict(sending.send({**request.data, **named} if named else request.data, by=by)), status=202)

    @extend_schema(request=None, responses={202: AcceptedSerializer}, parameters=documented(MESSAGE))
    @action(detail=True, methods=["post"])
    def replay(self, request: Request, message_id: str) -> Response:
        """Send a message as a new one: new id, today's targets, correlation to the old one."""
        asked = values(MESSAGE, request)
        found = lookup.message(principal_of(request), message_id, asked.get("source_system"))
        return Response(asdict(sending.replay(found, by=principal_of(request))), status=202)


class DeliveryReadViewSet(ReadViewSet):
    """Deliveries, of any or of one state."""

    queryset = Delivery.objects.all()
    serializer_class = DeliverySerializer
    filters = DELIVERIES
    always: Mapping[str, Any] = {}  # filters that the list has of itself
    # Positions are the order of acceptance; what waits is ordered by when it is due, what ended by when it did.
    orderings = {"created_at": "message_id", "due_at": "due_at", "finished_at": "finished_at"}
    restricted_by = {"due_at": Q(state=State.PENDING), "finished_at": Q(finished_at__isnull=False)}
    default_ordering = "-created_at"

    def walk(self, request: Request, order: Order) -> Walk:
        given = walks.parsed_values(self.filters, request)
        return walks.deliveries({**given, **self.always}, principal_of(request), order)

    def get_queryset(self) -> QuerySet[Delivery]:
        return lookup.deliveries(principal_of(self.request))

    @extend_schema(responses=DeliveryDetailSerializer)
    def retrieve(self, request: Request, pk: str) -> Response:
        """Show one delivery with its tries, oldest first (the latest 200)."""
        found = self.get_object()
        head = order.head_of(found, principal_of(request))
        context = {**self.get_serializer_context(), "attempts": lookup.attempts_of(found), "head": head}
        return Response(DeliveryDetailSerializer(found, context=context).data)


class DeliveryViewSet(DeliveryReadViewSet):
    """What is owed to whom, and what became of it."""

    resource = "deliveries"

    @extend_schema(request=None, responses={202: DeliverySerializer})
    @action(detail=True, methods=["post"])
    def resend(self, request: Request, pk: str) -> Response:
        """Send a finished delivery again, with its original bytes, outside the order."""
        return self._accepted(deliveries.resend(self.get_object(), by=principal_of(request)))

    @extend_schema(request=None, responses={202: DeliverySerializer})
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        """Give up a delivery that waits, or a dead one that the next of its ordering key waits for."""
        return self._accepted(deliveries.cancel(self.get_object(), by=principal_of(request)))

    @extend_schema(responses=WhySerializer)
    @action(detail=True, methods=["get"])
    def why(self, request: Request, pk: str) -> Response:
        """Say where it is, since when, what it waits for or died of, how many others do, and what to do."""
        now = store.now()
        return Response(as_json(why(self.get_object(), principal_of(request), now), now))

    def _accepted(self, delivery: Delivery) -> Response:
        return Response(self.get_serializer(delivery).data, status=202)


class AttemptViewSet(ReadViewSet):
    """Every try of every delivery."""

    resource = "attempts"
    queryset = Attempt.objects.all()
    serializer_class = AttemptSerializer
    filters = ATTEMPTS
    orderings = {"started_at": "id"}
    default_ordering = "-started_at"

    def walk(self, request: Request, order: Order) -> Walk:
        return walks.attempts(walks.parsed_values(ATTEMPTS, request), principal_of(request), order)

    def get_queryset(self) -> QuerySet[Attempt]:
        found = lookup.attempts(principal_of(self.request))
        return found.defer("request", "response_headers", "response_body") if self.action == "list" else found

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        return AttemptSerializer if self.action == "list" else AttemptDetailSerializer

    @extend_schema(responses={(200, "text/plain"): OpenApiResponse(OpenApiTypes.STR, "A shell line.")})
    @action(detail=True, renderer_classes=[PlainTextRenderer, ExactJSONRenderer])
    def curl(self, request: Request, pk: str) -> Response:
        """Write the attempt as a curl line, with secrets as `$NAME`; reading it is audited like the payload in it."""
        return Response(
            curl.line_for(self.get_object(), by=principal_of(request)), content_type="text/plain; charset=utf-8"
        )


class LedgerView(viewsets.ViewSet):
    """The balance: what was to be delivered, what became of it, whether that adds up."""

    resource = "ledger"

    @extend_schema(responses=LedgerSerializer, parameters=documented(LEDGER))
    def list(self, request: Request) -> Response:
        """Balance a span of time, by default the last day."""
        asked = values(LEDGER, request)
        end = asked.get("to") or timezone.now()
        start = asked.get("from") or end - LEDGER_SPAN
        if start >= end:
            raise Malformed(
                "from must be before to", errors=[{"field": "from", "code": "invalid", "detail": "not before to"}]
            )
        return Response(LedgerSerializer(ledger.balance(principal_of(request), start, end, asked.get("system"))).data)


class FindView(viewsets.ViewSet):
    """Where is it? Everything known by an id or a key, hop by hop across the systems."""

    resource = "find"

    @extend_schema(responses=TraceSerializer, parameters=documented(FIND))
    def list(self, request: Request) -> Response:
        """Trace an id of a message or delivery, a correlation id, an ordering key, or a business key (order=4711)."""
        asked, now = values(FIND, request), store.now()
        if "q" not in asked:
            detail = "give what to look for"
            raise Malformed(f"q: {detail}", errors=[{"field": "q", "code": "required", "detail": detail}])
        found = trace(asked["q"], principal_of(request), now, asked.get("before"), asked.get("page_size", SIZE))
        return Response(TraceSerializer(found, context={"now": now, "url": request.build_absolute_uri()}).data)
