"""All raw SQL of the app: one function, one statement (a dialect may need its own text).

Times are aware datetimes and ids UUIDs on this side; each database keeps them
in its own way below. `now` is always the database's clock, read once a batch,
since leases of several hosts are compared with it.
"""

import operator
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import Any

import orjson
import psycopg
from django.db import connection

# Any constant will do, as long as every inserting transaction takes the same one.
INTAKE_LOCK = 0x1C9_0001

Row = Sequence[Any]
Key = Any  # an id as the database keeps it: from `claim` to `load_claims` it is only handed on


@dataclass(slots=True)
class Claim:
    """A delivery this process holds, with all that is needed to send it."""

    id: uuid.UUID
    token: uuid.UUID
    system_id: int
    interface: str
    attempts: int
    unspent: int
    max_attempts: int
    losses: int
    trigger: str
    expires_at: datetime | None
    throttled_since: datetime | None
    position: int
    message_id: str
    source: str
    target: str
    message_type: str
    event_type: str
    priority: int
    timestamp: datetime
    payload: bytes | None
    content_type: str
    headers: dict[str, str]
    correlation_id: str
    reply_to: str
    ordering_key: str
    recipient: str


@dataclass(slots=True)
class Finish:
    """What becomes of a claimed delivery, and the attempt to record for it, if one was made."""

    id: uuid.UUID
    token: uuid.UUID
    system_id: int
    state: str
    reason: str
    attempts: int
    unspent: int
    endpoint_id: uuid.UUID | None = None
    error_class: str = ""
    error: str = ""
    ack_level: str = ""
    delay_s: float = 0.0  # of one that stays pending: due so long after now
    throttled_since: datetime | None = None
    attempt: dict[str, Any] | None = field(default=None, repr=False)  # columns of messaging_attempt


@cache  # asked for every value; the database of a process does not change
def is_postgresql() -> bool:
    return bool(connection.vendor == "postgresql")


@contextmanager
def _cursor() -> Iterator[Any]:
    """Yield a cursor on Django's own connection; PostgreSQL's binds on the server, so statements are prepared."""
    connection.ensure_connection()
    if is_postgresql():
        with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
            yield cursor
    else:
        with connection.cursor() as cursor:
            yield cursor


@lru_cache(maxsize=64)  # a batch says `now` thousands of times
def _as_text(moment: datetime) -> str:
    return (moment if moment.tzinfo is UTC else moment.astimezone(UTC)).replace(tzinfo=None).isoformat(" ")


# How SQLite keeps what it has no type for: as Django does.
SQLITE_FORM: dict[str, Callable[[Any], Any]] = {"uuid": operator.attrgetter("hex"), "timestamptz": _as_text}


def _put(value: Any) -> Any:
    """Return one parameter as the database in use takes it."""
    if is_postgresql():
        return value
    if isinstance(value, uuid.UUID):
        return value.hex
    if isinstance(value, datetime):
        return _as_text(value)
    return value


def _time(value: Any) -> datetime | None:
    """Return a stored time as an aware datetime."""
    if value is None:
        return None
    found = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _uuid(value: Any) -> uuid.UUID:
    return value if isinstance(value, uuid.UUID) else uuid.UUID(int=int(value, 16))


def _insert(table: str, columns: dict[str, str], rows: Sequence[Row], *, conflict: str = "") -> None:
    """Insert `rows` in one statement; `columns` gives each name its PostgreSQL type."""
    if not rows:
        return
    names = ", ".join(columns)
    with _cursor() as cursor:
        if is_postgresql() and not conflict:
            # Half the work of arrays on our side; types are the table's own.
            with cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        elif is_postgresql():
            arrays = ", ".join("%s::text[]" if kind == "jsonb" else f"%s::{kind}[]" for kind in columns.values())
            values = ", ".join(f"{name}::jsonb" if kind == "jsonb" else name for name, kind in columns.items())
            cursor.execute(
                f"INSERT INTO {table} ({names}) SELECT {values} FROM unnest({arrays}) AS t({names}) {conflict}",
                [list(column) for column in zip(*rows, strict=True)],
            )
        else:
            _insert_sqlite(cursor, table, columns, _as_stored(columns, rows), conflict)


def _insert_sqlite(cursor: Any, table: str, columns: dict[str, str], rows: Sequence[Row], conflict: str) -> None:
    """Insert what JSON can carry as one text, the rest row by row.

    The driver gives the interpreter up at every step, and beside a busy event loop
    it waits for it each time: one step for all rows is what makes the difference.
    """
    names = ", ".join(columns)
    blobs = [place for place, kind in enumerate(columns.values()) if kind == "bytea"]
    plain = [row for row in rows if not any(row[place] is not None for place in blobs)] if blobs else rows
    if plain:
        values = ", ".join(f"value ->> {place}" for place in range(len(columns)))
        cursor.execute(
            f"INSERT INTO {table} ({names}) SELECT {values} FROM json_each(%s) WHERE true {conflict}",
            [orjson.dumps(plain).decode()],
        )
    if len(plain) < len(rows):
        marks = ", ".join(["%s"] * len(columns))
        rest = [row for row in rows if any(row[place] is not None for place in blobs)]
        cursor.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks}) {conflict}", rest)


def _as_stored(columns: dict[str, str], rows: Sequence[Row]) -> Sequence[Row]:
    """Return `rows` as SQLite keeps them, converting only the columns that need it."""
    converters = [(place, SQLITE_FORM[kind]) for place, kind in enumerate(columns.values()) if kind in SQLITE_FORM]
    stored = []
    for row in rows:
        values = list(row)
        for place, convert in converters:
            if values[place] is not None:
                values[place] = convert(values[place])
        stored.append(values)
    return stored


def _in(values: Sequence[Any]) -> tuple[str, list[Any]]:
    """Return the `IN` condition for many values, and its parameters."""
    if is_postgresql():
        return "= ANY(%s)", [list(values)]
    return f"IN ({', '.join(['%s'] * len(values))})", [_put(value) for value in values]


# --- the clock -----------------------------------------------------------------


def now() -> datetime:
    """Return the database's time."""
    with _cursor() as cursor:
        cursor.execute(
            "SELECT clock_timestamp()" if is_postgresql() else "SELECT strftime('%%Y-%%m-%%d %%H:%%M:%%f')", []
        )
        found = _time(cursor.fetchone()[0])
    assert found is not None
    return found


# --- intake --------------------------------------------------------------------


def lock_intake() -> None:
    """Let no other transaction number positions until this one ends, so that their order is commit order."""
    if is_postgresql():  # SQLite's IMMEDIATE transaction is that lock already
        with _cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [INTAKE_LOCK])


def reserve_positions(count: int) -> Sequence[int]:
    """Return the next `count` positions; hold the intake lock. A position is never given twice."""
    with _cursor() as cursor:
        if is_postgresql():
            cursor.execute(
                "SELECT nextval(pg_get_serial_sequence('messaging_message', 'position')) FROM generate_series(1, %s)",
                [count],
            )
            return [row[0] for row in cursor.fetchall()]
        # Inserting an explicit rowid moves sqlite_sequence on by itself.
        cursor.execute("SELECT seq FROM sqlite_sequence WHERE name = 'messaging_message'", [])
        row = cursor.fetchone()
        last = row[0] if row else 0
        return range(last + 1, last + 1 + count)


def find_messages(pairs: Sequence[tuple[int, str]]) -> dict[tuple[int, str], tuple[bytes, int]]:
    """Return {(source id, message id): (fingerprint, number of deliveries)} of those stored already."""
    if not pairs:
        return {}
    condition, values = _in([message_id for _, message_id in pairs])
    with _cursor() as cursor:
        cursor.execute(
            "SELECT m.source_id, m.message_id, m.fingerprint,"
            " (SELECT count(*) FROM messaging_delivery d WHERE d.message_id = m.position)"
            f" FROM messaging_message m WHERE m.message_id {condition}",
            values,
        )
        return {(row[0], row[1]): (bytes(row[2]), row[3]) for row in cursor.fetchall()}


def find_idempotency_keys(keys: Sequence[str], since: datetime) -> dict[tuple[int, str], tuple[bytes, str, int]]:
    """Return {(source id, key): (fingerprint, message id, number of deliveries)} of those used since `since`."""
    if not keys:
        return {}
    condition, values = _in(keys)
    with _cursor() as cursor:
        cursor.execute(
            "SELECT source_id, key, fingerprint, message_id, deliveries FROM messaging_idempotencykey"
            f" WHERE created_at > %s AND key {condition}",
            [_put(since), *values],
        )
        return {(row[0], row[1]): (bytes(row[2]), row[3], row[4]) for row in cursor.fetchall()}


MESSAGE = {
    "position": "bigint",
    "message_id": "text",
    "source_id": "bigint",
    "targets": "jsonb",
    "message_type": "text",
    "event_type": "text",
    "priority": "smallint",
    "timestamp": "timestamptz",
    "payload": "bytea",
    "content_type": "text",
    "headers": "jsonb",
    "correlation_id": "text",
    "reply_to": "text",
    "ordering_key": "text",
    "recipient": "text",
    "search_keys": "jsonb",
    "ttl_s": "float8",
    "deliver_at": "timestamptz",
    "max_retries": "smallint",
    "size": "integer",
    "fingerprint": "bytea",
    "unrouted": "boolean",
    "created_at": "timestamptz",
}
DELIVERY = {
    "id": "uuid",
    "message_id": "bigint",
    "source_id": "bigint",
    "system_id": "bigint",
    "interface": "text",
    "state": "text",
    "reason": "text",
    "priority": "smallint",
    "ordering_key": "text",
    "max_attempts": "integer",
    "due_at": "timestamptz",
    "expires_at": "timestamptz",
    "created_at": "timestamptz",
    "finished_at": "timestamptz",
    "error_class": "text",
    "error": "text",
    "ack_level": "text",
    "attempts": "integer",
    "unspent": "integer",
    "losses": "smallint",
    "trigger": "text",
}
ATTEMPT = {
    "id": "uuid",
    "delivery_id": "uuid",
    "endpoint_id": "uuid",
    "number": "integer",
    "started_at": "timestamptz",
    "took_ms": "float8",
    "phases_ms": "jsonb",
    "outcome": "text",
    "error_class": "text",
    "error": "text",
    "status_code": "smallint",
    "request": "jsonb",
    "response_headers": "jsonb",
    "response_body": "bytea",
    "response_truncated": "boolean",
    "trigger": "text",
}


def insert_messages(rows: Sequence[Row]) -> None:
    """Insert messages, columns as in MESSAGE."""
    _insert("messaging_message", MESSAGE, rows)


def insert_deliveries(rows: Sequence[Row]) -> None:
    """Insert deliveries, columns as in DELIVERY."""
    _insert("messaging_delivery", DELIVERY, rows)


def insert_search_keys(rows: Sequence[Row]) -> None:
    """Insert (position, name, value) rows."""
    _insert("messaging_searchkey", {"message_id": "bigint", "name": "text", "value": "text"}, rows)


def put_idempotency_keys(rows: Sequence[Row]) -> None:
    """Keep (source id, key, fingerprint, message id, deliveries, created at); one that ran out is replaced."""
    columns = {
        "source_id": "bigint",
        "key": "text",
        "fingerprint": "bytea",
        "message_id": "text",
        "deliveries": "integer",
        "created_at": "timestamptz",
    }
    renewed = ", ".join(
        f"{name} = excluded.{name}" for name in ("fingerprint", "message_id", "deliveries", "created_at")
    )
    _insert("messaging_idempotencykey", columns, rows, conflict=f"ON CONFLICT (source_id, key) DO UPDATE SET {renewed}")


def insert_attempts(attempts: Iterable[dict[str, Any]]) -> None:
    """Insert attempts given as {column: value}."""
    _insert("messaging_attempt", ATTEMPT, [tuple(attempt[name] for name in ATTEMPT) for attempt in attempts])


def add_rollups(counts: dict[tuple[datetime, int, str, str], tuple[int, float]]) -> None:
    """Add {(minute, system id, event, error class): (count, total ms)} to the rollups and to the totals.

    Sorted, so that two processes take the rows' locks in the same order.
    """
    totals: dict[Row, tuple[int, float]] = {}
    for (_, *key), (count, total_ms) in counts.items():
        before = totals.get(tuple(key), (0, 0.0))
        totals[tuple(key)] = (before[0] + count, before[1] + total_ms)
    _add("messaging_rollup", {"minute": "timestamptz", **COUNTED}, counts)
    _add("messaging_total", COUNTED, totals)


COUNTED = {"system_id": "bigint", "event": "text", "error_class": "text", "count": "bigint", "total_ms": "float8"}


def _add(table: str, columns: dict[str, str], counts: Mapping[Any, tuple[int, float]]) -> None:
    unique = ", ".join(name for name in columns if name not in ("count", "total_ms"))
    _insert(
        table,
        columns,
        [(*key, *counts[key]) for key in sorted(counts)],
        conflict=f"ON CONFLICT ({unique}) DO UPDATE SET count = {table}.count + excluded.count,"
        f" total_ms = {table}.total_ms + excluded.total_ms",
    )


# --- claim ---------------------------------------------------------------------


def due_targets(now: datetime) -> list[tuple[int, str, int]]:
    """Return (system id, interface, priority) of everything due that may be sent to, higher priorities first.

    One probe of the partial index for each, however many rows wait behind it.
    """
    with _cursor() as cursor:
        cursor.execute(
            "SELECT t.system_id, t.interface, p.priority FROM"
            " (SELECT DISTINCT e.system_id, e.interface FROM endpoints_endpoint e"
            "  JOIN endpoints_system s ON s.id = e.system_id WHERE e.state = 'enabled' AND s.state = 'active') t"
            " CROSS JOIN (SELECT 4 AS priority UNION ALL SELECT 3 UNION ALL SELECT 2 UNION ALL SELECT 1"
            "  UNION ALL SELECT 0) p"
            " WHERE EXISTS (SELECT 1 FROM messaging_delivery d WHERE d.state = 'pending'"
            "  AND d.system_id = t.system_id AND d.interface = t.interface AND d.priority = p.priority"
            "  AND d.due_at <= %s)"
            " ORDER BY p.priority DESC",
            [_put(now)],
        )
        return cursor.fetchall()


# A head that is still open holds back those behind it that carry the same key;
# what a person sent again stands outside the order.
IN_ORDER = (
    "(d.ordering_key = '' OR d.trigger <> 'scheduled' OR NOT EXISTS (SELECT 1 FROM messaging_delivery e"
    " WHERE e.system_id = d.system_id AND e.interface = d.interface AND e.ordering_key = d.ordering_key"
    " AND e.ordering_key <> '' AND e.state IN ('pending', 'sending') AND e.trigger = 'scheduled'"
    " AND e.message_id < d.message_id))"
)


def _claim(condition: str, values: Sequence[Any], token: uuid.UUID, until: datetime, limit: int) -> list[Key]:
    lock = "FOR UPDATE SKIP LOCKED" if is_postgresql() else ""
    with _cursor() as cursor:
        cursor.execute(
            "WITH due AS MATERIALIZED (SELECT d.id FROM messaging_delivery d WHERE d.state = 'pending'"
            f" AND {condition} ORDER BY d.due_at LIMIT %s {lock})"
            " UPDATE messaging_delivery SET state = 'sending', lease_token = %s, lease_until = %s"
            " WHERE id IN (SELECT id FROM due) RETURNING id",
            [*map(_put, values), limit, _put(token), _put(until)],
        )
        return [row[0] for row in cursor.fetchall()]


def claim(target: tuple[int, str, int], *, token: uuid.UUID, now: datetime, lease_s: float, limit: int) -> list[Key]:
    """Lease up to `limit` due deliveries of (system id, interface, priority), oldest first; suspects stay."""
    return _claim(
        "d.system_id = %s AND d.interface = %s AND d.priority = %s AND d.due_at <= %s AND d.losses = 0"
        f" AND (d.expires_at IS NULL OR d.expires_at > %s) AND {IN_ORDER}",
        [*target, now, now],
        token,
        now + timedelta(seconds=lease_s),
        limit,
    )


def claim_suspect(*, token: uuid.UUID, now: datetime, lease_s: float) -> list[Key]:
    """Lease the one longest due delivery whose worker was lost before, so that it can take nobody with it."""
    return _claim(
        "d.losses > 0 AND d.due_at <= %s AND (d.expires_at IS NULL OR d.expires_at > %s)"
        " AND EXISTS (SELECT 1 FROM endpoints_endpoint e JOIN endpoints_system s ON s.id = e.system_id"
        "  WHERE e.system_id = d.system_id AND e.interface = d.interface AND e.state = 'enabled'"
        f"  AND s.state = 'active') AND {IN_ORDER}",
        [now, now],
        token,
        now + timedelta(seconds=lease_s),
        1,
    )


def load_claims(ids: Sequence[Key], token: uuid.UUID) -> list[Claim]:
    """Return the claimed deliveries with their messages, in order of position."""
    if not ids:
        return []
    condition, values = _in(ids)
    with _cursor() as cursor:
        cursor.execute(
            "SELECT d.id, d.system_id, d.interface, d.attempts, d.unspent, d.max_attempts, d.losses,"
            " d.trigger, d.expires_at, d.throttled_since, m.position, m.message_id, source.slug, target.slug,"
            " m.message_type, m.event_type, m.priority, m.timestamp, m.payload, m.content_type, m.headers,"
            " m.correlation_id, m.reply_to, m.ordering_key, m.recipient"
            " FROM messaging_delivery d JOIN messaging_message m ON m.position = d.message_id"
            " JOIN endpoints_system source ON source.id = m.source_id"
            " JOIN endpoints_system target ON target.id = d.system_id"
            f" WHERE d.id {condition} AND d.lease_token = %s ORDER BY m.position",
            [*values, _put(token)],
        )
        return [_as_claim(row, token) for row in cursor.fetchall()]


def _as_claim(row: Row, token: uuid.UUID) -> Claim:
    claim = Claim(_uuid(row[0]), token, *row[1:])
    claim.expires_at, claim.throttled_since = _time(claim.expires_at), _time(claim.throttled_since)
    claim.timestamp = _time(claim.timestamp) or claim.timestamp
    claim.payload = None if claim.payload is None else bytes(claim.payload)
    if isinstance(claim.headers, str):
        claim.headers = orjson.loads(claim.headers)
    return claim


# --- hold and finish -----------------------------------------------------------


def renew(tokens: Sequence[uuid.UUID], until: datetime) -> int:
    """Hold on to everything claimed with `tokens` until `until`; return how many rows that is."""
    if not tokens:
        return 0
    condition, values = _in(tokens)
    with _cursor() as cursor:
        cursor.execute(
            f"UPDATE messaging_delivery SET lease_until = %s WHERE state = 'sending' AND lease_token {condition}",
            [_put(until), *values],
        )
        return int(cursor.rowcount)


FINISH = (
    "UPDATE messaging_delivery AS d SET state = {state}, reason = {reason}, error_class = {error_class},"
    " error = {error}, ack_level = {ack_level}, attempts = {attempts}, unspent = {unspent},"
    " endpoint_id = coalesce({endpoint_id}, d.endpoint_id), due_at = coalesce({due_at}, d.due_at),"
    " finished_at = {finished_at}, throttled_since = {throttled_since}, losses = {keep_losses} * d.losses,"
    " lease_token = NULL, lease_until = NULL"
)
FINISH_COLUMNS = {
    "state": "text",
    "reason": "text",
    "error_class": "text",
    "error": "text",
    "ack_level": "text",
    "attempts": "integer",
    "unspent": "integer",
    "endpoint_id": "uuid",
    "due_at": "timestamptz",
    "finished_at": "timestamptz",
    "throttled_since": "timestamptz",
    "keep_losses": "integer",
    "id": "uuid",
    "token": "uuid",
}


FINISH_SQLITE = (
    FINISH.format(**{name: f"t.{name}" for name in FINISH_COLUMNS})
    + f" FROM (SELECT {', '.join(f'value ->> {name!r} AS {name}' for name in FINISH_COLUMNS)} FROM json_each(%s)) AS t"
    " WHERE d.id = t.id AND d.state = 'sending' AND d.lease_token = t.token RETURNING id"
)
FINISH_POSTGRESQL = (
    FINISH.format(**{name: f"t.{name}" for name in FINISH_COLUMNS})
    # One JSON text costs this process a tenth of what fifteen arrays do.
    + f" FROM json_to_recordset(%s::json) AS t({', '.join(f'{name} {kind}' for name, kind in FINISH_COLUMNS.items())})"
    " WHERE d.id = t.id AND d.state = 'sending' AND d.lease_token = t.token RETURNING d.id"
)


def finish(finishes: Sequence[Finish], now: datetime) -> set[uuid.UUID]:
    """End what was claimed, each only if its lease is still ours; return the ids that were.

    An id that is missing from the answer had been taken over: the row belongs to
    another worker now and is left alone.
    """
    rows = [_finish_row(finish, now) for finish in finishes]
    with _cursor() as cursor:
        if is_postgresql():
            told = orjson.dumps([dict(zip(FINISH_COLUMNS, row, strict=True)) for row in rows])
            cursor.execute(FINISH_POSTGRESQL, [told.decode()])
            return {row[0] for row in cursor.fetchall()}
        told = orjson.dumps([dict(zip(FINISH_COLUMNS, row, strict=True)) for row in _as_stored(FINISH_COLUMNS, rows)])
        cursor.execute(FINISH_SQLITE, [told.decode()])
        return {_uuid(row[0]) for row in cursor.fetchall()}


def _finish_row(finish: Finish, now: datetime) -> Row:
    pending = finish.state == "pending"
    return (
        finish.state,
        finish.reason,
        finish.error_class,
        finish.error,
        finish.ack_level,
        finish.attempts,
        finish.unspent,
        finish.endpoint_id,
        now + timedelta(seconds=finish.delay_s) if pending else None,
        None if pending else now,
        finish.throttled_since,
        0 if finish.attempt else 1,  # a try that ended clears the suspicion
        finish.id,
        finish.token,
    )


def release(ids: Sequence[uuid.UUID], token: uuid.UUID) -> int:
    """Give back what was claimed and never tried: nothing is spent."""
    if not ids:
        return 0
    condition, values = _in(ids)
    with _cursor() as cursor:
        cursor.execute(
            "UPDATE messaging_delivery SET state = 'pending', lease_token = NULL, lease_until = NULL"
            f" WHERE state = 'sending' AND lease_token = %s AND id {condition}",
            [_put(token), *values],
        )
        return int(cursor.rowcount)


@dataclass(slots=True)
class Lost:
    """A delivery whose worker did not come back for it; `number` is that of the lost attempt."""

    id: uuid.UUID
    system_id: int
    state: str
    number: int
    endpoint_id: uuid.UUID | None
    trigger: str


LOSSES_ALONE = 3  # a suspect is claimed alone; so many more losses bury it


def recover(now: datetime, limit: int) -> list[Lost]:
    """Take back up to `limit` deliveries whose lease ran out; bury those that were lost alone too often."""
    lock = "FOR UPDATE SKIP LOCKED" if is_postgresql() else ""
    with _cursor() as cursor:
        cursor.execute(
            "WITH lost AS MATERIALIZED (SELECT id FROM messaging_delivery WHERE state = 'sending'"
            f" AND lease_until < %s ORDER BY lease_until LIMIT %s {lock})"
            f" UPDATE messaging_delivery SET state = CASE WHEN losses >= {LOSSES_ALONE} THEN 'dead' ELSE 'pending' END,"
            f" reason = CASE WHEN losses >= {LOSSES_ALONE} THEN 'poison' ELSE 'retrying' END,"
            f" finished_at = CASE WHEN losses >= {LOSSES_ALONE} THEN %s ELSE NULL END,"
            " losses = losses + 1, unspent = unspent + 1, due_at = %s, error_class = 'lost',"
            " error = 'the worker that held it was lost', lease_token = NULL, lease_until = NULL"
            " WHERE id IN (SELECT id FROM lost)"
            " RETURNING id, system_id, state, attempts + unspent, endpoint_id, trigger",
            [_put(now), limit, _put(now), _put(now)],
        )
        return [
            Lost(_uuid(row[0]), row[1], row[2], row[3], _uuid(row[4]) if row[4] else None, row[5])
            for row in cursor.fetchall()
        ]


def expire(now: datetime, limit: int) -> list[tuple[uuid.UUID, int]]:
    """End up to `limit` waiting deliveries whose time to live is over; return (id, system id) of each."""
    lock = "FOR UPDATE SKIP LOCKED" if is_postgresql() else ""
    with _cursor() as cursor:
        cursor.execute(
            "WITH late AS MATERIALIZED (SELECT id FROM messaging_delivery WHERE state = 'pending'"
            f" AND expires_at <= %s ORDER BY expires_at LIMIT %s {lock})"
            " UPDATE messaging_delivery SET state = 'expired', reason = 'ttl', finished_at = %s"
            " WHERE id IN (SELECT id FROM late) RETURNING id, system_id",
            [_put(now), limit, _put(now)],
        )
        return [(_uuid(row[0]), row[1]) for row in cursor.fetchall()]


# --- retention -----------------------------------------------------------------


def drop_payloads(positions: Sequence[int]) -> int:
    """Remove the payloads of messages; return how many there were."""
    if not positions:
        return 0
    condition, values = _in(positions)
    with _cursor() as cursor:
        cursor.execute(
            f"UPDATE messaging_message SET payload = NULL WHERE payload IS NOT NULL AND position {condition}", values
        )
        return int(cursor.rowcount)


def delete_messages(positions: Sequence[int], deliveries: Sequence[uuid.UUID]) -> int:
    """Delete messages with these, all their deliveries, and what hangs on both; return how many messages that were."""
    if not positions:
        return 0
    condition, values = _in(positions)
    with _cursor() as cursor:
        if deliveries:
            theirs, ids = _in(deliveries)
            cursor.execute(f"DELETE FROM messaging_attempt WHERE delivery_id {theirs}", ids)
            cursor.execute(f"DELETE FROM messaging_delivery WHERE id {theirs}", ids)
        cursor.execute(f"DELETE FROM messaging_searchkey WHERE message_id {condition}", values)
        cursor.execute(f"DELETE FROM messaging_message WHERE position {condition}", values)
        return int(cursor.rowcount)


def delete_attempts(deliveries: Sequence[uuid.UUID], before: datetime) -> int:
    """Delete the attempts of these deliveries that started before; return how many those were."""
    if not deliveries:
        return 0
    theirs, ids = _in(deliveries)
    with _cursor() as cursor:
        cursor.execute(
            f"DELETE FROM messaging_attempt WHERE started_at < %s AND delivery_id {theirs}", [_put(before), *ids]
        )
        return int(cursor.rowcount)
