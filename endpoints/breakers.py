"""How an endpoint's breaker is shown, in the API and on the pages."""

from datetime import datetime

from rest_framework import serializers

from endpoints.models import Breaker, BreakerState


class BreakerSerializer(serializers.ModelSerializer[Breaker]):
    """Whether sends are held back because they kept failing; null: nothing failed yet."""

    failures = serializers.SerializerMethodField(help_text="Different deliveries that failed in a row.")
    next_try_at = serializers.SerializerMethodField(help_text="When one delivery is tried next; null while closed.")

    class Meta:
        model = Breaker
        fields = ("state", "failures", "opened_at", "next_try_at", "error_class", "error", "pace_per_s")
        read_only_fields = fields

    def get_failures(self, breaker: Breaker) -> int:
        return len(breaker.streak)

    def get_next_try_at(self, breaker: Breaker) -> datetime | None:
        return breaker.try_at if breaker.state == BreakerState.OPEN else None
