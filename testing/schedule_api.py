"""The REST face of schedules: when suites run by themselves; what they are stands in the suites' documents."""

from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import mixins, serializers, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from endpoints.access.rest import principal_of
from endpoints.edge import filters as by
from endpoints.edge.strict_shape import Strict
from testing.models import Schedule
from testing.services import schedules

SHOWN = 5


class ScheduleSerializer(serializers.ModelSerializer[Schedule]):
    """When a suite runs by itself, as its document says."""

    suite: Any = serializers.SlugRelatedField(slug_field="slug", read_only=True)
    triggers = serializers.ListField(child=serializers.CharField(), read_only=True)
    next_ticks = serializers.SerializerMethodField(help_text="The next five; none while it is paused.")

    class Meta:
        model = Schedule
        fields = [
            *("id", "suite", "cron", "timezone", "overlap", "missed", "triggers", "next_at", "next_ticks", "last_at"),
            *("paused_at", "paused_by", "pause_reason", "acts_for", "created_at", "updated_at"),
        ]
        read_only_fields = fields

    @extend_schema_field({"type": "array", "items": {"type": "string", "format": "date-time"}})
    def get_next_ticks(self, schedule: Schedule) -> list[datetime]:
        return list(schedules.coming(schedule, SHOWN))


class SchedulePauseSerializer(Strict):
    """Why."""

    reason = serializers.CharField(required=False, allow_blank=True, default="", max_length=500)


class ScheduleViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Any]):
    """Schedules of suites; change a suite's document to change its schedule."""

    resource = "schedules"
    queryset = Schedule.objects.all()
    serializer_class = ScheduleSerializer
    lookup_value_converter = "uuid"
    filters = {
        "suite": by.one_of("suite__slug", "The suite's slug."),
        "paused": by.condition(Q(paused_at__isnull=False), "Whether it is paused."),
    }
    orderings = {"created_at": "id"}
    default_ordering = "-created_at"

    def get_queryset(self) -> QuerySet[Schedule]:
        return Schedule.objects.visible_to(principal_of(self.request)).select_related("suite")

    @extend_schema(request=SchedulePauseSerializer, responses=ScheduleSerializer)
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: str) -> Response:
        """Begin no run by itself until it is resumed; runs by hand are as before."""
        body = SchedulePauseSerializer(data=request.data or {})
        body.is_valid(raise_exception=True)
        paused = schedules.pause(self.get_object(), body.validated_data["reason"], by=principal_of(request))
        return Response(self.get_serializer(paused).data)

    @extend_schema(request=None, responses=ScheduleSerializer)
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, pk: str) -> Response:
        """Go on with the next tick; those that passed meanwhile are not made up for."""
        return Response(self.get_serializer(schedules.resume(self.get_object(), by=principal_of(request))).data)
