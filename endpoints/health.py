"""Which systems can be used now, as the registry knows it."""

from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now

from endpoints.models import BreakerState, Endpoint, EndpointState, Health, Maintenance, SystemState

ILL = (Health.DEGRADED, Health.DOWN, Health.STALE)


def healthy() -> Q:
    """Return the systems one can use now: active and not maintained, an endpoint enabled, none known to be ill."""
    enabled = Endpoint.objects.filter(system=OuterRef("pk"), state=EndpointState.ENABLED)
    held = Maintenance.objects.at(Now()).filter(system=OuterRef("pk"))
    ill = enabled.filter(Q(health__in=ILL) | Q(breaker__state__in=[BreakerState.OPEN, BreakerState.HALF_OPEN]))
    return Q(Exists(enabled), ~Exists(ill), ~Exists(held), state=SystemState.ACTIVE)
