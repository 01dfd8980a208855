"""The REST face of what is done to a system and its deliveries alike: maintenance, and taking it out of use."""

from dataclasses import asdict
from typing import Any

from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import OpenApiResponse, PolymorphicProxySerializer, extend_schema
from rest_framework import mixins, serializers, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from endpoints import services as registry
from endpoints.access.rest import principal_of
from endpoints.edge import filters as by
from endpoints.models import Maintenance, System
from endpoints.pausing import ResumeSerializer
from endpoints.serializers import Strict, SystemSerializer
from messaging.services import maintenance, retirement

STATES = ("upcoming", "running", "over")


class WindowFields(Strict):
    """When and why; `from` is a word of Python, so its field is put in by hand."""

    until = serializers.DateTimeField(source="ends_at")
    reason = serializers.CharField(required=False, allow_blank=True, default="", max_length=500)

    def get_fields(self) -> Any:
        begins = serializers.DateTimeField(
            source="starts_at", required=False, allow_null=True, default=None, help_text="Default: now."
        )
        return {"from": begins, **super().get_fields()}


class NewWindowSerializer(WindowFields):
    dry_run = serializers.BooleanField(required=False, default=False, help_text="Only say what it would mean.")


class ChangedWindowSerializer(WindowFields):
    def get_fields(self) -> Any:
        found = super().get_fields()
        for field in found.values():
            field.required, field.default, field.allow_null = False, serializers.empty, False
        return found


class WindowPreviewSerializer(serializers.Serializer):
    """What waits now; what will come until the window ends nobody knows. Counts end at 100,000."""

    until = serializers.DateTimeField(source="ends_at")
    waits = serializers.IntegerField(help_text="Deliveries that wait for the system.")
    sending = serializers.IntegerField(help_text="On their way: they end as ever.")
    would_expire = serializers.IntegerField(help_text="Of those that wait: their time to live ends in the window.")
    overlaps = serializers.IntegerField(help_text="Other windows that it would be one with.")

    def get_fields(self) -> Any:
        return {"from": serializers.DateTimeField(source="starts_at"), **super().get_fields()}


class WindowSerializer(serializers.ModelSerializer[Any]):
    """One window."""

    system = serializers.CharField(source="system.slug")
    until = serializers.DateTimeField(source="ends_at")
    state = serializers.SerializerMethodField()

    class Meta:
        model = Maintenance
        fields = ("id", "system", "until", "reason", "state", "created_by", "created_at")
        read_only_fields = fields

    def get_fields(self) -> Any:
        return {"from": serializers.DateTimeField(source="starts_at"), **super().get_fields()}

    def get_state(self, window: Maintenance) -> str:
        """upcoming, running or over."""
        now = timezone.now()
        return STATES[(window.starts_at <= now) + (window.ends_at <= now)]


class EndedSerializer(serializers.Serializer):
    ended = serializers.IntegerField(help_text="How many windows the system was in; they count as one.")


class RetireSerializer(Strict):
    drain = serializers.BooleanField(required=False, default=True, help_text="Deliver what waits; false: cancel it.")
    dry_run = serializers.BooleanField(required=False, default=False, help_text="Only say what hangs on it.")


class RetirementPreviewSerializer(serializers.Serializer):
    """What retiring would end, and whom it touches. Counts end at 100,000."""

    dependents = serializers.ListField(child=serializers.CharField(), help_text="Systems that depend on it.")
    waits = serializers.IntegerField(help_text="Deliveries to it, to be drained or cancelled.")
    sending = serializers.IntegerField()
    dead = serializers.IntegerField(help_text="Unresolved dead letters: they could not be sent again.")
    sent_waiting = serializers.IntegerField(help_text="Deliveries from it that wait for others: they go on.")
    key_count = serializers.IntegerField(help_text="API keys that would be revoked.")
    keys = serializers.ListField(child=serializers.CharField(), help_text="Their names, for those who manage keys.")
    endpoints = serializers.IntegerField()


class OfSystem(viewsets.GenericViewSet[Any]):
    """Something of one system, which the address names."""

    def system(self) -> System:
        """Return the system; raises 404 for one that is not the caller's to see."""
        found: System = get_object_or_404(
            System.objects.visible_to(principal_of(self.request)).select_related("owner"), slug=self.kwargs["slug"]
        )
        return found

    def body(self, shape: type[serializers.Serializer[Any]]) -> dict[str, Any]:
        """Return the validated body."""
        read = shape(data=self.request.data, context=self.get_serializer_context())
        read.is_valid(raise_exception=True)
        return dict(read.validated_data)


class MaintenanceViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, OfSystem):
    """Planned times in which a system is not sent to, and nobody is told of it."""

    resource = "maintenance"
    queryset = Maintenance.objects.select_related("system")
    serializer_class = WindowSerializer
    lookup_value_converter = "uuid"
    filters = {"ahead": by.condition(Q(ends_at__gt=Now()), "Only those that run or are to come, or only others.")}
    orderings = {"from": "starts_at", "until": "ends_at"}
    default_ordering = "-from"

    def get_queryset(self) -> QuerySet[Any]:
        rows = super().get_queryset()
        return rows.filter(system=self.system()) if "slug" in self.kwargs else rows.none()

    @extend_schema(
        request=NewWindowSerializer,
        responses={201: WindowSerializer, 200: OpenApiResponse(WindowPreviewSerializer, "With `dry_run`.")},
    )
    def create(self, request: Request, slug: str) -> Response:
        """Plan a window: deliveries to the system are held in it, with the reason `maintenance`; nothing is spent.

        It begins and ends by itself, on whole seconds; afterwards sends begin slowly, as after a pause.
        """
        system, body, caller = self.system(), self.body(NewWindowSerializer), principal_of(request)
        starts_at, ends_at = body["starts_at"] or timezone.now(), body["ends_at"]
        if body["dry_run"]:
            registry.check_window(starts_at, ends_at, body["reason"], timezone.now())
            return Response(WindowPreviewSerializer(maintenance.preview(system, starts_at, ends_at)).data)
        window = registry.plan_maintenance(system, body["starts_at"], ends_at, body["reason"], by=caller)
        return Response(WindowSerializer(window).data, status=201)

    @extend_schema(request=ChangedWindowSerializer, responses=WindowSerializer)
    def partial_update(self, request: Request, slug: str, pk: Any) -> Response:
        """Change a window that is not over; when it begins only as long as it has not."""
        changed = registry.change_maintenance(
            self.get_object(), by=principal_of(request), **self.body(ChangedWindowSerializer)
        )
        return Response(WindowSerializer(changed).data)

    @extend_schema(responses={200: WindowSerializer, 204: OpenApiResponse(description="It had not begun: deleted.")})
    def destroy(self, request: Request, slug: str, pk: Any) -> Response:
        """End a window now; one that has not begun is deleted."""
        ended = registry.end_maintenance(self.get_object(), by=principal_of(request))
        return Response(status=204) if ended is None else Response(WindowSerializer(ended).data)

    @extend_schema(request=ResumeSerializer, responses=EndedSerializer)
    @action(detail=False, methods=["post"])
    def end(self, request: Request, slug: str) -> Response:
        """End every window that the system is in now."""
        self.body(ResumeSerializer)
        return Response({"ended": registry.end_all_maintenance(self.system(), by=principal_of(request))})


class RetirementViewSet(OfSystem):
    """Taking a system out of use for good."""

    resource = "systems"
    queryset = System.objects.all()
    serializer_class = SystemSerializer

    @extend_schema(
        request=RetireSerializer,
        responses=PolymorphicProxySerializer(
            "Retired", [SystemSerializer, RetirementPreviewSerializer], resource_type_field_name=None
        ),
    )
    def retire(self, request: Request, slug: str) -> Response:
        """Take nothing new to or from it, revoke its keys, deliver (`drain`) or cancel what waits for it."""
        system, body, caller = self.system(), self.body(RetireSerializer), principal_of(request)
        if body["dry_run"]:
            return Response(asdict(retirement.preview(system, caller)))
        registry.retire(system, drain=body["drain"], by=caller)
        return Response(self.get_serializer(system).data)

    @extend_schema(request=ResumeSerializer, responses=SystemSerializer)
    def unretire(self, request: Request, slug: str) -> Response:
        """Put it to use again: its keys stay revoked, what was cancelled stays cancelled."""
        self.body(ResumeSerializer)
        return Response(self.get_serializer(registry.unretire(self.system(), by=principal_of(request))).data)
