"""The monitor: looks every two seconds, judges when there is something to judge, and sends what is to be told.

Any number of these may run: they judge one at a time, from the database alone, so that one
more or one less changes nothing. It stands apart from `deliver` and `worker`, since it tells of them.
"""

import threading
import time
from datetime import datetime, timedelta

import structlog
from django.db import Error as DatabaseError
from django.db import connection, transaction

from messaging import store
from messaging.monitor import book, facts, telling
from messaging.monitor.judgement import Limits
from messaging.monitor.outbox import Mailer, send_messages
from messaging.ticks import tick

log = structlog.get_logger(__name__)

TICK_S = 2.0
NOTED_EVERY_S = 15.0
SLOW_LOOK = timedelta(seconds=10)  # what takes minutes to become an incident is looked for less often


class Monitor:
    """The loop; `stop` may be called from a signal handler."""

    def __init__(self, limits: Limits, tick_s: float = TICK_S) -> None:
        self._limits, self._tick_s = limits, tick_s
        self._stopping = threading.Event()
        self._mailer = Mailer()
        self._looked_at: datetime | None = None
        self._noted_at = float("-inf")

    def run(self) -> None:
        """Judge until stopped."""
        try:
            while not self._stopping.is_set():
                self._tick()
                self._stopping.wait(self._tick_s)
        finally:
            self._mailer.close()

    def stop(self) -> None:
        """End after what is being done now."""
        self._stopping.set()

    def _tick(self) -> None:
        try:
            self.look()
            if time.monotonic() - self._noted_at >= NOTED_EVERY_S:
                self._noted_at = time.monotonic()
                tick("monitor", store.now())
        except DatabaseError as exc:  # away, or busy: the next look will see
            log.warning("monitor_database_failed", error=str(exc))
            connection.close()
        except Exception:  # one bug must not leave everything unwatched
            log.exception("monitor_failed")
            connection.close()

    def look(self) -> None:
        """Look once, and do what follows from it."""
        if not self._is_something():
            return
        with transaction.atomic():
            store.lock_monitor()
            now = store.now()
            book.update(facts.read(self._limits, now), self._limits, now)
            telling.tell(now)
        send_messages(now)
        self._mailer.wake(now)

    def _is_something(self) -> bool:
        """Say whether there may be something to judge or to send; a few cheap questions."""
        if not facts.is_all_settled():
            return True
        now = store.now()
        if self._looked_at is not None and now - self._looked_at < SLOW_LOOK:
            return False
        self._looked_at = now
        return facts.is_slow_trouble(self._limits, now)
