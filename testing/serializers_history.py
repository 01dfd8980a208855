"""How the figures of the history pages read in the API."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from testing.models import Verdict
from testing.serializers import CaseRunSerializer, RunSerializer


class PointSerializer(serializers.Serializer[Any]):
    """One run in a trend; `number` is the case's place in it."""

    run = serializers.UUIDField(source="run_id")
    number = serializers.IntegerField(allow_null=True)
    at = serializers.DateTimeField()
    version = serializers.IntegerField(allow_null=True)
    verdict = serializers.ChoiceField(Verdict.choices)
    flaky = serializers.BooleanField()
    took_ms = serializers.FloatField()


class TrendSerializer(serializers.Serializer[Any]):
    """Runs, oldest first, and what they come to; times are of those that passed."""

    passed = serializers.IntegerField()
    judged = serializers.IntegerField()
    pass_rate = serializers.FloatField(allow_null=True)
    p50_ms = serializers.FloatField(allow_null=True)
    p95_ms = serializers.FloatField(allow_null=True)
    points = PointSerializer(many=True)


class FlakySerializer(serializers.Serializer[Any]):
    """A case that cannot be relied on, and the rules that say so."""

    suite = serializers.CharField()
    case = serializers.CharField()
    label: Any = serializers.CharField(help_text="With its combination and row.")
    rules = serializers.ListField(child=serializers.CharField(), help_text="`rescued`, `flipping`.")
    runs = serializers.IntegerField(help_text="In how many of the latest runs it was judged.")
    rescued = serializers.IntegerField()
    flips = serializers.IntegerField()
    failed = serializers.IntegerField()
    share = serializers.FloatField()
    last_at = serializers.DateTimeField(allow_null=True)
    last_run = serializers.UUIDField()
    last_number = serializers.IntegerField()


class FlakyListSerializer(serializers.Serializer[Any]):
    """The least steady first; `rules` says what each means."""

    rules = serializers.DictField(child=serializers.CharField())
    results = FlakySerializer(many=True)


class SlowSerializer(serializers.Serializer[Any]):
    """How long a case took lately; `run` and `number` are of its longest."""

    suite = serializers.CharField()
    case = serializers.CharField()
    runs = serializers.IntegerField()
    p50_ms = serializers.FloatField()
    p95_ms = serializers.FloatField()
    slowest_ms = serializers.FloatField()
    run = serializers.UUIDField(source="run_id")
    number = serializers.IntegerField()


class SlowListSerializer(serializers.Serializer[Any]):
    """The slowest first."""

    results = SlowSerializer(many=True)


class UncoveredSerializer(serializers.Serializer[Any]):
    """An endpoint in use that no stored suite names."""

    id = serializers.UUIDField(source="endpoint.pk")
    system = serializers.CharField(source="endpoint.system.slug")
    interface = serializers.CharField(source="endpoint.interface")
    name = serializers.CharField(source="endpoint.name")
    protocol = serializers.CharField(source="endpoint.protocol")
    last_run_at = serializers.DateTimeField(allow_null=True, help_text="When a run, from a file, used it.")


class UncoveredListSerializer(serializers.Serializer[Any]):
    """By system; `more` says whether there are others."""

    more = serializers.BooleanField()
    results = UncoveredSerializer(many=True)


class ChangeSerializer(serializers.Serializer[Any]):
    """One thing that was different between two runs."""

    kind = serializers.CharField(help_text="`document replaced registry incident maintenance`.")
    text = serializers.CharField()
    at = serializers.DateTimeField(allow_null=True)
    by = serializers.CharField()
    detail = serializers.CharField()
    lines = serializers.ListField(child=serializers.CharField(), help_text="Of a document: `+`, `-` or a space first.")


class SinceSerializer(serializers.Serializer[Any]):
    """The unbroken row of bad ends; not `is_whole`: it may have begun before the runs that were looked at."""

    runs = serializers.IntegerField()
    first = RunSerializer(allow_null=True)
    last_passed = RunSerializer(allow_null=True)
    is_whole = serializers.BooleanField()


@extend_schema_field({"type": "object", "additionalProperties": {}})
class Free(serializers.JSONField):
    """An object whose fields depend on the kind of step."""


class SeenAttemptSerializer(serializers.Serializer[Any]):
    """One try of a step, with what was asked and what came back."""

    number = serializers.IntegerField()
    started_at = serializers.DateTimeField()
    took_ms = serializers.FloatField()
    verdict = serializers.ChoiceField(Verdict.choices)
    error_class = serializers.CharField()
    error = serializers.CharField()
    request = Free()
    response = Free()


class SeenStepSerializer(serializers.Serializer[Any]):
    """The step that made a case end badly. Its attempts are for operators; else they are null."""

    path = serializers.CharField(source="row.path")
    id = serializers.CharField(source="row.step")
    kind = serializers.CharField(source="row.kind")
    line = serializers.IntegerField(source="row.line")
    verdict = serializers.ChoiceField(Verdict.choices, source="row.verdict")
    reason = serializers.CharField(source="row.reason")
    hint = serializers.CharField(help_text="What that most likely means.")
    attempts = serializers.IntegerField(help_text="How many there were.")
    wrong = serializers.ListField(
        child=Free(), source="wrong_checks", help_text="Assertions: `where expected actual detail line`."
    )
    first = serializers.SerializerMethodField()
    last = serializers.SerializerMethodField()

    @extend_schema_field(SeenAttemptSerializer(allow_null=True))
    def get_first(self, step: Any) -> Any:
        return self._attempt(step.first)

    @extend_schema_field(SeenAttemptSerializer(allow_null=True))
    def get_last(self, step: Any) -> Any:
        return self._attempt(step.last)

    def _attempt(self, attempt: Any) -> Any:
        may_read = self.context.get("may_read", False)
        return SeenAttemptSerializer(attempt).data if may_read and attempt is not None else None


class FailureSerializer(serializers.Serializer[Any]):
    """What went wrong first in a run: the case, its step, since when, and what was different when it began."""

    case = CaseRunSerializer(source="case.row")
    step = SeenStepSerializer(source="case.culprit", allow_null=True)
    since = SinceSerializer()
    changes = ChangeSerializer(many=True)


class PairSerializer(serializers.Serializer[Any]):
    """One case in both runs; null where it did not run."""

    kind = serializers.CharField(help_text="`broke still_bad healed other gone new slower`.")
    label: Any = serializers.CharField()
    before = CaseRunSerializer(allow_null=True)
    after = CaseRunSerializer(allow_null=True)
    difference_ms = serializers.FloatField(allow_null=True)


class ComparisonSerializer(serializers.Serializer[Any]):
    """Two runs; `pairs` are the cases that differ, at most 200, `counts` are of all."""

    before = RunSerializer()
    after = RunSerializer()
    counts = serializers.DictField(child=serializers.IntegerField())
    is_whole = serializers.BooleanField(help_text="False when a run has more cases than were compared.")
    pairs = PairSerializer(many=True)
    changes = ChangeSerializer(many=True)
