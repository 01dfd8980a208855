"""Background work of this app: a task is a wake-up, and the rows say what there is to do."""

from celery import shared_task

from testing.services import retention


@shared_task(name="testing.tasks.prune")
def prune() -> None:
    """Delete the runs that retention no longer keeps."""
    retention.prune()
