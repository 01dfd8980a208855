"""Our own processes, seen by their heartbeats; only the database's clock counts, since hosts disagree."""

import gc
import os
import socket
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Self
from uuid import UUID

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.db.models.functions import Now

from endpoints.edge.database_threads import give_back
from endpoints.ids import new_id
from messaging.models import Process

log = structlog.get_logger(__name__)

BEAT_S = 5.0
FORGOTTEN = timedelta(hours=1)

_ids: dict[tuple[int, str], UUID] = {}  # by pid too, so that a forked child is somebody else


def settle() -> None:
    """Set the interpreter up for a busy loop beside one database thread; call it when everything is loaded.

    Walking Django's own objects again and again cost a tenth of the engine's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    # The database's thread asks for the interpreter after each statement. A busy event loop
    # hands it over only this often, and ten statements of 5 ms each would starve the sending.
    sys.setswitchinterval(0.0005)


def beat(role: str) -> None:
    """Say that this process is alive in `role`; the first beat also forgets processes gone for an hour."""
    row_id = _ids.setdefault((os.getpid(), role), new_id())
    if Process.objects.filter(pk=row_id).update(seen_at=Now(), stopped_at=None):
        return
    Process.objects.filter(seen_at__lt=Now() - FORGOTTEN).delete()
    Process.objects.create(
        pk=row_id,
        role=role,
        host=socket.gethostname()[:200],
        pid=os.getpid(),
        restarts=settings.ENV.restarts,
        started_at=Now(),
        seen_at=Now(),
    )


def leave(role: str) -> None:
    """Say that this process stopped on purpose, so that nobody misses it."""
    if row_id := _ids.pop((os.getpid(), role), None):
        Process.objects.filter(pk=row_id).update(stopped_at=Now())


class Heartbeat:
    """A thread that beats every few seconds: `with Heartbeat("deliver"): ...`.

    A thread and not a task, so that one class serves asyncio, Celery and plain
    loops. It gives its connection back after each beat, or the pool would lack one.
    """

    def __init__(self, role: str) -> None:
        self.role = role
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"heartbeat-{role}", daemon=True)

    def start(self) -> Self:
        """Begin to beat; returns at once."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Beat no more and mark the process stopped; safe to call twice."""
        self._stopping.set()
        self._thread.join(timeout=BEAT_S)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._say(beat)
            self._stopping.wait(BEAT_S)
        self._say(leave)
        connection.close()

    def _say(self, what: Callable[[str], None]) -> None:
        try:
            what(self.role)
        except (DatabaseError, InterfaceError) as error:  # the database is away: the next beat will tell
            log.warning("heartbeat.failed", role=self.role, error=str(error))
        finally:
            give_back()
