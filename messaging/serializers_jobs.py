"""How jobs read in the API, and what they are made of."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from endpoints.edge.strict_shape import Strict
from messaging.jobs.actions import ACTIONS
from messaging.models import Job, JobAction, JobState
from messaging.serializers import DeliverySerializer, TextOrNull
from messaging.services import jobs
from messaging.services.jobs import Progress


class JobSerializer(serializers.ModelSerializer[Job]):
    """One job with its progress. Expects `now` in the context."""

    action = serializers.ChoiceField(JobAction.choices, read_only=True)
    state = serializers.ChoiceField(JobState.choices, read_only=True)
    filter = serializers.DictField(child=serializers.ListField(child=serializers.CharField()), read_only=True)
    error = TextOrNull(read_only=True)
    percent = serializers.SerializerMethodField()
    rate = serializers.SerializerMethodField()
    ends_at = serializers.SerializerMethodField()

    class Meta:
        model = Job
        fields = [
            *("id", "action", "filter", "state", "rate_per_s", "total", "done", "passed_over"),
            *("percent", "rate", "ends_at"),
            *("created_by", "created_at", "started_at", "paused_at", "finished_at", "error"),
        ]
        read_only_fields = fields

    def _progress(self, job: Job) -> Progress:
        return jobs.progress(job, self.context["now"])

    @extend_schema_field(serializers.FloatField(allow_null=True))
    def get_percent(self, job: Job) -> float | None:
        """How much of `total` is behind it; null while more than 100,000 are being counted."""
        percent = self._progress(job).percent
        return None if percent is None else round(percent, 1)

    @extend_schema_field(serializers.FloatField(allow_null=True))
    def get_rate(self, job: Job) -> float | None:
        """How many a second so far, pauses left out."""
        rate = self._progress(job).rate
        return None if rate is None else round(rate, 2)

    @extend_schema_field(serializers.DateTimeField(allow_null=True))
    def get_ends_at(self, job: Job) -> Any:
        """When it will have ended if it goes on like this, or when it did."""
        found = self._progress(job).ends_at
        return None if found is None else serializers.DateTimeField().to_representation(found)


class JobWishSerializer(Strict):
    """What a job is made of."""

    action = serializers.ChoiceField(list(ACTIONS))
    filter = serializers.DictField(
        help_text='As the list of deliveries takes it: {"state": "dead", "system": ["crm"]}.'
    )
    rate_per_s = serializers.FloatField(required=False, allow_null=True, default=None, help_text="At most so many.")
    dry_run = serializers.BooleanField(required=False, default=False, help_text="Only say what it would do.")
    all = serializers.BooleanField(
        required=False, default=False, help_text="Said with an empty filter, which means all."
    )


class JobChangeSerializer(Strict):
    """What of a job may be changed."""

    rate_per_s = serializers.FloatField(allow_null=True)


class PreviewSerializer(serializers.Serializer[Any]):
    """What a job would do."""

    count = serializers.IntegerField(
        help_text="How many; of more than 100,000, or than a bounded look finds, at least so many."
    )
    is_exact = serializers.BooleanField(help_text="False: there may be more than `count`.")
    states = serializers.DictField(child=serializers.IntegerField(), help_text="How many in which state.")
    examples = DeliverySerializer(many=True)


class AcceptedSerializer(serializers.Serializer[Any]):
    """What became of one message that was sent."""

    message_id = serializers.CharField()
    status = serializers.ChoiceField(["accepted", "duplicate"])
    deliveries = serializers.IntegerField()
