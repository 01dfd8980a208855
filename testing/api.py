"""The REST face of suites and runs: parse, call one service, answer."""

from io import BytesIO
from typing import Any

from django.contrib.auth.models import Group
from django.db.models import QuerySet
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer

from endpoints.access.rest import principal_of
from endpoints.edge import filters as by
from endpoints.edge.streaming import streamed
from endpoints.edge.walks import Order, Walk
from endpoints.errors import Malformed
from testing import serializers as shapes
from testing import walks
from testing.documents_api import DocumentActions
from testing.filters import RUNS, SUITES
from testing.models import Run, Suite
from testing.parsers import RawReport
from testing.reports import FORMATS
from testing.services import imports, reruns, results, runs, suites


class SuiteViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, DocumentActions):
    """Suites: documents that say how systems must behave together."""

    resource = "suites"
    queryset = Suite.objects.all()
    lookup_field = "slug"
    lookup_value_converter = "slug"
    filters = SUITES
    orderings = {"slug": "slug", "created_at": "created_at", "updated_at": "updated_at"}
    default_ordering = "slug"

    def get_queryset(self) -> QuerySet[Suite]:
        return Suite.objects.visible_to(principal_of(self.request)).select_related("owner")

    def get_serializer_class(self) -> type[Serializer[Any]]:
        return shapes.SuiteSerializer if self.action == "list" else shapes.SuiteDetailSerializer

    @extend_schema(request=shapes.NewSuiteSerializer, responses={201: shapes.SuiteDetailSerializer})
    def create(self, request: Request) -> Response:
        """Store a new suite; a document with faults is refused (422), each with its line and column."""
        body = self._body(shapes.NewSuiteSerializer)
        made = suites.create(body["text"], by=principal_of(request), owner=body["owner"])
        return Response(self.get_serializer(made).data, status=201)

    @extend_schema(request=shapes.DocumentSerializer, responses=shapes.SuiteDetailSerializer)
    def update(self, request: Request, slug: str) -> Response:
        """Store a new version; runs remember the one they ran."""
        body = self._body(shapes.DocumentSerializer)
        return Response(
            self.get_serializer(suites.change(self.get_object(), body["text"], by=principal_of(request))).data
        )

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, slug: str) -> Response:
        """Delete a suite; its runs are kept."""
        suites.delete(self.get_object(), by=principal_of(request))
        return Response(status=204)

    @extend_schema(request=shapes.DocumentSerializer, responses=shapes.CheckedSerializer)
    @action(detail=False, methods=["post"])
    def check(self, request: Request) -> Response:
        """Say what is wrong with a document (422), or what it comes to; nothing is stored."""
        found = suites.check(self._body(shapes.DocumentSerializer)["text"])
        told = {"suite": found.slug, "title": found.title, "case_runs": found.case_runs}
        return Response(shapes.CheckedSerializer(told).data)

    @extend_schema(request=shapes.WishSerializer, responses={202: shapes.RunSerializer})
    @action(detail=True, methods=["post"])
    def run(self, request: Request, slug: str) -> Response:
        """Start a run; a worker takes it within a second."""
        body = shapes.WishSerializer(data=request.data or {})
        body.is_valid(raise_exception=True)
        made = runs.start(self.get_object(), body.wish(), by=principal_of(request))
        return Response(shapes.RunSerializer(made).data, status=202)

    def _body(self, shape: type[Serializer[Any]]) -> dict[str, Any]:
        body = shape(data=self.request.data)
        body.is_valid(raise_exception=True)
        return dict(body.validated_data)


IMPORT = {
    "suite": by.text("slug", "What it is a run of; without it, the report's own name decides."),
    "owner": by.text("owner", "Whose it is to be: one of your teams."),
}


class RunViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Any]):
    """Runs of suites, newest first."""

    resource = "runs"
    queryset = Run.objects.all()
    lookup_value_converter = "uuid"
    filters = RUNS
    orderings = {"created_at": "id"}  # ids grow as the clock does
    default_ordering = "-created_at"

    def walk(self, request: Request, order: Order) -> Walk:
        return walks.runs(by.parsed(RUNS, request, by.read), principal_of(request), order)

    def get_queryset(self) -> QuerySet[Run]:
        return Run.objects.visible_to(principal_of(self.request)).select_related("document")

    def get_serializer_class(self) -> type[Serializer[Any]]:
        return shapes.RunSerializer if self.action == "list" else shapes.RunDetailSerializer

    @extend_schema(request=None, responses=shapes.RunSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        """End it within a second; its cleanups still run."""
        return Response(shapes.RunSerializer(runs.cancel(self.get_object(), by=principal_of(request))).data)

    @extend_schema(request=shapes.RerunSerializer, responses={202: shapes.RunSerializer})
    @action(detail=True, methods=["post"])
    def rerun(self, request: Request, pk: str) -> Response:
        """Run the same document on the same systems again: all of it, or only what did not pass."""
        body = shapes.RerunSerializer(data=request.data or {})
        body.is_valid(raise_exception=True)
        made = reruns.rerun(self.get_object(), **body.validated_data, by=principal_of(request))
        return Response(shapes.RunSerializer(made).data, status=202)

    @extend_schema(
        request=dict.fromkeys(RawReport.MEDIA, OpenApiTypes.BINARY),
        parameters=by.documented(IMPORT),
        responses={201: shapes.RunSerializer, 200: shapes.RunSerializer},
    )
    @action(detail=False, methods=["post"], url_path="import", parser_classes=[RawReport], filter_backends=[])
    def import_results(self, request: Request) -> Response:
        """Keep results of another tool as a run: JUnit XML (64 MiB at most) or CTRF (32 MiB).

        The same report again is the same run (200); a larger one is refused (413).
        """
        given = by.values(IMPORT, request)
        body: Any = request.data if hasattr(request.data, "read") else BytesIO()
        owner = Group.objects.filter(name=given["owner"]).first() if "owner" in given else None
        if "owner" in given and owner is None:
            raise Malformed("owner: there is no such team")
        run, is_new = imports.import_results(body, suite=given.get("suite", ""), owner=owner, by=principal_of(request))
        return Response(shapes.RunSerializer(run).data, status=201 if is_new else 200)

    @extend_schema(
        responses={(200, "application/json"): dict, (200, "application/xml"): bytes, (200, "text/html"): bytes}
    )
    def report(self, request: Request, pk: str, form: str) -> HttpResponseBase:
        """The whole run: `.json` with every attempt, `.xml` as JUnit, `.ctrf` as CTRF, `.html` for people.

        A large one is written case by case while you read it; of HTML, one made of over 32 MiB is refused
        (422, `report_too_large`).
        """
        found = FORMATS[form]
        read = results.bounded(self.get_object(), whole=found.whole, in_pieces=found.is_streamed)
        if isinstance(read["cases"], results.Cases):
            return streamed(request._request, found.parts(read), found.content_type)
        response = HttpResponse(found.write(read), content_type=found.content_type)
        if found.policy:
            response["Content-Security-Policy"] = found.policy
        return response
