"""The REST face of incidents: what is broken now, and what was."""

from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import mixins, serializers, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from endpoints.access.rest import principal_of
from endpoints.edge.walks import Order, Walk
from endpoints.models import Incident, Notice
from messaging.filters import INCIDENTS
from messaging.services import incidents


class NoticeRowSerializer(serializers.ModelSerializer[Notice]):
    """Who was told what, when."""

    digest = serializers.SerializerMethodField(help_text="Whether it went out together with others.")

    class Meta:
        model = Notice
        fields = ("id", "kind", "told", "state", "error", "digest", "created_at", "sent_at")
        read_only_fields = fields

    def get_digest(self, notice: Notice) -> bool:
        return notice.carrier_id is not None or len(notice.payload.get("incidents", ())) > 1


class IncidentSerializer(serializers.ModelSerializer[Incident]):
    """An opened-then-resolved period of bad health."""

    system: Any = serializers.SlugRelatedField(slug_field="slug", read_only=True)
    interface = serializers.SerializerMethodField()
    causes = serializers.SerializerMethodField()
    url = serializers.SerializerMethodField(help_text="Its page.")

    class Meta:
        model = Incident
        fields: tuple[str, ...] = (
            *("id", "subject", "label", "system", "interface", "endpoint", "summary", "causes"),
            *("opened_at", "resolved_at", "returns", "parent", "parent_because", "quiet_because"),
            *("told_opened_at", "told_resolved_at", "url"),
        )
        read_only_fields = fields

    def get_interface(self, incident: Incident) -> str | None:
        found: str | None = incident.facts.get("interface")
        return found

    @extend_schema_field({"type": "array", "items": {"type": "object", "additionalProperties": {}}})
    def get_causes(self, incident: Incident) -> list[dict[str, Any]]:
        """Each cause once: `cause since until detail times`."""
        found: list[dict[str, Any]] = incident.causes
        return found

    def get_url(self, incident: Incident) -> str:
        return f"{settings.PUBLIC_URL}/admin/incidents/{incident.pk}/"


class IncidentDetailSerializer(IncidentSerializer):
    """With what waits and what died, the last error, those it speaks for, and who was told."""

    waiting = serializers.SerializerMethodField()
    dead = serializers.SerializerMethodField()
    last_error = serializers.SerializerMethodField()
    owner = serializers.SerializerMethodField()
    contact = serializers.SerializerMethodField()
    runbook_url = serializers.SerializerMethodField()
    children = serializers.SerializerMethodField()
    notices = serializers.SerializerMethodField()

    class Meta(IncidentSerializer.Meta):
        fields = (
            *IncidentSerializer.Meta.fields,
            *("waiting", "dead", "last_error", "owner", "contact", "runbook_url", "children", "notices"),
        )
        read_only_fields = fields

    @property
    def _detail(self) -> incidents.Detail:
        found: incidents.Detail = self.context["detail"]
        return found

    def get_waiting(self, incident: Incident) -> int | None:
        return self._detail.counts.get("waiting")

    def get_dead(self, incident: Incident) -> int | None:
        return self._detail.counts.get("dead")

    def get_last_error(self, incident: Incident) -> str:
        return self._detail.last_error

    def get_owner(self, incident: Incident) -> str | None:
        return incident.system.owner.name if incident.system and incident.system.owner else None

    def get_contact(self, incident: Incident) -> str:
        return incident.system.contact if incident.system else ""

    def get_runbook_url(self, incident: Incident) -> str:
        return incident.system.runbook_url if incident.system else ""

    @extend_schema_field(IncidentSerializer(many=True))
    def get_children(self, incident: Incident) -> Any:
        return IncidentSerializer(self._detail.children, many=True).data

    @extend_schema_field(NoticeRowSerializer(many=True))
    def get_notices(self, incident: Incident) -> Any:
        return NoticeRowSerializer(self._detail.notices, many=True).data


class IncidentViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Any]):
    """What is broken now, and what was; opened and resolved by the monitor alone."""

    resource = "incidents"
    queryset = Incident.objects.all()
    serializer_class = IncidentSerializer
    lookup_value_converter = "uuid"
    filters = INCIDENTS
    orderings = {"opened_at": "opened_at"}
    default_ordering = "-opened_at"

    def walk(self, request: Request, order: Order) -> Walk:
        return Walk()  # history grows: whatever the filters, a page looks at so many

    def get_queryset(self) -> QuerySet[Any]:
        return incidents.incidents(principal_of(self.request))

    @extend_schema(responses=IncidentDetailSerializer)
    def retrieve(self, request: Request, pk: Any) -> Response:
        """Show one incident with all that a person needs to mend it."""
        found = self.get_object()
        context = {**self.get_serializer_context(), "detail": incidents.detail(found, principal_of(request))}
        return Response(IncidentDetailSerializer(found, context=context).data)
