"""Background work of this app: a task is a wake-up, and the rows say what there is to do."""

from celery import shared_task

from testing.runner import worker
from testing.services import retention
from testing.wakeups import WAKE


@shared_task(name="testing.tasks.prune")
def prune() -> None:
    """Delete the runs that retention no longer keeps."""
    retention.prune()


@shared_task(name=WAKE)
def wake() -> None:
    """Let the worker of this process look whether a run waits."""
    worker.wake()
