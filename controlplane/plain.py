"""The plain endpoints: whether the process lives, whether it can work, and what it can say of itself."""

from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from drf_spectacular.utils import OpenApiTypes, extend_schema
from rest_framework import generics, serializers
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from controlplane.env_table import VARIABLES, Variable
from endpoints.access.rest import principal_of
from endpoints.edge import filters as edge_filters
from endpoints.edge.exceptions import problem_response
from endpoints.edge.renderers import PlainTextRenderer
from endpoints.errors import Overloaded
from endpoints.models import EndpointState, Health, Stage, System
from messaging.services import metrics, status

MASK = "***"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
WORST_FIRST = (Health.DOWN, Health.DEGRADED, Health.STALE, Health.HEALTHY)


def healthz(request: HttpRequest) -> HttpResponse:
    """Say that the process answers; touches nothing else, so that a slow database does not get it restarted."""
    return JsonResponse({"status": "ok"})


def readyz(request: HttpRequest) -> HttpResponse:
    """Say whether requests can be served: the database answers and has the tables this code expects."""
    try:
        connection.ensure_connection()
        demand_migrated()
    except DatabaseError:
        return problem_response(Overloaded("the database does not answer", code="not_ready", retry_after_s=5))
    except Overloaded as exc:
        return problem_response(exc)
    return JsonResponse({"status": "ready"})


@cache
def demand_migrated() -> None:
    """Raise Overloaded unless every migration is applied; once they are, they stay so while this code runs."""
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        raise Overloaded("the database lacks migrations: run `controlplane migrate`", code="not_ready")


class PlainView(APIView):
    """A read-only view without query parameters; its row of the role table is (`resource`, list)."""

    resource = ""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        edge_filters.refuse_unknown(request, ())


class HealthView(PlainView):
    resource = "health"

    @extend_schema(responses=OpenApiTypes.OBJECT, operation_id="health")
    def get(self, request: Request) -> Response:
        """Say how the installation is; the same as `controlplane status --json`."""
        return Response(status.status())


class MetricsView(PlainView):
    resource = "metrics"

    @extend_schema(responses=OpenApiTypes.OBJECT, operation_id="metrics")
    def get(self, request: Request) -> Response:
        """Give the numbers of `/metrics` as JSON: `{name: [{label: value, ..., "value": number}]}`."""
        return Response(metrics.as_dict(metrics.families(principal_of(request))))


class TextWhateverIsAsked(BaseContentNegotiation):
    """Scrapers list formats that we do not write and take plain text all the same."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


class PrometheusView(PlainView):
    resource = "metrics"
    renderer_classes = [PlainTextRenderer]
    content_negotiation_class = TextWhateverIsAsked
    schema = None

    def get(self, request: Request) -> Response:
        """Give the numbers in the text format of Prometheus, whatever is asked for."""
        return Response(metrics.as_prometheus(metrics.families(principal_of(request))), content_type=PROMETHEUS)


class ServiceSerializer(serializers.ModelSerializer[System]):
    """A system in one line: what it is and how its endpoints are."""

    environment = serializers.ChoiceField(Stage.choices, read_only=True)
    health = serializers.SerializerMethodField()

    class Meta:
        model = System
        fields = ["slug", "name", "kind", "environment", "version", "state", "health"]
        read_only_fields = fields

    def get_health(self, system: System) -> str:
        """The worst health of its enabled endpoints."""
        found = {row.known_health for row in system.endpoints.all() if row.state == EndpointState.ENABLED}
        return next((health.value for health in WORST_FIRST if health in found), Health.UNKNOWN.value)


class ServicesView(generics.ListAPIView[System]):
    """Every registered system and its health, page by page."""

    resource = "services"
    queryset = System.objects.all()
    serializer_class = ServiceSerializer
    detail = False
    filters: dict[str, edge_filters.Filter] = {}
    orderings = {"slug": "slug", "name": "name"}
    default_ordering = "slug"

    def get_queryset(self) -> Any:
        return System.objects.visible_to(principal_of(self.request)).prefetch_related("endpoints__breaker")


class ConfigView(PlainView):
    resource = "config"

    @extend_schema(responses=OpenApiTypes.OBJECT, operation_id="config")
    def get(self, request: Request) -> Response:
        """Give the effective settings: `{name: {"value", "is_default", "help"}}`, secrets masked."""
        return Response({variable.name: _shown(variable) for variable in VARIABLES})


def _shown(variable: Variable) -> dict[str, Any]:
    value = getattr(settings.ENV, variable.field)
    if variable.secret and value:
        value = MASK
    return {
        "value": str(value) if isinstance(value, Path) else value,
        "is_default": variable.name not in settings.ENV.given,
        "help": variable.help,
    }


urlpatterns = [
    path("healthz", healthz),
    path("readyz", readyz),
    path("metrics", PrometheusView.as_view()),
    path("api/health", HealthView.as_view()),
    path("api/metrics", MetricsView.as_view()),
    path("api/services", ServicesView.as_view()),
    path("api/config", ConfigView.as_view()),
]
