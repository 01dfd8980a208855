"""History made in bulk, for size tests: a few set-based statements per chunk, the same on both databases."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from endpoints.errors import Conflict, Forbidden
from endpoints.models import Endpoint, EndpointState, System, SystemState
from messaging import store
from messaging.models import Folded, Message
from messaging.seed.causes import causes, make_groups
from messaging.seed.dialects import DIALECTS
from messaging.seed.statements import GROUP, PREFIX, STATEMENTS, Chunk, Party

CHUNK = GROUP * 5_000  # deliveries a transaction
PAUSED = "made by seed_history: there is nobody to send to"


@dataclass(frozen=True, slots=True)
class Shape:
    """How much history, over how many systems and days; `dead` deliveries of a thousand,
    of so many `causes` of each error class."""

    deliveries: int
    systems: int = 20
    days: int = 60
    dead: int = 20
    causes: int = 3


def seed(
    shape: Shape,
    *,
    force: bool = False,
    progress: Callable[[int], None] = lambda done: None,
    now: datetime | None = None,
) -> None:
    """Make `shape.deliveries` deliveries with their messages, attempts, search keys and counts, up to `now`.

    `progress` is told how many there are after each chunk. Raises Forbidden in
    production, Conflict when there are messages already and `force` is not given.
    """
    if settings.ENVIRONMENT == "production":
        raise Forbidden("history is not made up in production")
    if not force and Message.objects.order_by().exists():
        raise Conflict("this database has messages; --force adds to them")
    now = now or timezone.now()
    start, step_s = now - timedelta(days=shape.days), shape.days * 86400 / shape.deliveries
    parties = _parties(shape.systems)
    made = causes(shape.causes)
    make_groups(made, parties, now)
    for first in range(0, shape.deliveries, CHUNK):
        last = min(first + CHUNK, shape.deliveries)
        _make(Chunk(first, last, start, step_s, shape.dead, parties, made))
        progress(last)
    with connection.cursor() as cursor:
        _sum_up(cursor, parties)
        _count_groups(cursor)
        if connection.vendor == "postgresql":
            cursor.execute("ANALYZE")  # what autovacuum would get to in a minute


def _parties(count: int) -> list[Party]:
    """Return (id, slug, endpoint id as stored) of each system; paused, so that what waits for them stays."""
    found = []
    for number in range(1, count + 1):
        slug = f"{PREFIX}{number:03d}"
        system, made = System.objects.get_or_create(slug=slug, defaults={"name": slug, "state": SystemState.PAUSED})
        if made:
            where = {"protocol": "http", "host": "127.0.0.1", "port": 9, "path": "/in"}
            Endpoint.objects.create(
                system=system, name="main", state=EndpointState.PAUSED, pause_reason=PAUSED, **where
            )
        endpoint = Endpoint.objects.get(system=system, name="main")
        found.append((system.pk, slug, endpoint.pk.hex))
    return found


def _make(chunk: Chunk) -> None:
    if connection.vendor == "sqlite":
        connection.disable_constraint_checking()  # the rows are right by construction, and it costs a third
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            low, high = chunk.messages
            _, positions = store.begin_intake(high - low)
            shift = positions[0] - low
            for statement in STATEMENTS:
                cursor.execute(statement(chunk, shift, DIALECTS[connection.vendor]))
                if chunk.first == 0 and connection.vendor == "postgresql":
                    # Where the tables were found empty last, 25,000 rows are planned for as one: each against each.
                    cursor.execute("ANALYZE")
    finally:
        if connection.vendor == "sqlite":
            connection.enable_constraint_checking()


def _sum_up(cursor: Any, parties: list[Party]) -> None:
    """Let the totals of the made systems say what their rollups do, as far as those are folded in."""
    folded = Folded.objects.first()
    if folded is None:
        return
    ids = ", ".join(str(id) for id, _, _ in parties)
    cursor.execute(f"DELETE FROM messaging_total WHERE system_id IN ({ids})")
    cursor.execute(
        "INSERT INTO messaging_total (system_id, event, error_class, count, total_ms)"
        " SELECT system_id, event, error_class, sum(count), sum(total_ms) FROM messaging_rollup"
        f" WHERE system_id IN ({ids}) AND minute < %s GROUP BY system_id, event, error_class",
        [folded.through],
    )


def _count_groups(cursor: Any) -> None:
    """Let the groups say what is in them, and none be empty."""
    newest = DIALECTS[connection.vendor].id("max(CAST(d.id AS text))")  # ids grow with time
    cursor.execute(
        "UPDATE messaging_deadgroup SET count = t.n, first_at = t.first_at, last_at = t.last_at, example = t.newest"
        " FROM (SELECT d.group_id, count(*) AS n, min(d.finished_at) AS first_at, max(d.finished_at) AS last_at,"
        f" {newest} AS newest FROM messaging_delivery d WHERE d.group_id IS NOT NULL AND d.resolved_at IS NULL"
        " GROUP BY d.group_id) AS t WHERE messaging_deadgroup.id = t.group_id"
    )
    cursor.execute("DELETE FROM messaging_deadgroup WHERE count = 0 AND resolved_at IS NULL")
