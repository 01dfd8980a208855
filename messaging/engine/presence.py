"""Which clients are connected to this process, as the others see it: rows that are believed for a while. Sync."""

from collections.abc import Mapping, Set
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction

from endpoints.models import System
from messaging import store
from messaging.models import Presence

FORGOTTEN = timedelta(hours=1)
Present = Mapping[int, Set[str]]  # system id: recipients, "" for clients without one


def announce(process: UUID, present: Present, lease_s: float) -> datetime:
    """Say that these clients are here, and no others; return until when it holds."""
    wanted = {(system_id, recipient) for system_id, recipients in present.items() for recipient in recipients}
    with transaction.atomic():
        now = store.now()
        until = now + timedelta(seconds=lease_s)
        ours = Presence.objects.filter(process=process)
        known = {(row.system_id, row.recipient): row.pk for row in ours}
        if gone := [known[one] for one in known.keys() - wanted]:
            ours.filter(pk__in=gone).delete()
        ours.update(until=until)
        fresh = wanted - known.keys()
        if fresh:
            there = set(
                System.objects.filter(pk__in={system_id for system_id, _ in fresh}).values_list("pk", flat=True)
            )
            Presence.objects.bulk_create(
                Presence(process=process, system_id=system_id, recipient=recipient, until=until)
                for system_id, recipient in sorted(fresh)
                if system_id in there
            )
            Presence.objects.filter(until__lt=now - FORGOTTEN).delete()
    return until


def leave(process: UUID) -> None:
    """Say that nobody is here."""
    Presence.objects.filter(process=process).delete()
