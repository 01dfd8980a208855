"""Celery: the clock and the pool for runs. A task is a wake-up for a row; losing one loses no work."""

import os

from celery import Celery
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")  # they import every page; `up` runs them once for all

EMBEDDED = "memory://localhost/"
PRUNE_EVERY_S = 3600.0
INDEX_EVERY_S = 30.0
MEASURE_EVERY_S = 15.0

app = Celery("controlplane")
app.conf.update(
    broker_url=settings.ENV.broker_url or EMBEDDED,
    broker_connection_retry_on_startup=True,
    result_backend=None,
    task_ignore_result=True,
    task_acks_late=True,
    worker_hijack_root_logger=False,
    worker_send_task_events=False,
    worker_enable_remote_control=False,
    worker_prefetch_multiplier=1,
    timezone="UTC",
    enable_utc=True,
    beat_max_loop_interval=60,
    beat_schedule={
        "prune": {"task": "messaging.tasks.prune", "schedule": PRUNE_EVERY_S},
        "prune_runs": {"task": "testing.tasks.prune", "schedule": PRUNE_EVERY_S},
        "index_keys": {"task": "messaging.tasks.index_keys", "schedule": INDEX_EVERY_S, "options": {"expires": 60}},
        "measure": {"task": "messaging.tasks.measure", "schedule": MEASURE_EVERY_S, "options": {"expires": 60}},
    },
)
app.autodiscover_tasks(["messaging", "testing"])
