"""The last endpoint that delivers for an interface stays as long as something waits for it, or nobody would send it."""

from endpoints.errors import Conflict
from endpoints.models import Endpoint, System

DELIVER = "deliver"


def check_last_door(before: Endpoint, after: Endpoint | None) -> None:
    """Raise Conflict when nothing would be left to deliver what waits for the interface of `before`.

    `after` is what it is to become, None when it is to be deleted. Call it in the
    transaction of the change. A disabled sibling will do: what waits is skipped then, and said to be.
    """
    left = _left(before, after)
    if left is None or DELIVER not in before.use:
        return
    # One at a time, or each of two could take the other for the one that stays.
    system = System.objects.select_for_update(no_key=True).get(pk=before.system_id)
    siblings = Endpoint.objects.filter(system=system, interface=before.interface).exclude(pk=before.pk)
    if any(DELIVER in row.use for row in siblings):
        return
    if waiting := system.deliveries.count_open(before.interface):
        wait = "1 delivery waits" if waiting == 1 else f"{waiting:,} deliveries wait"
        detail = (
            f"{wait} for {system.slug}/{before.interface}, and no other endpoint would deliver there:"
            " cancel what waits, or add another endpoint of the interface first"
        )
        raise Conflict(
            detail, code="in_use", errors=[{"field": left, "code": "in_use", "detail": detail}] if left else []
        )


def _left(before: Endpoint, after: Endpoint | None) -> str | None:
    """Return the field by which an endpoint leaves its interface, empty when it is deleted, None when it stays."""
    if after is None:
        return ""
    if before.system_id != after.system_id:
        return "system"
    if before.interface != after.interface:
        return "interface"
    return None if DELIVER in after.use else "use"
