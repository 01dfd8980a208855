"""Retention: bodies, attempts and metadata each have their own time; what is open or dead is never touched.

Every step is one bounded transaction, so intake and delivery wait for none of it.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.conf import settings
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from messaging.models import OPEN_STATES, Attempt, Delivery, IdempotencyKey, Message, Rollup, State

BATCH = 500
IDEMPOTENCY_KEPT = timedelta(hours=24)
# A dead letter is kept, body and all, until somebody sends it again.
KEPT = Delivery.objects.filter(message=OuterRef("pk"), state__in=(*OPEN_STATES, State.DEAD))

Progress = Callable[[str, int], None]


def prune(progress: Progress = lambda what, count: None, *, now: datetime | None = None) -> dict[str, int]:
    """Delete what is older than the settings keep; return how many rows of each kind went.

    `progress` is told (kind, rows so far) after each batch.
    """
    now = now or timezone.now()
    environment = settings.ENV
    old = {
        "bodies": (_drop_bodies, now - timedelta(days=environment.keep_bodies_days)),
        "attempts": (_delete_attempts, now - timedelta(days=environment.keep_attempts_days)),
        "messages": (_delete_messages, now - timedelta(days=environment.keep_metadata_days)),
        "rollups": (_delete_rollups, now - timedelta(days=environment.keep_metadata_days)),
        "idempotency keys": (_delete_idempotency_keys, now - IDEMPOTENCY_KEPT),
    }
    return {kind: step(before, partial(progress, kind)) for kind, (step, before) in old.items()}


def _drop_bodies(before: datetime, progress: Callable[[int], None]) -> int:
    old = Message.objects.filter(created_at__lt=before, payload__isnull=False)
    return _walk(old, progress, lambda rows: rows.update(payload=None))


def _delete_messages(before: datetime, progress: Callable[[int], None]) -> int:
    return _walk(Message.objects.filter(created_at__lt=before), progress, _delete_with_children)


def _delete_with_children(messages: QuerySet[Message]) -> int:
    """Delete messages whose deliveries have all ended; the cascade takes deliveries, attempts and keys."""
    positions = list(messages.values_list("pk", flat=True))
    Message.objects.filter(pk__in=positions).delete()
    return len(positions)


def _walk(messages: QuerySet[Message], progress: Callable[[int], None], act: Callable[[QuerySet[Message]], int]) -> int:
    """Go through `messages` in order of position, in bounded steps, past those that must be kept."""
    done = position = 0
    while True:
        ahead = messages.filter(pk__gt=position).order_by("pk").values_list("pk", flat=True)[:BATCH]
        positions = list(ahead)
        if not positions:
            return done
        position = positions[-1]
        done += act(Message.objects.filter(~Exists(KEPT), pk__in=positions).order_by())
        progress(done)


def _delete_attempts(before: datetime, progress: Callable[[int], None]) -> int:
    ended = Attempt.objects.filter(started_at__lt=before).exclude(delivery__state__in=(*OPEN_STATES, State.DEAD))
    return _delete(ended, progress)


def _delete_rollups(before: datetime, progress: Callable[[int], None]) -> int:
    return _delete(Rollup.objects.filter(minute__lt=before), progress)


def _delete_idempotency_keys(before: datetime, progress: Callable[[int], None]) -> int:
    return _delete(IdempotencyKey.objects.filter(created_at__lt=before), progress)


def _delete(rows: QuerySet[Any], progress: Callable[[int], None]) -> int:
    done = 0
    while ids := list(rows.order_by("pk").values_list("pk", flat=True)[:BATCH]):
        rows.model._default_manager.filter(pk__in=ids).delete()
        done += len(ids)
        progress(done)
    return done
