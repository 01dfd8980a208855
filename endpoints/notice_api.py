"""The REST face of who is told of incidents."""

from typing import Any

from django.contrib.auth.models import Group
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from endpoints.access.rest import principal_of
from endpoints.api import RegistryViewSet
from endpoints.edge import filters as by
from endpoints.models import Notice, NoticeTarget
from endpoints.pausing import ResumeSerializer
from endpoints.serializers import Strict
from endpoints.services import notices


class NoticeTargetSerializer(Strict, serializers.ModelSerializer):
    """A system that gets a message, or a mailbox that gets a mail, when an incident opens and when it resolves."""

    team = serializers.SlugRelatedField(
        slug_field="name",
        queryset=Group.objects.all(),
        allow_null=True,
        required=False,
        help_text="Whose incidents; null: everyone's.",
    )
    problem = serializers.SerializerMethodField(
        help_text="Why the latest notice has not gone out, or none can; empty: it has."
    )

    class Meta:
        model = NoticeTarget
        fields = ("id", "team", "target", "email", "problem", "created_at")
        read_only_fields = ("created_at",)
        validators: tuple[Any, ...] = ()

    def get_problem(self, target: NoticeTarget) -> str:
        return notices.problem_of(target)

    def create(self, validated_data: dict[str, Any]) -> NoticeTarget:
        return notices.save_target(NoticeTarget(**validated_data), by=self.principal)

    def update(self, instance: NoticeTarget, validated_data: dict[str, Any]) -> NoticeTarget:
        for name, value in validated_data.items():
            setattr(instance, name, value)
        return notices.save_target(instance, by=self.principal, action="update")


class NoticeSerializer(serializers.ModelSerializer[Notice]):
    """One thing that one target is told once."""

    class Meta:
        model = Notice
        fields = ("id", "kind", "told", "state", "tries", "error", "created_at", "sent_at")
        read_only_fields = fields


class NoticeTargetViewSet(RegistryViewSet):
    """Who is told when an incident opens and when it resolves."""

    resource = "notice-targets"
    queryset = NoticeTarget.objects.all()
    serializer_class = NoticeTargetSerializer
    related = ("team",)
    lookup_value_converter = "uuid"
    filters = {
        "team": by.one_of("team__name", "The team's name."),
        "target": by.text("target", "As registered: system or system/interface."),
        "email": by.text("email"),
    }
    orderings = {"created_at": "created_at"}
    default_ordering = "created_at"

    def perform_destroy(self, instance: Any) -> None:
        notices.delete_target(instance, by=principal_of(self.request))

    @extend_schema(request=ResumeSerializer, responses={202: NoticeSerializer})
    @action(detail=True, methods=["post"])
    def test(self, request: Request, pk: Any) -> Response:
        """Send a notice that is only a test; the monitor sends it within seconds, `problem` then says how it went."""
        self._read(ResumeSerializer)
        made = notices.test_target(self.get_object(), by=principal_of(request))
        return Response(NoticeSerializer(made).data, status=202)
