"""Background work of this app: each task wakes a service and reports nothing."""

from celery import shared_task

from messaging.services import indexing, measuring, retention

PACE = measuring.Pace()


@shared_task(name="messaging.tasks.prune")
def prune() -> None:
    """Delete what retention no longer keeps."""
    retention.prune()


@shared_task(name="messaging.tasks.index_keys")
def index_keys() -> None:
    """Index business keys backwards where they were declared after the messages came."""
    indexing.sweep()


@shared_task(name="messaging.tasks.measure")
def measure() -> None:
    """Write down what waits, and now and then how large the database and how full the disk is."""
    measuring.measure(PACE)
