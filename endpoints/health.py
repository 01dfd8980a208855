"""Which systems can be used now, as the registry knows it."""

from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now

from endpoints.models import Endpoint, EndpointState, Health, Maintenance, SystemState

ILL = (Health.DEGRADED, Health.DOWN, Health.STALE)


def healthy() -> Q:
    """Return the systems one can use now: active and not maintained, an endpoint enabled, none known to be ill."""
    enabled = Endpoint.objects.filter(system=OuterRef("pk"), state=EndpointState.ENABLED)
    held = Maintenance.objects.at(Now()).filter(system=OuterRef("pk"))
    return Q(Exists(enabled), ~Exists(enabled.filter(health__in=ILL)), ~Exists(held), state=SystemState.ACTIVE)
