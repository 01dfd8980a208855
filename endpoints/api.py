"""The REST face of the registry: parse, call one service, answer."""

from typing import Any

from django.db import transaction
from django.db.models import Prefetch, Q, QuerySet
from django.db.models.functions import Now
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer

from endpoints import pausing, services
from endpoints import serializers as shapes
from endpoints.access.rest import principal_of
from endpoints.edge import filters as by
from endpoints.edge.walks import Order, Walk
from endpoints.health import healthy
from endpoints.models import (
    ApiKey,
    AuditEntry,
    Credential,
    CredentialKind,
    Endpoint,
    EndpointState,
    Health,
    Maintenance,
    Role,
    Stage,
    System,
    SystemKind,
    SystemState,
)

CHANGING = ("update", "partial_update")
MAX_DEPENDENTS = 500
USES = ("deliver", "probe", "test")


class RegistryViewSet(viewsets.ModelViewSet):
    """One kind of row: lists by cursor and filter table, changes through the services."""

    related: tuple[str, ...] = ()

    def get_queryset(self) -> QuerySet[Any]:
        """Return the caller's rows; one that is about to be changed is held, so that no change is lost."""
        rows = super().get_queryset().visible_to(principal_of(self.request))  # type: ignore[attr-defined]
        if self.action in CHANGING:
            return rows.select_for_update(of=("self",))
        return rows.select_related(*self.related) if self.related else rows

    def update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Change the fields given; the others stay as they are."""
        with transaction.atomic():
            return super().update(request, *args, **kwargs)

    def perform_destroy(self, instance: Any) -> None:
        services.delete(instance, by=principal_of(self.request))

    def _read(self, shape: type[Serializer[Any]]) -> dict[str, Any]:
        """Return the validated body of an action."""
        body = shape(data=self.request.data, context=self.get_serializer_context())
        body.is_valid(raise_exception=True)
        return dict(body.validated_data)

    def _shown(self, row: Any) -> Response:
        return Response(self.get_serializer(row).data)


class SystemViewSet(RegistryViewSet):
    """Registered parties: who sends and who receives."""

    resource = "systems"
    queryset = System.objects.all()
    serializer_class = shapes.SystemSerializer
    related = ("owner",)
    lookup_field = "slug"
    filters = {
        "kind": by.choice("kind", SystemKind.values, "What it is."),
        "environment": by.choice("environment", Stage.values, "Where it runs."),
        "state": by.choice("state", SystemState.values),
        "owner": by.one_of("owner__name", "The owning team's name."),
        "tag": by.member("tags", "One of its tags."),
        "capability": by.member("capabilities", "One of its capabilities."),
        "healthy": by.condition(healthy(), "Active, with an enabled endpoint and none known to be ill."),
        "seen_after": by.moment("last_seen_at__gte", "Whose last heartbeat came at or after this time."),
        "seen_before": by.moment("last_seen_at__lt", "Whose last heartbeat came before this time."),
        "q": by.words("slug", "name", "description"),
    }
    orderings = {"slug": "slug", "name": "name", "created_at": "created_at", "updated_at": "updated_at"}
    default_ordering = "slug"

    def get_queryset(self) -> QuerySet[Any]:
        visible = System.objects.visible_to(principal_of(self.request))
        running = Prefetch("maintenances", Maintenance.objects.at(Now()))
        return super().get_queryset().prefetch_related(Prefetch("depends_on", visible), running)

    @extend_schema(request=pausing.SystemPauseSerializer, responses=shapes.SystemSerializer)
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, slug: str) -> Response:
        """Hold every delivery to the system, or to one of its doors; nothing is lost and no attempt is spent."""
        system, body = self.get_object(), self._read(pausing.SystemPauseSerializer)
        if interface := body.pop("interface"):
            services.pause_interface(system, interface, by=principal_of(request), **body)
        else:
            services.pause(system, by=principal_of(request), **body)
        return self._shown(system)

    @extend_schema(request=pausing.SystemResumeSerializer, responses=shapes.SystemSerializer)
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, slug: str) -> Response:
        """Let deliveries go again."""
        system, body = self.get_object(), self._read(pausing.SystemResumeSerializer)
        if body["rate_per_s"] is not None:
            services.drain(system, by=principal_of(request), **body)
        elif body["interface"]:
            services.resume_interface(system, body["interface"], by=principal_of(request))
        else:
            services.resume(system, by=principal_of(request))
        return self._shown(system)

    @extend_schema(request=pausing.PauseSerializer, responses=pausing.EmergencyStopSerializer)
    @action(detail=False, methods=["post"])
    def pause_all(self, request: Request) -> Response:
        """Send nothing to anybody from now on; what is on its way ends, and messages are taken as ever."""
        stop = services.pause_all(by=principal_of(request), **self._read(pausing.PauseSerializer))
        return Response(pausing.EmergencyStopSerializer(stop).data)

    @extend_schema(request=pausing.ResumeSerializer, responses={204: None})
    @action(detail=False, methods=["post"])
    def resume_all(self, request: Request) -> Response:
        """End the emergency stop; what is paused by itself stays paused."""
        self._read(pausing.ResumeSerializer)
        services.resume_all(by=principal_of(request))
        return Response(status=204)

    @extend_schema(responses=shapes.SystemSerializer(many=True), filters=False)
    @action(detail=True, methods=["get"])
    def dependents(self, request: Request, slug: str) -> Response:
        """List the systems that say they depend on this one (at most 500)."""
        system = self.get_object()
        rows = self.get_queryset().filter(depends_on=system).order_by("slug")[:MAX_DEPENDENTS]
        return Response({"next": None, "previous": None, "results": self.get_serializer(rows, many=True).data})


class EndpointViewSet(RegistryViewSet):
    """Addresses of systems, and how to speak to them."""

    resource = "endpoints"
    queryset = Endpoint.objects.all()
    serializer_class = shapes.EndpointSerializer
    related = ("system", "credential", "breaker")
    lookup_value_converter = "uuid"
    filters = {
        "system": by.one_of("system__slug", "The system's slug."),
        "interface": by.one_of("interface", "Which door of the system."),
        "name": by.text("name"),
        "protocol": by.one_of("protocol"),
        "state": by.choice("state", EndpointState.values),
        "health": by.choice("health", Health.values),
        "use": by.member("use", f"One of {', '.join(USES)}."),
        "credential": by.text("credential__name", "The name of its credential."),
        "q": by.words("name", "interface", "host", "path", "system__slug"),
    }
    orderings = {"created_at": "created_at", "updated_at": "updated_at", "system": "system__slug", "name": "name"}
    default_ordering = "system"

    @extend_schema(request=pausing.PauseSerializer, responses=shapes.EndpointSerializer)
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: Any) -> Response:
        """Hold every delivery to this address; its siblings take over."""
        return self._shown(
            services.pause(self.get_object(), by=principal_of(request), **self._read(pausing.PauseSerializer))
        )

    @extend_schema(request=pausing.EndpointResumeSerializer, responses=shapes.EndpointSerializer)
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, pk: Any) -> Response:
        """Let deliveries go again; with a rate, what waits now goes no faster, and an open breaker tries at once."""
        endpoint, rate_per_s = self.get_object(), self._read(pausing.EndpointResumeSerializer)["rate_per_s"]
        if rate_per_s is None:
            services.resume(endpoint, by=principal_of(request))
        else:
            services.drain(endpoint, by=principal_of(request), rate_per_s=rate_per_s)
        return self._shown(endpoint)

    @extend_schema(request=pausing.ResumeSerializer, responses=shapes.EndpointSerializer)
    @action(detail=True, methods=["post"])
    def disable(self, request: Request, pk: Any) -> Response:
        """Expect nothing of this address: without a sibling in use, what waits and what comes is skipped."""
        self._read(pausing.ResumeSerializer)
        return self._shown(services.disable(self.get_object(), by=principal_of(request)))

    @extend_schema(request=pausing.ResumeSerializer, responses=shapes.EndpointSerializer)
    @action(detail=True, methods=["post"])
    def enable(self, request: Request, pk: Any) -> Response:
        """Send to a disabled address again; what was skipped stays skipped."""
        self._read(pausing.ResumeSerializer)
        return self._shown(services.enable(self.get_object(), by=principal_of(request)))

    @extend_schema(request=pausing.ResumeSerializer, responses=shapes.TrialSerializer)
    @action(detail=True, methods=["post"])
    def probe(self, request: Request, pk: Any) -> Response:
        """Ask the endpoint now whether it is there, under the same rules as a delivery."""
        self._read(pausing.ResumeSerializer)
        return Response(services.probe(self.get_object(), by=principal_of(request)).as_dict())


class CredentialViewSet(RegistryViewSet):
    """Stored secrets; what went in as `data` never comes out."""

    resource = "credentials"
    queryset = Credential.objects.defer("data")
    serializer_class = shapes.CredentialSerializer
    related = ("owner",)
    lookup_value_converter = "uuid"
    filters = {
        "kind": by.choice("kind", CredentialKind.values),
        "name": by.text("name"),
        "owner": by.one_of("owner__name", "The owning team's name."),
        "q": by.words("name"),
    }
    orderings = {"name": "name", "created_at": "created_at", "updated_at": "updated_at"}
    default_ordering = "name"

    @extend_schema(request=pausing.ResumeSerializer, responses=shapes.TrialSerializer)
    @action(detail=True, methods=["post"])
    def test(self, request: Request, pk: Any) -> Response:
        """Make what the credential would add to a request; an OAuth 2 client gets its token."""
        self._read(pausing.ResumeSerializer)
        return Response(services.test_credential(self.get_object(), by=principal_of(request)).as_dict())


class KeyViewSet(
    mixins.CreateModelMixin, mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Any]
):
    """API keys of programs."""

    resource = "keys"
    queryset = ApiKey.objects.select_related("team", "system")
    serializer_class = shapes.KeySerializer
    lookup_value_converter = "uuid"
    filters = {
        "role": by.choice("role", Role.values),
        "system": by.one_of("system__slug", "The system it speaks as."),
        "team": by.one_of("team__name"),
        "revoked": by.condition(Q(revoked_at__isnull=False), "Only revoked ones, or only others."),
        "q": by.words("name"),
    }
    orderings = {"created_at": "created_at", "name": "name", "last_used_at": "last_used_at"}
    default_ordering = "-created_at"

    def get_queryset(self) -> QuerySet[Any]:
        return super().get_queryset().visible_to(principal_of(self.request))  # type: ignore[attr-defined]

    @extend_schema(responses={201: shapes.NewKeySerializer})
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Make a key. Its text is in this answer and nowhere else, ever."""
        body = shapes.KeySerializer(data=request.data, context=self.get_serializer_context())
        body.is_valid(raise_exception=True)
        body.save()
        return Response({**body.data, "key": body.plaintext}, status=201)

    @extend_schema(request=pausing.ResumeSerializer, responses=shapes.KeySerializer)
    @action(detail=True, methods=["post"])
    def revoke(self, request: Request, pk: Any) -> Response:
        """Stop a key for good; it is refused everywhere within a second."""
        key = services.revoke_api_key(self.get_object(), by=principal_of(request))
        return Response(self.get_serializer(key).data)


class AuditViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Any]):
    """Who changed or read what, when."""

    resource = "audit"
    queryset = AuditEntry.objects.select_related("team")
    serializer_class = shapes.AuditSerializer
    lookup_value_converter = "uuid"
    filters = {
        "actor": by.text("actor", "Such as user:anna or key:nightly."),
        "via": by.choice("via", ("admin", "api", "command")),
        "action": by.text("action"),
        "object_type": by.text("object_type"),
        "object_id": by.text("object_id"),
        "created_after": by.moment("at__gte", "At or after this time."),
        "created_before": by.moment("at__lt", "Before this time."),
        "q": by.words("actor", "object_label"),
    }
    orderings = {"at": "at"}
    default_ordering = "-at"

    def walk(self, request: Request, order: Order) -> Walk:
        return Walk()  # it is kept for ever: whatever the filters, a page looks at so many entries

    def get_queryset(self) -> QuerySet[Any]:
        return super().get_queryset().visible_to(principal_of(self.request))  # type: ignore[attr-defined]
