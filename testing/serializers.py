"""How suites and runs read in the API, and what they are made of."""

from typing import Any

from django.contrib.auth.models import Group
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from endpoints.edge.strict_shape import Strict
from testing.document.reader import MAX_BYTES
from testing.models import CaseRun, Run, RunState, Suite, Verdict
from testing.services.runs import MOST_PARALLEL, Wish

MOST_CASES = 500


@extend_schema_field({"type": "object", "additionalProperties": {"type": ["string", "number", "boolean", "null"]}})
class Values(serializers.JSONField):
    """Names with a plain value each."""

    def to_internal_value(self, data: Any) -> Any:
        is_plain = isinstance(data, dict) and not any(isinstance(value, (dict, list)) for value in data.values())
        if not is_plain:
            raise serializers.ValidationError("must be an object of plain values.")
        return super().to_internal_value(data)


class SuiteSerializer(serializers.ModelSerializer[Suite]):
    """A suite in lists: what it is, without its document."""

    labels = serializers.ListField(child=serializers.CharField(), read_only=True)
    owner: Any = serializers.SlugRelatedField(slug_field="name", read_only=True)

    class Meta:
        model = Suite
        fields = ["slug", "title", "type", "labels", "version", "owner", "created_at", "updated_at"]
        read_only_fields = fields


class SuiteDetailSerializer(SuiteSerializer):
    """One suite with its document, byte for byte."""

    class Meta(SuiteSerializer.Meta):
        fields = [*SuiteSerializer.Meta.fields, "text"]
        read_only_fields = fields


class DocumentSerializer(Strict):
    """A document: YAML or JSON, as text."""

    text = serializers.CharField(max_length=MAX_BYTES, trim_whitespace=False)


class NewSuiteSerializer(DocumentSerializer):
    """A document, and whose it is to be."""

    owner: Any = serializers.SlugRelatedField(
        slug_field="name", queryset=Group.objects.all(), allow_null=True, required=False, default=None
    )


class CheckedSerializer(serializers.Serializer[Any]):
    """What a good document comes to."""

    suite = serializers.CharField()
    title = serializers.CharField()
    case_runs = serializers.IntegerField(help_text="Cases times combinations times rows.")


class WishSerializer(Strict):
    """What of a run is to be different from what the document says."""

    systems = serializers.DictField(
        child=serializers.CharField(max_length=127), required=False, default=dict, help_text="alias: system[/interface]"
    )
    vars = Values(required=False, default=dict)
    parallel = serializers.IntegerField(min_value=1, max_value=MOST_PARALLEL, required=False, allow_null=True)
    allow_production = serializers.BooleanField(required=False, default=False)
    location = serializers.SlugField(
        max_length=63,
        required=False,
        allow_null=True,
        default=None,
        help_text="Whose workers run it; null: the suite's.",
    )
    during_maintenance = serializers.BooleanField(
        required=False, default=False, help_text="Run although a system is in maintenance; else the run is skipped."
    )
    cases = serializers.ListField(
        child=serializers.CharField(max_length=63),
        required=False,
        default=list,
        max_length=100,
        help_text="These only, and what they need; all without.",
    )

    def wish(self) -> Wish:
        return Wish(**self.validated_data)


class RerunSerializer(Strict):
    """What of a run is to run again."""

    only_failed = serializers.BooleanField(
        required=False, default=False, help_text="Only what did not pass, and what that needs."
    )


class RunSerializer(serializers.ModelSerializer[Run]):
    """One run in lists. `verdict` is null until it has ended."""

    suite = serializers.CharField(source="slug", read_only=True)
    version = serializers.IntegerField(source="document.number", read_only=True, allow_null=True)
    state = serializers.ChoiceField(RunState.choices, read_only=True)
    verdict = serializers.SerializerMethodField()
    counts = serializers.DictField(child=serializers.IntegerField(), read_only=True)
    is_part = serializers.SerializerMethodField(help_text="Only some of the suite's cases were asked for.")

    class Meta:
        model = Run
        fields = [
            *("id", "suite", "version", "title", "state", "verdict", "reason", "flaky", "dirty", "counts", "total"),
            *("created_by", "created_at", "started_at", "finished_at", "cancelled_at"),
            *("rerun_of", "is_part", "imported_as"),
            *("cause", "due_at", "location"),
        ]
        read_only_fields = fields

    @extend_schema_field(serializers.ChoiceField(Verdict.choices, allow_null=True))
    def get_verdict(self, run: Run) -> str | None:
        return run.verdict or None

    def get_is_part(self, run: Run) -> bool:
        return run.is_part


class CaseRunSerializer(serializers.ModelSerializer[CaseRun]):
    """One case of a run; its steps and attempts stand in the report."""

    matrix = serializers.DictField(read_only=True)
    verdict = serializers.ChoiceField(Verdict.choices, read_only=True)

    class Meta:
        model = CaseRun
        fields = [
            *("number", "part", "case", "matrix", "iteration", "verdict", "reason", "error_class", "blocked_by"),
            *("flaky", "dirty", "rounds", "started_at", "took_ms"),
        ]
        read_only_fields = fields


class InHandSerializer(serializers.Serializer[Any]):
    """What a worker has under way, told about once a second; of a run that was lost, what it was lost in."""

    case = serializers.CharField()
    step = serializers.CharField(required=False)
    kind = serializers.CharField(required=False)
    line = serializers.IntegerField(required=False)
    attempt = serializers.IntegerField(required=False)
    since = serializers.DateTimeField(allow_null=True)


class RunDetailSerializer(RunSerializer):
    """One run with its first 500 cases."""

    in_hand = serializers.SerializerMethodField()
    systems = serializers.DictField(child=serializers.CharField(), read_only=True)
    cases = serializers.SerializerMethodField()

    class Meta(RunSerializer.Meta):
        fields = [*RunSerializer.Meta.fields, "systems", "in_hand", "cases"]
        read_only_fields = fields

    @extend_schema_field(InHandSerializer(many=True))
    def get_in_hand(self, run: Run) -> list[dict[str, Any]]:
        return run.in_hand

    @extend_schema_field(CaseRunSerializer(many=True))
    def get_cases(self, run: Run) -> Any:
        """Those that did not pass come first."""
        rows = list(run.cases.exclude(verdict=Verdict.PASSED).order_by("number")[:MOST_CASES])
        left = MOST_CASES - len(rows)
        rows += list(run.cases.filter(verdict=Verdict.PASSED).order_by("number")[:left]) if left else []
        return CaseRunSerializer(rows, many=True).data
