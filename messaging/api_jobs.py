"""The REST face of jobs: parse, call one service, answer."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from endpoints.access.rest import principal_of
from messaging import store
from messaging.filters import JOBS
from messaging.models import Job
from messaging.serializers_jobs import JobChangeSerializer, JobSerializer, JobWishSerializer, PreviewSerializer
from messaging.services import jobs


class JobViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Any]):
    """One action on every delivery that a filter finds: what was asked for, and how far it is."""

    resource = "jobs"
    queryset = Job.objects.all()
    serializer_class = JobSerializer
    lookup_value_converter = "uuid"
    filters = JOBS
    orderings = {"created_at": "id"}  # ids grow as the clock does
    default_ordering = "-created_at"

    def get_queryset(self) -> QuerySet[Job]:
        return Job.objects.visible_to(principal_of(self.request))

    def get_serializer_context(self) -> dict[str, Any]:
        return {**super().get_serializer_context(), "now": store.now(), "principal": principal_of(self.request)}

    @extend_schema(request=JobWishSerializer, responses={200: JobSerializer, 202: JobSerializer})
    def create(self, request: Request) -> Response:
        """Make a job (202); the same one asked for twice while it is open is the same job (200).

        With `dry_run` nothing is made: the answer (200) says to how many it would be done,
        exactly up to 100,000, and names five of them.
        """
        body = JobWishSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        asked, by = dict(body.validated_data), principal_of(request)
        wish = {"action": asked["action"], "given": asked["filter"], "everything": asked["all"]}
        if asked["dry_run"]:
            found = jobs.preview(**wish, by=by)
            return Response(PreviewSerializer(found, context=self.get_serializer_context()).data)
        job, is_new = jobs.create(**wish, rate_per_s=asked["rate_per_s"], by=by)
        return Response(self.get_serializer(job).data, status=202 if is_new else 200)

    @extend_schema(request=JobChangeSerializer, responses=JobSerializer)
    def partial_update(self, request: Request, pk: str) -> Response:
        """Change how many it does a second; null: as fast as it goes."""
        body = JobChangeSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        return self._shown(
            jobs.set_rate(self.get_object(), body.validated_data["rate_per_s"], by=principal_of(request))
        )

    @extend_schema(request=None, responses=JobSerializer)
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: str) -> Response:
        """Stop within a second; what is done stays done."""
        return self._shown(jobs.pause(self.get_object(), by=principal_of(request)))

    @extend_schema(request=None, responses=JobSerializer)
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, pk: str) -> Response:
        """Go on where it stopped."""
        return self._shown(jobs.resume(self.get_object(), by=principal_of(request)))

    @extend_schema(request=None, responses=JobSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        """End it within a second; what is done stays done."""
        return self._shown(jobs.cancel(self.get_object(), by=principal_of(request)))

    def _shown(self, job: Job) -> Response:
        return Response(self.get_serializer(job).data)
