"""What pausing and resuming take and show, in the API."""

from typing import Any

from rest_framework import serializers

from endpoints.edge.strict_shape import Strict
from endpoints.models import EmergencyStop


class PauseSerializer(Strict):
    """How long and why to hold."""

    until = serializers.DateTimeField(required=False, allow_null=True, default=None)
    reason = serializers.CharField(required=False, allow_blank=True, default="", max_length=500)


class SystemPauseSerializer(PauseSerializer):
    interface = serializers.CharField(
        required=False, default="", allow_blank=True, help_text="Only this door; empty: the whole system."
    )


class EmergencyStopSerializer(serializers.ModelSerializer[Any]):
    """Since when nothing is sent to anybody, by whom, until when and why."""

    class Meta:
        model = EmergencyStop
        fields = ["since", "by", "until", "reason"]


class ResumeSerializer(Strict):
    """Nothing to say."""


class EndpointResumeSerializer(Strict):
    """How fast what waited may go."""

    rate_per_s = serializers.FloatField(
        required=False,
        default=None,
        allow_null=True,
        help_text="At most so many a second of what waits now, over all processes; null: as fast as it takes them.",
    )


class SystemResumeSerializer(EndpointResumeSerializer):
    interface = serializers.CharField(required=False, default="", allow_blank=True)
