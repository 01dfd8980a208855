"""Background work of this app: each task wakes a service and reports nothing."""

from celery import shared_task

from messaging.services import retention


@shared_task(name="messaging.tasks.prune")
def prune() -> None:
    """Delete what retention no longer keeps."""
    retention.prune()
