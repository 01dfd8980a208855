"""The REST face of a system's signing keys."""

from typing import Any

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from endpoints import services
from endpoints.access.rest import principal_of
from endpoints.models import SigningKey, System
from endpoints.pausing import ResumeSerializer


class SigningKeySerializer(serializers.ModelSerializer[SigningKey]):
    """A secret for datagrams and hooks, without the secret."""

    system = serializers.CharField(source="system.slug")

    class Meta:
        model = SigningKey
        fields: tuple[str, ...] = ("id", "system", "revoked_at", "last_used_at", "created_at")
        read_only_fields = fields


class NewSigningKeySerializer(SigningKeySerializer):
    """The answer to a new key: the only time that its secret is shown."""

    secret = serializers.CharField(read_only=True)

    class Meta(SigningKeySerializer.Meta):
        fields = (*SigningKeySerializer.Meta.fields, "secret")
        read_only_fields = fields


class SigningKeyViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Any]):
    """Secrets that one system signs datagrams and hooks with; two may live at once."""

    resource = "signing-keys"
    queryset = SigningKey.objects.select_related("system")
    serializer_class = SigningKeySerializer
    lookup_value_converter = "uuid"
    filters: dict[str, Any] = {}
    orderings = {"created_at": "created_at"}
    default_ordering = "-created_at"

    def get_queryset(self) -> Any:
        rows = super().get_queryset()
        return rows.filter(system=self._system()) if "slug" in self.kwargs else rows.none()

    def _system(self) -> System:
        rows = System.objects.visible_to(principal_of(self.request))
        found: System = get_object_or_404(rows, slug=self.kwargs["slug"])
        return found

    @extend_schema(request=ResumeSerializer, responses={201: NewSigningKeySerializer})
    def create(self, request: Request, slug: str) -> Response:
        """Make a key. Its secret is in this answer and nowhere else, ever."""
        body = ResumeSerializer(data=request.data, context=self.get_serializer_context())
        body.is_valid(raise_exception=True)
        key, secret = services.create_signing_key(self._system(), by=principal_of(request))
        return Response({**SigningKeySerializer(key).data, "secret": secret}, status=201)

    @extend_schema(request=ResumeSerializer, responses=SigningKeySerializer)
    @action(detail=True, methods=["post"])
    def revoke(self, request: Request, slug: str, pk: Any) -> Response:
        """Stop a key for good; what it signs is refused everywhere within a second."""
        body = ResumeSerializer(data=request.data, context=self.get_serializer_context())
        body.is_valid(raise_exception=True)
        return Response(
            SigningKeySerializer(services.revoke_signing_key(self.get_object(), by=principal_of(request))).data
        )
