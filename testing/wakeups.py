"""Hints that there may be something to run: to workers of this machine, and through the broker if there is one.

The rows are the truth: a lost hint costs one look of a worker, which comes every second.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import structlog
from django.conf import settings
from django.db import transaction

from messaging.wakeups import Notifier

log = structlog.get_logger(__name__)

RUNS = "runs"  # the topic of hints, and the queue of wake-ups
WAKE = "testing.tasks.wake"
FORGOTTEN_S = 30  # a wake-up that nobody took by then is of no use
PATIENCE = {"max_retries": 0}
_notifier = Notifier(RUNS)


def queue_of(location: str) -> str:
    """Return the broker's queue that workers of a location listen to."""
    return f"{RUNS}.{location}" if location else RUNS


def hint_on_commit(location: str, count: int = 1) -> None:
    """Say, once the transaction is committed, that `count` things wait at a location."""
    transaction.on_commit(lambda: hint(location, count))


def hint(location: str, count: int = 1) -> None:
    """Say that `count` things wait at a location; never waits, never raises."""
    _notifier.notify()
    if settings.ENV.broker_url:
        _sender().submit(_send, queue_of(location), count)


@lru_cache(maxsize=1)
def _sender() -> ThreadPoolExecutor:
    """Return the one thread that talks to the broker: whoever hints does not wait for a broker that is away."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="wakeups")


def _send(queue: str, count: int) -> None:
    from celery import current_app
    from kombu.exceptions import OperationalError

    try:
        for _ in range(count):
            current_app.send_task(WAKE, queue=queue, expires=FORGOTTEN_S, retry=False)
    except (OperationalError, OSError) as exc:
        log.info("broker_not_reached", error=str(exc))
