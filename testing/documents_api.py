"""The REST face of suites as documents: their versions, many in and out at once, and first ones to edit."""

from dataclasses import asdict
from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer

from endpoints.access.rest import principal_of
from endpoints.errors import Malformed
from testing import serializers_documents as shapes
from testing.models import Suite, SuiteVersion
from testing.services import documents, drafts
from testing.services.documents import Document

AGAINST = OpenApiParameter("against", int, description="The version to compare with; the one before it without.")


class DocumentActions(viewsets.GenericViewSet[Any]):
    """What `suites/` does with several documents, or with one that is none yet."""

    @extend_schema(request=shapes.DraftRequestSerializer, responses=shapes.DraftSerializer)
    @action(detail=False, methods=["post"])
    def draft(self, request: Request) -> Response:
        """Make a first suite from what is there; it parses, runs as it stands, and is not stored."""
        asked = shapes.DraftRequestSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        return Response(shapes.DraftSerializer(drafts.make(asked.validated_data, by=principal_of(request))).data)

    @extend_schema(request=shapes.ImportSerializer, responses=shapes.ImportedSerializer)
    @action(detail=False, methods=["post"], url_path="import")
    def import_documents(self, request: Request) -> Response:
        """Store many documents, new suites and new versions: all of them, or none when one is refused (422)."""
        body = shapes.ImportSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        given = body.validated_data
        found = [
            Document(document.get("name") or f"documents.{index}", document["text"])
            for index, document in enumerate(given["documents"])
        ]
        done = documents.take(found, by=principal_of(request), owner=given["owner"], dry_run=given["dry_run"])
        told = {"dry_run": given["dry_run"], "results": [asdict(row) for row in done]}
        return Response(shapes.ImportedSerializer(told).data)

    @extend_schema(responses={(200, "application/zip"): OpenApiTypes.BINARY})
    @action(detail=False, methods=["get"])
    def export(self, request: Request) -> HttpResponse:
        """All suites as a ZIP of one file each, byte for byte."""
        return zipped(Suite.objects.visible_to(principal_of(request)).order_by("slug"))


class SuiteVersionViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Any]):
    """What was saved of one suite, the newest first."""

    resource = "suites"
    queryset = SuiteVersion.objects.all()
    lookup_field = "number"
    lookup_value_converter = "int"
    filters: dict[str, Any] = {}
    orderings = {"number": "number"}
    default_ordering = "-number"

    def get_queryset(self) -> QuerySet[SuiteVersion]:
        return documents.versions(self._suite()) if "slug" in self.kwargs else SuiteVersion.objects.none()

    def get_serializer_class(self) -> type[Serializer[Any]]:
        return shapes.VersionSerializer if self.action == "list" else shapes.VersionDetailSerializer

    def _suite(self) -> Suite:
        found: Suite = get_object_or_404(Suite.objects.visible_to(principal_of(self.request)), slug=self.kwargs["slug"])
        return found

    @extend_schema(parameters=[AGAINST], responses=shapes.DifferenceSerializer)
    @action(detail=True, methods=["get"])
    def diff(self, request: Request, slug: str, number: int) -> Response:
        """What this version changed: the lines that differ, with those around them."""
        suite = self._suite()
        after = documents.version(suite, number)
        against = _number(request.query_params.get("against", str(number - 1)))
        before = documents.version(suite, against) if against else None
        lines = documents.difference(before.text if before else "", after.text)
        told = {"before": against, "after": number, "lines": [f"{sign}{line}" for sign, line in lines]}
        return Response(shapes.DifferenceSerializer(told).data)


def zipped(found: QuerySet[Suite]) -> HttpResponse:
    """Return suites as a file to keep."""
    body = documents.archive(found)
    return HttpResponse(
        body, content_type="application/zip", headers={"Content-Disposition": 'attachment; filename="suites.zip"'}
    )


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        detail = "must be the number of a version"
        raise Malformed(f"against: {detail}", errors=[{"field": "against", "code": "invalid", "detail": detail}])
    return int(text)
