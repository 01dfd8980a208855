"""The REST face of dead letters: one by one, and by their cause."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from endpoints.access.rest import principal_of
from messaging.api import DeliveryReadViewSet, ReadViewSet
from messaging.filters import DEAD_GROUPS, DEAD_LETTERS
from messaging.models import ERROR_CLASSES, DeadGroup, Delivery, State
from messaging.serializers import ChoiceOrNull, DeliverySerializer, TextOrNull
from messaging.services import dead_groups
from messaging.services.order import blocked_by

SIGNATURE = "The error text without its varying parts; what the answer's body said follows, for those who may read it."


class DeadGroupSerializer(serializers.ModelSerializer[DeadGroup]):
    """One cause: what is dead of it, who is to be asked, what was said about it. Expects `principal` in the context."""

    system = serializers.SlugRelatedField("slug", read_only=True)  # type: ignore[var-annotated]
    error_class = ChoiceOrNull(ERROR_CLASSES, read_only=True)
    signature = serializers.CharField(source="shown", read_only=True, help_text=SIGNATURE)
    resolved = serializers.SerializerMethodField()
    came_back = serializers.BooleanField(read_only=True, help_text="It was resolved, and has come up again since.")
    owner = serializers.SerializerMethodField()
    contact = TextOrNull(source="system.contact", read_only=True)
    runbook_url = TextOrNull(source="system.runbook_url", read_only=True)
    note = TextOrNull(read_only=True)
    noted_by = TextOrNull(read_only=True)
    resolved_by = TextOrNull(read_only=True)

    class Meta:
        model = DeadGroup
        fields = [
            *("id", "system", "interface", "error_class", "signature", "count", "first_at", "last_at", "example"),
            *("owner", "contact", "runbook_url", "note", "noted_by", "noted_at"),
            *("resolved", "resolved_at", "resolved_by", "came_back"),
        ]
        read_only_fields = fields

    def get_resolved(self, group: DeadGroup) -> bool:
        return group.count == 0

    def get_owner(self, group: DeadGroup) -> str | None:
        return group.system.owner.name if group.system.owner else None


class DeadGroupDetailSerializer(DeadGroupSerializer):
    """One cause with its newest dead letters. Expects `examples` in the context."""

    examples = serializers.SerializerMethodField()

    class Meta(DeadGroupSerializer.Meta):
        fields = [*DeadGroupSerializer.Meta.fields, "examples"]

    def get_examples(self, group: DeadGroup) -> list[dict[str, Any]]:
        return list(DeliverySerializer(self.context["examples"], many=True, context=self.context).data)


class NoteSerializer(serializers.Serializer[Any]):
    """What to say about a cause."""

    note = serializers.CharField(max_length=2000, allow_blank=True, trim_whitespace=True)


class ResolvedSerializer(serializers.Serializer[Any]):
    """What came of resolving a cause."""

    resolved = serializers.IntegerField(help_text="Dead letters that are done with now.")
    left = serializers.IntegerField(help_text="Those still unresolved.")
    job = serializers.UUIDField(allow_null=True, help_text="The job that resolves them, where they are many.")
    halting = serializers.IntegerField(help_text="Those for which the next of their key waits: send again or cancel.")


class DeadLetterViewSet(DeliveryReadViewSet):
    """Deliveries whose policy gave up, with the reason."""

    resource = "dead-letters"
    filters = DEAD_LETTERS
    always = {"state": [State.DEAD]}
    orderings = {"created_at": "message_id", "finished_at": "finished_at"}

    def get_queryset(self) -> QuerySet[Delivery]:
        return super().get_queryset().filter(state=State.DEAD)

    @extend_schema(request=None, responses=DeliverySerializer)
    @action(detail=True, methods=["post"])
    def resolve(self, request: Request, pk: str) -> Response:
        """Say that nothing is to be done about it any more; retention may remove it in its time."""
        return Response(self.get_serializer(dead_groups.resolve(self.get_object(), by=principal_of(request))).data)


class DeadGroupViewSet(ReadViewSet):
    """Dead letters by their cause: one interface, one error class, one error text but for what varies in it."""

    resource = "dead-groups"
    queryset = DeadGroup.objects.all()
    serializer_class = DeadGroupSerializer
    filters = DEAD_GROUPS
    orderings = {"last_at": "last_at", "count": "count"}
    default_ordering = "-last_at"

    def get_queryset(self) -> QuerySet[DeadGroup]:
        return dead_groups.groups(principal_of(self.request))

    @extend_schema(responses=DeadGroupDetailSerializer)
    def retrieve(self, request: Request, pk: str) -> Response:
        """Show one cause with its newest dead letters."""
        return self._detail(self.get_object())

    @extend_schema(request=NoteSerializer, responses=DeadGroupDetailSerializer)
    @action(detail=True, methods=["post"])
    def note(self, request: Request, pk: str) -> Response:
        """Leave a note for the next who looks at this cause; an empty one takes it back."""
        asked = NoteSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        return self._detail(dead_groups.note(self.get_object(), asked.validated_data["note"], by=principal_of(request)))

    @extend_schema(request=None, responses=ResolvedSerializer)
    @action(detail=True, methods=["post"])
    def resolve(self, request: Request, pk: str) -> Response:
        """Say that nothing is to be done about what is dead of this cause now; a new one opens it again."""
        return Response(ResolvedSerializer(dead_groups.resolve_all(self.get_object(), by=principal_of(request))).data)

    @extend_schema(request=None, responses={202: DeliverySerializer})
    @action(detail=True, methods=["post"], url_path="try")
    def try_one(self, request: Request, pk: str) -> Response:
        """Send the newest of them again, alone: to see whether the cause is gone before all are sent."""
        tried = dead_groups.try_one(self.get_object(), by=principal_of(request))
        return Response(DeliverySerializer(tried, context=self.get_serializer_context()).data, status=202)

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        return DeadGroupSerializer

    def _detail(self, group: DeadGroup) -> Response:
        by = principal_of(self.request)
        found = list(dead_groups.examples(group, by).annotate(blocked_by_id=blocked_by(by)))
        context = {**self.get_serializer_context(), "examples": found}
        return Response(DeadGroupDetailSerializer(group, context=context).data)
