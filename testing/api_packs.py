"""The REST face of packs: what there is, run one as it comes, or make a suite of it."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from endpoints.access.rest import principal_of
from testing.packs.documents import find
from testing.serializers import RunSerializer, SuiteDetailSerializer, WishSerializer
from testing.serializers_packs import (
    InstallSerializer,
    PackDetailSerializer,
    PackListSerializer,
)
from testing.services import packs

NAMED = OpenApiParameter("name", OpenApiTypes.STR, OpenApiParameter.PATH, description="The pack's name.")


class PackViewSet(viewsets.ViewSet):
    """Packs: ready-made suites that come with the product."""

    resource = "packs"
    lookup_field = "name"
    lookup_value_converter = "slug"

    @extend_schema(responses=PackListSerializer)
    def list(self, request: Request) -> Response:
        """List the packs, with what each needs and which of your suites were made of it."""
        found = {"next": None, "previous": None, "results": packs.listed(principal_of(request))}
        return Response(PackListSerializer(found).data)

    @extend_schema(responses=PackDetailSerializer, parameters=[NAMED])
    def retrieve(self, request: Request, name: str) -> Response:
        """Show one pack with its document."""
        return Response(PackDetailSerializer(packs.described(find(name), principal_of(request))).data)

    @extend_schema(request=InstallSerializer, responses={201: SuiteDetailSerializer}, parameters=[NAMED])
    @action(detail=True, methods=["post"])
    def install(self, request: Request, name: str) -> Response:
        """Make a suite of it, with your systems behind its aliases: to change, to schedule, to run by its name."""
        body = _read(InstallSerializer, request)
        made = packs.install(name, body["systems"], by=principal_of(request), slug=body["slug"], owner=body["owner"])
        return Response(SuiteDetailSerializer(made).data, status=201)

    @extend_schema(request=WishSerializer, responses={202: RunSerializer}, parameters=[NAMED])
    @action(detail=True, methods=["post"])
    def run(self, request: Request, name: str) -> Response:
        """Start a run of the pack as it comes; a worker takes it within a second."""
        body = WishSerializer(data=request.data or {})
        body.is_valid(raise_exception=True)
        return Response(RunSerializer(packs.start(name, body.wish(), by=principal_of(request))).data, status=202)


def _read(shape: type[InstallSerializer], request: Request) -> dict[str, Any]:
    body = shape(data=request.data or {})
    body.is_valid(raise_exception=True)
    return dict(body.validated_data)
