"""Deliveries that die the way the engine lets them: leased, tried, finished in one transaction."""

from collections.abc import Sequence
from typing import Any

from django.utils import timezone

from endpoints.ids import id_at, new_id
from endpoints.models import Endpoint
from messaging.engine import record
from messaging.engine.judging import Tally
from messaging.engine.record import Ended, Wanted
from messaging.models import Delivery, State
from messaging.store import Finish
from tests.messaging.factories import make_delivery, make_endpoint, make_message, make_system


def make_receiver(slug: str = "crm", **fields: Any) -> Endpoint:
    """Return the endpoint of a system that can be sent to."""
    return make_endpoint(make_system(slug, **fields), interface="main")


def leased(count: int = 1, slug: str = "crm", **fields: Any) -> list[Delivery]:
    """Return new deliveries as a worker holds them."""
    token = new_id()
    now = timezone.now()
    return [
        make_delivery(
            make_message(created_at=now),
            slug,
            State.SENDING,
            lease_token=token,
            lease_until=now + timezone.timedelta(minutes=1),
            **fields,
        )
        for _ in range(count)
    ]


def die(
    deliveries: Sequence[Delivery], *errors: str, error_class: str = "client_error", body: bytes | None = None
) -> None:
    """End each with its error (the last one goes for the rest too), in one turn of the engine."""
    ended = []
    for place, row in enumerate(deliveries):
        error = errors[min(place, len(errors) - 1)]
        finish = Finish(row.id, row.lease_token, row.system_id, "dead", "refused", 1, 0, None, error_class, error)
        finish.line = (row.system_id, row.interface, row.ordering_key) if row.ordering_key else None
        finish.attempt = attempt_of(row, error, error_class, body)
        ended.append(Ended(finish))
    record.turn(ended, Wanted(), 30.0, Tally(), set())


def attempt_of(row: Delivery, error: str, error_class: str, body: bytes | None) -> dict[str, Any]:
    """Return the attempt that a finish records."""
    now = timezone.now()
    return {
        "id": id_at(now),
        "delivery_id": row.id,
        "endpoint_id": None,
        "number": 1,
        "started_at": now,
        "took_ms": 3.0,
        "phases_ms": "{}",
        "outcome": "dead",
        "error_class": error_class,
        "error": error,
        "status_code": 422 if body else None,
        "request": "{}",
        "response_headers": "{}",
        "response_body": body,
        "response_truncated": False,
        "trigger": "scheduled",
    }


def dead(count: int = 1, error: str = "answered 422 Unprocessable Entity", **fields: Any) -> list[Delivery]:
    """Return deliveries that died of one error."""
    rows = leased(count, **fields)
    die(rows, error)
    return list(Delivery.objects.filter(pk__in=[row.pk for row in rows]).select_related("message", "system", "source"))
