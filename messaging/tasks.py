"""Background work of this app: each task wakes a service and reports nothing."""

from celery import shared_task

from messaging.services import indexing, retention


@shared_task(name="messaging.tasks.prune")
def prune() -> None:
    """Delete what retention no longer keeps."""
    retention.prune()


@shared_task(name="messaging.tasks.index_keys")
def index_keys() -> None:
    """Index business keys backwards where they were declared after the messages came."""
    indexing.sweep()
