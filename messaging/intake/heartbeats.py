"""Heartbeats say that a system is there: its last-seen time follows them, beside the intake and not within it."""

import threading
import time
from collections.abc import Iterable

import structlog
from django.db import Error as DatabaseError
from django.db import transaction
from django.db.models.functions import Now

from endpoints.edge.database_threads import DatabaseThreads
from endpoints.models import System
from messaging.intake.plan import Planned
from messaging.models import MessageType

log = structlog.get_logger(__name__)

EVERY_S = 3.0  # a system's time is written this often, however often it beats
WRITE_EVERY_S = 1.0  # all of them together, this often
HEARTBEAT = MessageType.HEARTBEAT.value


class LastSeen:
    """Remembers who beat, and has it written by a thread of its own; callable from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads = DatabaseThreads("last-seen")
        self._beating: set[int] = set()
        self._noted: dict[int, float] = {}  # when a system's time is to be written again
        self._is_writing = False
        self._written_at = float("-inf")

    def note(self, planned: Iterable[Planned]) -> None:
        """Remember the senders of heartbeats that were accepted, or came again."""
        beats = {item.source.id for item in planned if item.draft.message_type == HEARTBEAT}
        if not beats:
            return
        now = time.monotonic()
        with self._lock:
            due = {system_id for system_id in beats if self._noted.get(system_id, 0.0) <= now}
            self._noted.update(dict.fromkeys(due, now + EVERY_S))
            self._beating |= due
            must_begin = bool(self._beating) and not self._is_writing
            self._is_writing |= must_begin
        if must_begin:
            self._threads.submit(self._write)

    def _write(self) -> None:
        while True:
            time.sleep(max(0.0, self._written_at + WRITE_EVERY_S - time.monotonic()))
            with self._lock:
                beating, self._beating = self._beating, set()
                self._is_writing = bool(beating)
            if not beating:
                return
            try:
                _write(beating)
            except DatabaseError as exc:  # the next beat is written
                log.warning("last_seen_not_written", systems=len(beating), error=str(exc))
            self._written_at = time.monotonic()


def _write(ids: set[int]) -> None:
    """Write that these were seen now; `updated_at` is for what people change. One that is being changed is left out."""
    with transaction.atomic():
        rows = System.objects.select_for_update(skip_locked=True, of=("self",)).filter(pk__in=ids).order_by("pk")
        System.objects.filter(pk__in=list(rows.values_list("pk", flat=True))).update(last_seen_at=Now())


LAST_SEEN = LastSeen()
