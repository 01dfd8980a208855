"""The sweeps that no worker owns: what lost its worker, what is past its time, what nobody holds. All of it sync."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

import structlog
from django.db import transaction

from endpoints.ids import id_at
from messaging import store
from messaging.engine.burial import Grouper, bury_lost
from messaging.engine.order import Mender
from messaging.models import Outcome, Reason, State
from messaging.totals import Folder

log = structlog.get_logger(__name__)

SWEEP = 500  # rows a sweep takes at once: bounded, so that it never holds the database for long
MENDER = Mender()
FOLDER = Folder()
GROUPER = Grouper()


def sweep() -> int:
    """Take back what lost its worker, end what is past its time, let go whom nobody holds; return how many rows."""
    FOLDER.step()
    return _recover() + _expire() + MENDER.step() + GROUPER.step()


def _recover() -> int:
    with transaction.atomic():
        now = store.now()
        lapsed, lines = store.lapsed(now, SWEEP)
        store.lock_lines(lines, alone=False)  # before the rows, as whoever writes an end down
        lost = store.recover(lapsed, now)
        store.insert_attempts(_lost_attempt(row, now) for row in lost)
        dead = [row for row in lost if row.state == State.DEAD]
        store.release_next({row.line for row in dead if row.line}, now)
        _count([(row.system_id, State.DEAD.value, "lost") for row in dead], now)
        bury_lost(dead)
    if lost:
        log.warning("leases_recovered", count=len(lost), poison=len(dead))
    return len(lost)


def _expire() -> int:
    with transaction.atomic():
        now = store.now()
        late, lines = store.late(now, SWEEP)
        store.lock_lines(lines, alone=True)
        expired = store.expire(late, now)
        store.release_next(lines, now)
        _count([(system_id, State.EXPIRED.value, "") for system_id in expired], now)
    return len(expired)


def _count(events: Sequence[tuple[int, str, str]], now: datetime) -> None:
    """Add (system id, event, error class) to the rollups."""
    minute = now.replace(second=0, microsecond=0)
    store.add_rollups({(minute, *event): (count, 0.0) for event, count in Counter(events).items()})


def _lost_attempt(row: store.Lost, now: datetime) -> dict[str, object]:
    return {
        "id": id_at(now),
        "delivery_id": row.id,
        "endpoint_id": row.endpoint_id,
        "number": row.number,
        "started_at": now,
        "took_ms": 0.0,
        "phases_ms": "{}",
        "outcome": Outcome.LOST.value,
        "error_class": "lost",
        "error": row.error + (f" ({Reason.POISON.value})" if row.state == State.DEAD else ""),
        "status_code": None,
        "request": "{}",
        "response_headers": "{}",
        "response_body": None,
        "response_truncated": False,
        "trigger": row.trigger,
    }
