"""All raw SQL of the app: one function, one statement (a dialect may need its own text).

Times are aware datetimes and ids UUIDs on this side; each database keeps them
in its own way below. `now` is always the database's clock, read once a batch,
since leases of several hosts are compared with it.
"""

import time
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import orjson
import psycopg
from django.db import OperationalError, connection, transaction

# Any constant will do, as long as every inserting transaction takes the same one.
INTAKE_LOCK = 0x1C9_0001
ORDER_LOCK = 0x1C9_0002  # the first of two numbers; the second stands for the interface

MONITOR_LOCK = 0x1C9_0003
INBOX_LOCK = 0x1C9_0004  # as ORDER_LOCK

Row = Sequence[Any]
Line = tuple[int, str, str]  # system id, interface, ordering key: what has the same is sent one after the other
Key = Any  # an id as the database keeps it: from `late` to `expire` it is only handed on


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
    trial: uuid.UUID | None = None  # the endpoint whose open breaker lets this one be tried


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
    line: Line | None = None  # it stands in: locked before any row is, see `lock_lines`


@cache  # asked for every value; the database of a process does not change
def is_postgresql() -> bool:
    return bool(connection.vendor == "postgresql")


@lru_cache(maxsize=512)
def _marked(statement: str) -> str:
    """Return a statement with the placeholders of SQLite."""
    return statement.replace("%s", "?").replace("%%", "%")


class LiteCursor:
    """A cursor of SQLite that takes statements as PostgreSQL's does; Django's converts each anew, every time."""

    __slots__ = ("_cursor",)

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def execute(self, statement: str, values: Sequence[Any], *, prepare: bool = False) -> None:
        """Run a statement; SQLite's driver keeps each prepared by itself."""
        self._cursor.execute(_marked(statement), values)

    def fetchone(self) -> Any:
        return self._cursor.fetchone()

    def fetchall(self) -> list[Any]:
        found: list[Any] = self._cursor.fetchall()
        return found

    @property
    def rowcount(self) -> int:
        return int(self._cursor.rowcount)

    def close(self) -> None:
        self._cursor.close()


@contextmanager
def _cursor() -> Iterator[Any]:
    """Yield a cursor on Django's own connection.

    PostgreSQL's keeps the plan of what is run with `prepare=True`: of statements whose plan is the same however much
    there is in the tables. `_run_kept` keeps others a moment; the rest is planned each time, by the size of its tables.
    """
    connection.ensure_connection()
    with connection.wrap_database_errors:
        made = psycopg.Cursor(connection.connection) if is_postgresql() else LiteCursor(connection.connection.cursor())
        with closing(made) as cursor:
            yield cursor


PLANS_KEPT_S = 1.0  # then a table may have grown beyond what they were made for
_planned_at: "WeakKeyDictionary[Any, float]" = WeakKeyDictionary()  # by PostgreSQL's connection


def _run_kept(cursor: Any, statement: str, values: Sequence[Any]) -> None:
    """Run what PostgreSQL is asked many times a second: to plan it takes longer than to do it for a few rows."""
    moment, link = time.monotonic(), cursor.connection
    if moment - _planned_at.setdefault(link, moment) >= PLANS_KEPT_S:
        cursor.execute("DISCARD PLANS", [])
        _planned_at[link] = moment
    began = time.monotonic()
    cursor.execute(statement, values, prepare=True)
    if time.monotonic() - began > SLOW_S and not connection.in_atomic_block:
        _renew_statistics(link)


SLOW_S = 0.1  # of what takes some milliseconds
RENEWED_S = 15  # at most so often, by whichever process


def _renew_statistics(link: Any) -> None:
    """Let PostgreSQL see what is in the deliveries, unless it has just done so.

    Where nothing waited when it looked last, each index seems as good to it, and for each system it reads all that
    waits: a backlog is claimed many times slower, and is too small a part of a long history for autovacuum to look.
    What was claimed is ours whatever becomes of this, and waits for nobody who is at the table.
    """
    with suppress(psycopg.Error), closing(psycopg.Cursor(link)) as cursor:
        cursor.execute(
            "SELECT coalesce(greatest(last_analyze, last_autoanalyze) > clock_timestamp() - %s * interval '1 second',"
            " false) FROM pg_stat_user_tables WHERE relid = 'messaging_delivery'::regclass",
            [RENEWED_S],
        )
        if cursor.fetchone() == (False,):
            cursor.execute("ANALYZE (SKIP_LOCKED) messaging_delivery")


@lru_cache(maxsize=64)  # a batch says `now` thousands of times
def _as_text(moment: datetime | None) -> str | None:
    return (
        None
        if moment is None
        else (moment if moment.tzinfo is UTC else moment.astimezone(UTC)).replace(tzinfo=None).isoformat(" ")
    )


def _as_hex(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else value.hex


# How SQLite keeps what it has no type for: as Django does.
SQLITE_FORM: dict[str, Callable[[Any], Any]] = {"uuid": _as_hex, "timestamptz": _as_text}
FEW = 32  # rows: up to so many have a statement of their own size, which takes some 3 KiB a row while it is kept
MOST_IN_STEP = 256  # rows: with the widest table some 6,000 parameters, of the 32,766 that SQLite takes


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
            body = bytearray()
            texts = _as_records(columns, rows, body)
            statement = f"WITH {BODY} {_from_records(table, columns)} {conflict}"
            cursor.execute(statement, [bytes(body), texts], prepare=True)
        else:
            _insert_sqlite(cursor, table, columns, rows, conflict)


def _insert_sqlite(cursor: Any, table: str, columns: dict[str, str], rows: Sequence[Row], conflict: str) -> None:
    for marks, values in _steps(columns, rows):
        cursor.execute(f"INSERT INTO {table} ({', '.join(columns)}) VALUES {marks} {conflict}", values)


def _steps(columns: dict[str, str], rows: Sequence[Row]) -> Iterator[tuple[str, list[Any]]]:
    """Yield (marks for VALUES, values) of many rows in few steps, of sizes whose statements SQLite's driver keeps.

    The driver gives the interpreter up at every step, and beside a busy event loop
    it waits for it each time: a step for each row would cost more than the rows.
    """
    row_marks = f"({', '.join(['%s'] * len(columns))})"
    start = 0
    while start < len(rows):
        left = len(rows) - start
        size = left if left <= FEW else min(MOST_IN_STEP, 1 << left.bit_length() - 1)
        yield ", ".join([row_marks] * size), _as_stored(columns, rows[start : start + size])
        start += size


def _as_stored(columns: dict[str, str], rows: Sequence[Row]) -> list[Any]:
    """Return the values of all rows, one after the other, as SQLite keeps them."""
    values = [value for row in rows for value in row]
    for place, kind in enumerate(columns.values()):
        if convert := SQLITE_FORM.get(kind):
            values[place :: len(columns)] = map(convert, values[place :: len(columns)])
    return values


def _in(values: Sequence[Any]) -> tuple[str, list[Any]]:
    """Return the `IN` condition for many values, and its parameters."""
    if is_postgresql():
        return "= ANY(%s)", [list(values)]
    return f"IN ({', '.join(['%s'] * len(values))})", [_put(value) for value in values]


def _among(query: str) -> str:
    """Return the condition for one of the few keys that `query` gives, so that no table is read for it as a whole.

    PostgreSQL takes `IN (SELECT ...)` for a join, and by counts that are out of date reads every row to make it.
    """
    return f"= ANY(ARRAY({query}))" if is_postgresql() else f"IN ({query})"


# --- the clock -----------------------------------------------------------------

LITE_CLOCK = "strftime('%%Y-%%m-%%d %%H:%%M:%%f')"


def now(*, commit_soon: bool = False) -> datetime:
    """Return the database's time.

    With `commit_soon` the commit of this transaction does not wait for the disk: when the power fails, it may
    never have been. That is for claims alone: nobody was told of them, and what was claimed is due again.
    """
    soon = ", set_config('synchronous_commit', 'off', true)" if commit_soon else ""  # SQLite writes its whole log
    with _cursor() as cursor:
        cursor.execute(
            f"SELECT clock_timestamp(){soon}" if is_postgresql() else f"SELECT {LITE_CLOCK}", [], prepare=True
        )
        found = _time(cursor.fetchone()[0])
    assert found is not None
    return found


def commit_durably() -> None:
    """Take back what `now` said of this transaction's commit."""
    if is_postgresql():
        with _cursor() as cursor:
            cursor.execute("SET LOCAL synchronous_commit TO DEFAULT", [])


def checkpoint() -> None:
    """Have SQLite move what its log holds into the database, while others write; does nothing within a transaction.

    SQLite does so by itself at some commit, in whose turn everybody else waits: for longer, the more there is to move.
    """
    if is_postgresql() or connection.in_atomic_block:
        return
    with suppress(OperationalError), _cursor() as cursor:  # a read of ours is under way: it is for the next time
        cursor.execute("PRAGMA wal_checkpoint(PASSIVE)", [])
        cursor.fetchall()


def database_bytes() -> int:
    """Return how large the database is, without what waits in a log to be written to it."""
    size = (
        "pg_database_size(current_database())"
        if is_postgresql()
        else "page_count * page_size FROM pragma_page_count(), pragma_page_size()"
    )
    with _cursor() as cursor:
        cursor.execute(f"SELECT {size}", [])
        return int(cursor.fetchone()[0])


# --- what changed --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Glance:
    """What of the tables an idle engine has to know, however much there is in them."""

    now: datetime
    registry: str  # another one whenever a system, an endpoint, a credential, maintenance or the emergency stop changed
    is_stopped: bool
    is_pause_over: bool  # or a retirement goes on
    has_breakers: bool  # some were written since
    is_overdue: bool  # a lease ran out, or a time to live did
    is_due: bool  # something waits whose time has come; it may still be held


_OVER = "count(CASE WHEN state = 'paused' AND pause_until <= {at} THEN 1 END)"
_CHANGED = "(SELECT count(*) AS n, coalesce(CAST(max(updated_at) AS text), '') AS newest, {over} AS ended FROM {table})"

# The windows of maintenance that are not over, and whether each has begun.
_WINDOWS = (
    "coalesce((SELECT {joined} FROM (SELECT CAST(starts_at AS text) || ' ' || CAST(ends_at AS text) || ' ' || system_id"
    " || CASE WHEN starts_at <= {at} THEN ' begun' ELSE '' END AS w FROM endpoints_maintenance"
    " WHERE ends_at > {at} ORDER BY starts_at, id) m), '')"
)


@cache
def _glance() -> str:
    clock, at = (
        # An index takes the time of the statement; the other one goes on within it.
        ("clock_timestamp()", "statement_timestamp()") if is_postgresql() else (LITE_CLOCK, LITE_CLOCK)
    )
    tables = {"s": ("endpoints_system", True), "e": ("endpoints_endpoint", True), "c": ("endpoints_credential", False)}
    registry = " || ' ' || ".join(f"{name}.n || ' ' || {name}.newest" for name in tables)
    windows = _WINDOWS.format(at=at, joined="string_agg(w, ' ')" if is_postgresql() else "group_concat(w, ' ')")
    sources = ", ".join(
        f"{_CHANGED.format(table=table, over=_OVER.format(at='%s') if is_paused else '0')} AS {name}"
        for name, (table, is_paused) in tables.items()
    )
    return (
        f"SELECT {clock}, {registry} || ' ' || {windows},"
        " EXISTS (SELECT 1 FROM endpoints_emergencystop),"
        " s.ended + e.ended > 0 OR EXISTS (SELECT 1 FROM endpoints_emergencystop WHERE until <= %s)"
        " OR EXISTS (SELECT 1 FROM endpoints_system WHERE retirement <> ''),"
        " EXISTS (SELECT 1 FROM endpoints_breaker WHERE written_at >= %s),"
        f" EXISTS (SELECT 1 FROM messaging_delivery WHERE state = 'sending' AND lease_until < {at})"
        f" OR EXISTS (SELECT 1 FROM messaging_delivery WHERE state = 'pending' AND expires_at <= {at}),"
        f" EXISTS (SELECT 1 FROM messaging_delivery WHERE state = 'pending' AND due_at <= {at})"
        f" FROM {sources}"
    )


def glance(pauses_at: datetime, breakers_since: datetime) -> Glance:
    """Look at everything that an engine follows: pauses that end by a time, breakers written since one.

    One statement, and all an idle engine asks twice a second. What grows has an index for it.
    """
    at = _put(pauses_at)
    with _cursor() as cursor:
        cursor.execute(_glance(), [at, _put(breakers_since), at, at], prepare=True)
        row = cursor.fetchone()
    moment = _time(row[0])
    assert moment is not None
    return Glance(moment, f"{row[2]} {row[1]}", *map(bool, row[2:]))


def members(claimer: str) -> tuple[datetime | None, list[Row]]:
    """Return the time and (id, place, pid, since when, seen at, view, over) of each that claims so; no time if none."""
    with _cursor() as cursor:
        cursor.execute(
            f"SELECT {'clock_timestamp()' if is_postgresql() else LITE_CLOCK},"
            ' id, place, pid, pid_started, seen_at, "view", "over" FROM messaging_member WHERE claimer = %s',
            [claimer],
        )
        rows = cursor.fetchall()
    return (_time(rows[0][0]) if rows else None), [_member(row[1:]) for row in rows]


def _member(row: Row) -> Row:
    lists = [orjson.loads(item) if isinstance(item, str) else item for item in row[5:]]
    return (_uuid(row[0]), *row[1:4], _time(row[4]), *lists)


def along_indexes() -> AbstractContextManager[None]:
    """Have PostgreSQL read what is asked within in the order of an index, row by row, and stop at its limit.

    Beside a burst it expects few rows where there are a million, and would gather and
    sort all of them for the first ones. SQLite reads so anyway.
    """
    return _planning(enable_bitmapscan="off", enable_seqscan="off", enable_sort="off")


def by_probes() -> AbstractContextManager[None]:
    """Have PostgreSQL look up what it joins row by row, as if the table were in memory, not read all of that table."""
    return _planning(random_page_cost="1.1")


@contextmanager
def _planning(**settings: str) -> Iterator[None]:
    """Set what PostgreSQL plans by, for what is asked within; after an error its rollback takes that back."""
    if not is_postgresql():
        yield
        return
    with transaction.atomic():
        _set_local(settings)
        yield
        _set_local(dict.fromkeys(settings, "DEFAULT"))


def _set_local(settings: Mapping[str, str]) -> None:
    with _cursor() as cursor:
        for name, value in settings.items():
            cursor.execute(f"SET LOCAL {name} TO {value}", [])


# --- intake --------------------------------------------------------------------

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
POSITIONS = "(SELECT pg_get_serial_sequence('messaging_message', 'position')::regclass)"


def lock_intake() -> None:
    """Take the lock that `begin_intake` takes, before others that come after it."""
    if is_postgresql():
        with _cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [INTAKE_LOCK])


def lock_monitor() -> None:
    """Let one monitor at a time judge, until this transaction ends; SQLite's transaction is that lock already."""
    if is_postgresql():
        with _cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [MONITOR_LOCK])


def begin_intake(count: int) -> tuple[datetime, Sequence[int]]:
    """Return the database's time and the next `count` positions; none of these is ever given again.

    Until this transaction ends no other one gets positions, so that their order is commit order.
    """
    with _cursor() as cursor:
        if is_postgresql():
            # The lock first: not one position is drawn before it is ours.
            cursor.execute(
                "WITH locked AS MATERIALIZED (SELECT pg_advisory_xact_lock(%s)) SELECT clock_timestamp(),"
                f" nextval({POSITIONS})"
                " FROM locked, generate_series(1, %s)",
                [INTAKE_LOCK, count],
                prepare=True,
            )
            rows = cursor.fetchall()
            return rows[0][0], [row[1] for row in rows]
        # SQLite's IMMEDIATE transaction is that lock already; an explicit rowid moves sqlite_sequence on by itself.
        cursor.execute(
            "SELECT strftime('%%Y-%%m-%%d %%H:%%M:%%f'),"
            " (SELECT seq FROM sqlite_sequence WHERE name = 'messaging_message')",
            [],
        )
        moment, last = cursor.fetchone()
        now = _time(moment)
        assert now is not None
        return now, range((last or 0) + 1, (last or 0) + 1 + count)


def last_position() -> int:
    """Return the highest position ever given, whether what it was given to was committed or is gone again."""
    with _cursor() as cursor:
        if is_postgresql():
            cursor.execute(f"SELECT pg_sequence_last_value({POSITIONS})", [])
        else:
            cursor.execute("SELECT seq FROM sqlite_sequence WHERE name = 'messaging_message'", [])
        row = cursor.fetchone()
        return (row and row[0]) or 0


def _each(
    table: str, found: str, names: tuple[str, str], pairs: Sequence[tuple[int, str]], more: str = ""
) -> tuple[str, list[Any]]:
    """Return the query, and its parameters, of `found` in each row `t` of which two columns are one of `pairs`.

    One probe of their index for each, however many rows there are and whatever the planner thinks of them.
    """
    first, second = names
    same = f"t.{first} = w.first AND t.{second} = w.second {more}"
    if is_postgresql():  # OFFSET 0: to be asked of one after the other, and never as a join
        return (
            "SELECT f.* FROM unnest(%s::bigint[], %s::text[]) AS w(first, second)"
            f" CROSS JOIN LATERAL (SELECT {found} FROM {table} t WHERE {same} OFFSET 0) AS f"
        ), [list(column) for column in zip(*pairs, strict=True)]
    marks = ", ".join(["(%s, %s)"] * len(pairs))
    return (
        f"SELECT {found} FROM (SELECT column1 AS first, column2 AS second FROM (VALUES {marks})) AS w"
        f" CROSS JOIN {table} t WHERE {same}"
    ), [value for pair in pairs for value in pair]


def find_messages(pairs: Sequence[tuple[int, str]]) -> dict[tuple[int, str], tuple[bytes, int]]:
    """Return {(source id, message id): (fingerprint, number of deliveries)} of those stored already."""
    if not pairs:
        return {}
    found = (
        "t.source_id, t.message_id, t.fingerprint,"
        " (SELECT count(*) FROM messaging_delivery d WHERE d.message_id = t.position)"
    )
    with _cursor() as cursor:
        cursor.execute(*_each("messaging_message", found, ("source_id", "message_id"), pairs))
        return {(row[0], row[1]): (bytes(row[2]), row[3]) for row in cursor.fetchall()}


def find_idempotency_keys(
    pairs: Sequence[tuple[int, str]], since: datetime
) -> dict[tuple[int, str], tuple[bytes, str, int]]:
    """Return {(source id, key): (fingerprint, message id, number of deliveries)} of those used since `since`."""
    if not pairs:
        return {}
    found = "t.source_id, t.key, t.fingerprint, t.message_id, t.deliveries"
    statement, values = _each("messaging_idempotencykey", found, ("source_id", "key"), pairs, "AND t.created_at > %s")
    with _cursor() as cursor:
        cursor.execute(statement, [*values, _put(since)])
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
    "recipient": "text",
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
ROLLUP = {
    "minute": "timestamptz",
    "system_id": "bigint",
    "event": "text",
    "error_class": "text",
    "count": "bigint",
    "total_ms": "float8",
}
ADD_UP = (
    "ON CONFLICT (minute, system_id, event, error_class) DO UPDATE SET"
    " count = messaging_rollup.count + excluded.count, total_ms = messaging_rollup.total_ms + excluded.total_ms"
)
Counts = dict[tuple[datetime, int, str, str], tuple[int, float]]


def insert_accepted(messages: Sequence[Row], deliveries: Sequence[Row], counts: Counts) -> None:
    """Insert messages and deliveries, columns as in MESSAGE and DELIVERY, and add to the rollups.

    PostgreSQL does it in one step: every further one would cost all other writers a round trip.
    """
    if not is_postgresql():
        _insert("messaging_message", MESSAGE, messages)
        _insert("messaging_delivery", DELIVERY, deliveries)
        add_rollups(counts)
        return
    body = bytearray()
    texts = [
        _as_records(columns, rows, body)
        for columns, rows in ((MESSAGE, messages), (DELIVERY, deliveries), (ROLLUP, _rollup_rows(counts)))
    ]
    with _cursor() as cursor:
        cursor.execute(ACCEPT, [bytes(body), *texts], prepare=True)


def _as_records(columns: dict[str, str], rows: Sequence[Row], body: bytearray) -> str:
    """Return rows as JSON for `_from_records`: columns by place; bytes go into `body`, their place and size instead."""
    records = [dict(zip(columns, row, strict=True)) for row in rows]
    for name in [name for name, kind in columns.items() if kind == "bytea"]:
        for record in records:
            if value := record[name]:
                record[name], record[f"{name}_size"] = len(body) + 1, len(value)
                body += value
            elif value is not None:
                record[name], record[f"{name}_size"] = 1, 0
    return orjson.dumps(records).decode()


def _from_records(table: str, columns: dict[str, str], *, beside: str = "", **others: str) -> str:
    """Return the INSERT of what `_as_records` made; its parameter is the JSON, `body` the CTE of the bytes.

    `others` are expressions for columns that are no plain value of `t`; `beside` is what else they are of.
    """
    given = [f"{name} {_FORM.get(kind, kind)}" for name, kind in columns.items()]
    given += [f"{name}_size integer" for name, kind in columns.items() if kind == "bytea"]
    read = {"bytea": "substring(body.bytes FROM t.{0} FOR t.{0}_size)", "jsonb": "t.{0}::jsonb"}
    values = others | {
        name: read.get(kind, "t.{0}").format(name) for name, kind in columns.items() if name not in others
    }
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(values[name] for name in columns)}"
        f" FROM body, json_to_recordset(%s::json) AS t({', '.join(given)}){beside}"
    )


_FORM = {"bytea": "integer", "jsonb": "text"}  # what stands for such a value in the JSON
BODY = "body AS MATERIALIZED (SELECT %s::bytea AS bytes)"
ACCEPT = (
    f"WITH {BODY},"
    f" messages AS ({_from_records('messaging_message', MESSAGE)}),"
    f" deliveries AS ({_from_records('messaging_delivery', DELIVERY)})"
    f" {_from_records('messaging_rollup', ROLLUP)} {ADD_UP}"
)


SEARCH_KEY = {"message_id": "bigint", "name": "text", "value": "text"}
AFTER_BEGUN = "begun.at + (t.{} - 'epoch'::timestamptz)"
ACCEPT_AT_ONCE = (
    f"WITH {BODY}, locked AS MATERIALIZED (SELECT pg_advisory_xact_lock(%s)),"
    # The lock first: neither clock nor sequence is read before it is ours.
    " clock AS MATERIALIZED (SELECT clock_timestamp() AS at FROM locked),"
    # An array, since a join would copy all the bytes for each of its rows.
    f" begun AS MATERIALIZED (SELECT at, array_agg(nextval({POSITIONS})) AS positions"
    " FROM clock, generate_series(1, %s) GROUP BY at),"
    " messages AS ("
    + _from_records(
        "messaging_message",
        MESSAGE,
        beside=", begun",
        position="begun.positions[t.position]",
        timestamp="coalesce(t.timestamp, begun.at)",
        created_at="begun.at",
    )
    + "), deliveries AS ("
    + _from_records(
        "messaging_delivery",
        DELIVERY,
        beside=", begun",
        message_id="begun.positions[t.message_id]",
        due_at="greatest(t.due_at, begun.at)",
        **{name: AFTER_BEGUN.format(name) for name in ("expires_at", "created_at", "finished_at")},
    )
    + "), named AS ("
    + _from_records("messaging_searchkey", SEARCH_KEY, beside=", begun", message_id="begun.positions[t.message_id]")
    + ") "
    + _from_records("messaging_rollup", ROLLUP, beside=", begun", minute="date_trunc('minute', begun.at)")
    + f" {ADD_UP}"
)


def can_accept_at_once() -> bool:
    """Say whether `accept_at_once` can be used, and would be a transaction of its own."""
    return is_postgresql() and not connection.in_atomic_block


def accept_at_once(
    messages: Sequence[Row], deliveries: Sequence[Row], keys: Sequence[Row], counts: Mapping[tuple[int, str], int]
) -> None:
    """Do what `begin_intake`, `insert_accepted` and `insert_search_keys` do, in one statement and its own commit.

    For what is compared with nothing that is stored. Positions are places in `messages` here, from 1; moments are
    said as if it were 1970 now, or None where it is now. `counts` are by system and event.
    """
    body = bytearray()
    rollups = _rollup_rows({(EPOCH, system, event, ""): (count, 0.0) for (system, event), count in counts.items()})
    given = ((MESSAGE, messages), (DELIVERY, deliveries), (SEARCH_KEY, keys), (ROLLUP, rollups))
    texts = [_as_records(columns, rows, body) for columns, rows in given]
    with _cursor() as cursor:
        cursor.execute(ACCEPT_AT_ONCE, [bytes(body), INTAKE_LOCK, len(messages), *texts], prepare=True)


def insert_search_keys(rows: Sequence[Row]) -> None:
    """Insert (position, name, value) rows."""
    _insert("messaging_searchkey", SEARCH_KEY, rows)


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
    _insert("messaging_attempt", ATTEMPT, _attempt_rows(attempts))


def _attempt_rows(attempts: Iterable[dict[str, Any]]) -> list[Row]:
    return [tuple(attempt[name] for name in ATTEMPT) for attempt in attempts]


def add_rollups(counts: Counts) -> None:
    """Add {(minute, system id, event, error class): (count, total ms)} to the rollups."""
    _insert("messaging_rollup", ROLLUP, _rollup_rows(counts), conflict=ADD_UP)


def _rollup_rows(counts: Counts) -> list[Row]:
    """Return the rows of ROLLUP, sorted, so that two processes take their locks in the same order."""
    return [(*key, *counts[key]) for key in sorted(counts)]


def add_to_totals(since: datetime, until: datetime) -> None:
    """Add the rollups of the minutes from `since` to before `until` to the totals."""
    with _cursor() as cursor:
        cursor.execute(
            "INSERT INTO messaging_total (system_id, event, error_class, count, total_ms)"
            " SELECT system_id, event, error_class, sum(count), sum(total_ms) FROM messaging_rollup"
            " WHERE minute >= %s AND minute < %s GROUP BY system_id, event, error_class"
            " ON CONFLICT (system_id, event, error_class) DO UPDATE SET count = messaging_total.count + excluded.count,"
            " total_ms = messaging_total.total_ms + excluded.total_ms",
            [_put(since), _put(until)],
        )


# --- claim ---------------------------------------------------------------------


# An emergency stop holds at once, whatever a process remembers.
NOT_STOPPED = "NOT EXISTS (SELECT 1 FROM endpoints_emergencystop)"
# Windows begin and end on whole seconds, which is what SQLite's own time is told in.
IN_MAINTENANCE = (
    "EXISTS (SELECT 1 FROM endpoints_maintenance w WHERE w.system_id = {0}.system_id"
    " AND w.starts_at <= CURRENT_TIMESTAMP AND w.ends_at > CURRENT_TIMESTAMP)"
)
SWITCHED_ON = "e.state = 'enabled' AND (s.state = 'active' OR s.retirement = 'draining')"
ENABLED = f"{SWITCHED_ON} AND NOT {IN_MAINTENANCE.format('e')}"
USABLE = (
    f"{ENABLED} AND NOT EXISTS (SELECT 1 FROM endpoints_breaker b WHERE b.endpoint_id = e.id AND b.state <> 'closed')"
)
# Whether nobody paused the interface of a delivery `d`.
IS_ON = (
    "EXISTS (SELECT 1 FROM endpoints_endpoint e JOIN endpoints_system s ON s.id = e.system_id"
    f" WHERE e.system_id = d.system_id AND e.interface = d.interface AND {SWITCHED_ON})"
)
# What waits for nothing but its time and a place; the words are those of the partial index `delivery_due`.
WAITS_ITS_TURN = "d.state = 'pending' AND NOT (d.reason = 'blocked')"
# Of each target `t` and priority `p`, since when something is due: one probe of the partial index each.
FIRST_DUE = (
    "SELECT t.system_id, t.interface, p.priority, (SELECT d.due_at FROM messaging_delivery d"
    f"  WHERE {WAITS_ITS_TURN} AND d.system_id = t.system_id AND d.interface = t.interface"
    "  AND d.priority = p.priority {0} ORDER BY d.due_at LIMIT 1) AS due_at"
)
USES_DELIVER = "EXISTS (SELECT 1 FROM json_each(e.\"use\") WHERE value = 'deliver')"
HAS_SUSPECT = "EXISTS (SELECT 1 FROM messaging_delivery d WHERE d.state = 'pending' AND d.losses > 0)"
PRIORITIES = "(SELECT 4 AS priority UNION ALL SELECT 3 UNION ALL SELECT 2 UNION ALL SELECT 1 UNION ALL SELECT 0)"


def _due(usable: str, at: str) -> str:
    """Return the query of what `FIRST_DUE` tells of each target with a usable endpoint `e` of a system `s`."""
    return (
        f"{FIRST_DUE.format(f'AND d.due_at <= {at}')} FROM (SELECT DISTINCT e.system_id, e.interface"
        f" FROM endpoints_endpoint e JOIN endpoints_system s ON s.id = e.system_id WHERE {usable} AND {NOT_STOPPED}) t"
        f" CROSS JOIN {PRIORITIES} p"
    )


def due_targets(now: datetime, *, behind_breakers: bool = False) -> list[tuple[int, str, int, datetime]]:
    """Return (system id, interface, priority, due since) of all that may be sent to, higher priorities first.

    With `behind_breakers` also what an open breaker holds. One probe of the partial
    index for each, however many rows wait behind it.
    """
    return due(now, behind_breakers=behind_breakers)[0]


def due(
    now: datetime, *, protocols: Sequence[str] | None = None, behind_breakers: bool = False
) -> tuple[list[tuple[int, str, int, datetime]], bool]:
    """Return `due_targets`, and whether suspects may be among what is due there.

    With `protocols` only where an endpoint that speaks one of them may be sent to.
    """
    usable = ENABLED if behind_breakers else USABLE
    values: list[Any] = []
    if protocols is not None:
        spoken, values = _in(protocols)
        usable = f"{usable} AND e.protocol {spoken}"
    with _cursor() as cursor:
        cursor.execute(
            f"SELECT found.*, {HAS_SUSPECT} FROM ({_due(usable, '%s')}) AS found"
            " WHERE due_at IS NOT NULL ORDER BY priority DESC",
            [_put(now), *values],
            prepare=True,
        )
        rows = cursor.fetchall()
    return [(row[0], row[1], row[2], _time(row[3]) or now) for row in rows], any(row[4] for row in rows)


def without_door(now: datetime) -> list[tuple[int, str, datetime]]:
    """Return (system id, interface, due since) where something is due and no endpoint would ever deliver it.

    One probe of the partial index for each system and each interface that anything waits
    for, and five more for each that is returned.
    """
    delivers = 'e."use" @> \'["deliver"]\'' if is_postgresql() else USES_DELIVER
    ahead = (
        f"(SELECT d.interface FROM messaging_delivery d WHERE {WAITS_ITS_TURN} AND d.system_id = {{0}}"
        " ORDER BY d.interface LIMIT 1)"
    )
    more = ahead.format("t.system_id AND d.interface > t.interface")
    with _cursor() as cursor:
        cursor.execute(
            "WITH RECURSIVE t(system_id, interface) AS ("
            f" SELECT s.id, {ahead.format('s.id')} FROM endpoints_system s"
            f" UNION ALL SELECT t.system_id, {more} FROM t WHERE t.interface IS NOT NULL)"
            f" SELECT system_id, interface, min(due_at) FROM ({FIRST_DUE.format('AND d.due_at <= %s')} FROM t"
            f"  CROSS JOIN {PRIORITIES} p WHERE t.interface IS NOT NULL AND NOT EXISTS (SELECT 1 FROM"
            f"  endpoints_endpoint e WHERE e.system_id = t.system_id AND e.interface = t.interface AND {delivers}))"
            " AS found WHERE due_at IS NOT NULL GROUP BY system_id, interface",
            [_put(now)],
            prepare=True,
        )
        return [(row[0], row[1], _required(row[2])) for row in cursor.fetchall()]


# What a claim needs of a delivery `d`, its message and the systems of both.
LOADED = (
    "SELECT d.id, d.system_id, d.interface, d.attempts, d.unspent, d.max_attempts, d.losses,"
    " d.trigger, d.expires_at, d.throttled_since, m.position, m.message_id, source.slug, target.slug,"
    " m.message_type, m.event_type, m.priority, m.timestamp, m.payload, m.content_type, m.headers,"
    " m.correlation_id, m.reply_to, m.ordering_key, m.recipient"
    " FROM {0} AS d JOIN messaging_message m ON m.position = d.message_id"
    " JOIN endpoints_system source ON source.id = m.source_id"
    " JOIN endpoints_system target ON target.id = d.system_id"
)


LIGHT = LOADED.replace("m.payload", "NULL")
NO_TOKEN = uuid.UUID(int=0)


def _claim(
    condition: str,
    values: Sequence[Any],
    token: uuid.UUID,
    until: datetime,
    limit: int,
    order: str = "d.due_at",
    loaded: str = LOADED,
) -> list[Claim]:
    """Lease what `condition` says and return it with its messages; PostgreSQL does it in one step, SQLite cannot."""
    due = (
        f"SELECT d.id FROM messaging_delivery d WHERE {WAITS_ITS_TURN}"
        f" AND {condition} AND {NOT_STOPPED} ORDER BY {order} LIMIT %s"
    )
    lease = "UPDATE messaging_delivery AS d SET state = 'sending', lease_token = %s, lease_until = %s WHERE d.id"
    given = [*map(_put, values), limit, _put(token), _put(until)]
    with _cursor() as cursor:
        if is_postgresql():
            statement = (
                f"WITH due AS MATERIALIZED ({due} FOR UPDATE SKIP LOCKED),"
                f" leased AS ({lease} {_among('SELECT id FROM due')} RETURNING d.*) {loaded.format('leased')}"
            )
            _run_kept(cursor, statement, given)
        else:
            cursor.execute(f"WITH due AS MATERIALIZED ({due}) {lease} IN (SELECT id FROM due) RETURNING id", given)
            ids = [row[0] for row in cursor.fetchall()]
            if not ids:
                return []
            condition, values = _in(ids)
            cursor.execute(f"{loaded.format('messaging_delivery')} WHERE d.id {condition}", values)
        return [_as_claim(row, token) for row in cursor.fetchall()]


def claim(
    target: tuple[int, str, int],
    *,
    token: uuid.UUID,
    now: datetime,
    lease_s: float,
    limit: int,
    with_payload: bool = True,
) -> list[Claim]:
    """Lease up to `limit` due deliveries of (system id, interface, priority), oldest first; suspects stay."""
    return _claim(
        "d.system_id = %s AND d.interface = %s AND d.priority = %s AND d.due_at <= %s AND d.losses = 0"
        " AND (d.expires_at IS NULL OR d.expires_at > %s)",
        [*target, now, now],
        token,
        now + timedelta(seconds=lease_s),
        limit,
        loaded=LOADED if with_payload else LIGHT,
    )


@dataclass(frozen=True, slots=True)
class Taken:
    """What `claim_at_once` leased, and what it left to more than one statement."""

    claims: list[Claim]
    left_some: bool  # where several priorities are due, who gets the room is for the engine to say
    has_suspect: bool


NOW = "(SELECT now FROM clock)"
# As `now` and `commit_durably` do: what has no ordering key need not wait for the disk.
COMMIT_SOON = (
    "(SELECT set_config('synchronous_commit', CASE WHEN EXISTS (SELECT 1 FROM leased WHERE ordering_key <> '')"
    " THEN current_setting('synchronous_commit') ELSE 'off' END, true))"
)
AT_ONCE = (
    "WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now),"
    " room AS (SELECT * FROM json_to_recordset(%s::json) AS r(system_id bigint, interface text, free bigint)),"
    f" found AS MATERIALIZED (SELECT f.*, r.free FROM ({_due(f'{USABLE} AND e.protocol = ANY(%s)', NOW)}) AS f"
    "  JOIN room r ON r.system_id = f.system_id AND r.interface = f.interface WHERE f.due_at IS NOT NULL),"
    " plain AS (SELECT system_id, interface, min(priority) AS priority, min(free) AS free"
    "  FROM found GROUP BY system_id, interface HAVING count(*) = 1),"
    " due AS MATERIALIZED (SELECT d.id FROM plain CROSS JOIN LATERAL (SELECT d.id FROM messaging_delivery d"
    f"  WHERE {WAITS_ITS_TURN} AND d.system_id = plain.system_id AND d.interface = plain.interface"
    f"  AND d.priority = plain.priority AND d.due_at <= {NOW} AND d.losses = 0"
    f"  AND (d.expires_at IS NULL OR d.expires_at > {NOW})"
    "  ORDER BY d.due_at LIMIT plain.free FOR UPDATE SKIP LOCKED) AS d),"
    " leased AS (UPDATE messaging_delivery AS d SET state = 'sending', lease_token = %s,"
    f"  lease_until = {NOW} + %s * interval '1 second' WHERE d.id = ANY(ARRAY(SELECT id FROM due)) RETURNING d.*)"
    " SELECT (SELECT count(*) FROM found) > (SELECT count(*) FROM plain),"
    f" {HAS_SUSPECT}, {COMMIT_SOON}, l.* FROM clock LEFT JOIN ({LOADED.format('leased')}) AS l ON true"
)


def claim_at_once(
    rooms: dict[tuple[int, str], int], *, protocols: Sequence[str], token: uuid.UUID, lease_s: float
) -> Taken:
    """Lease as `claim` does at each (system id, interface), up to its room, where one priority alone is due.

    For PostgreSQL: one statement is its own transaction, and instead of five ways there and back it takes one.
    """
    given = [{"system_id": key[0], "interface": key[1], "free": free} for key, free in rooms.items()]
    with _cursor() as cursor:
        _run_kept(cursor, AT_ONCE, [orjson.dumps(given).decode(), list(protocols), token, lease_s])
        rows = cursor.fetchall()
    left_some, has_suspect, *_ = rows[0]
    return Taken([_as_claim(row[3:], token) for row in rows if row[3] is not None], left_some, has_suspect)


def claim_suspect(*, protocols: Sequence[str], token: uuid.UUID, now: datetime, lease_s: float) -> list[Claim]:
    """Lease the one longest due delivery whose worker was lost before, so that it can take nobody with it.

    Only where an endpoint of one of `protocols` is: those that this worker speaks.
    """
    spoken, values = _in(protocols)
    return _claim(
        "d.losses > 0 AND d.due_at <= %s AND (d.expires_at IS NULL OR d.expires_at > %s)"
        " AND EXISTS (SELECT 1 FROM endpoints_endpoint e JOIN endpoints_system s ON s.id = e.system_id"
        f"  WHERE e.system_id = d.system_id AND e.interface = d.interface AND {USABLE} AND e.protocol {spoken})",
        [now, now, *values],
        token,
        now + timedelta(seconds=lease_s),
        1,
    )


def claim_trial(
    target: tuple[int, str],
    *,
    barred: uuid.UUID | None,
    token: uuid.UUID,
    now: datetime,
    lease_s: float,
    recipients: Collection[str] | None = None,
    suspect: bool = False,
) -> list[Claim]:
    """Lease one delivery of (system id, interface) to see whether its endpoint is back; not the `barred` one.

    With `recipients` only one for them; with `suspect` only one whose worker was lost before, else none of these.
    What waits for its next try need not wait that out: nobody knew when the endpoint would be back.
    """
    theirs, values = _in(list(recipients or ()))
    to_them = (
        f" AND (d.recipient {theirs} OR (d.recipient IS NULL"
        f" AND (SELECT m.recipient FROM messaging_message m WHERE m.position = d.message_id) {theirs}))"
    )
    return _claim(
        "d.system_id = %s AND d.interface = %s AND (d.due_at <= %s OR d.reason IN ('retrying', 'breaker'))"
        f" AND d.id <> %s AND (d.expires_at IS NULL OR d.expires_at > %s) AND d.losses {'>' if suspect else '='} 0"
        + ("" if recipients is None else to_them),
        [*target, now, barred or uuid.UUID(int=0), now, *(() if recipients is None else (*values, *values))],
        token,
        now + timedelta(seconds=lease_s),
        1,
        order="d.priority DESC, d.due_at",
    )


def claim_addressed(
    target: tuple[int, str, int],
    credits: dict[str, int],
    *,
    with_suspect: bool,
    token: uuid.UUID,
    now: datetime,
    lease_s: float,
    limit: int,
) -> list[Claim]:
    """Lease due deliveries as `claim` does, for those recipients alone ("": none named) of {recipient: how many more}.

    What is claimed is subtracted from `credits`. Of suspects one at most, and none but `with_suspect`.
    """
    wanted = {recipient: min(number, limit) for recipient, number in credits.items() if number > 0}
    rows = _waiting_for(target, wanted, now, limit)
    if with_suspect and (suspect := _suspect_for(target, wanted, now)):
        rows.insert(0, suspect)
    picked: list[uuid.UUID] = []
    for key, recipient, _ in rows:
        if credits[recipient] > 0 and len(picked) < limit:
            credits[recipient] -= 1
            picked.append(_uuid(key))
    if not picked:
        return []
    chosen, values = _in(picked)
    return _claim(f"d.due_at <= %s AND d.id {chosen}", [now, *values], token, now + timedelta(seconds=lease_s), limit)


OF_MESSAGE = "m.position = d.message_id"
DUE_OF = (
    f"{WAITS_ITS_TURN} AND d.system_id = %s AND d.interface = %s AND d.priority = %s AND d.due_at <= %s"
    " AND (d.expires_at IS NULL OR d.expires_at > %s)"
)
MANY = 200  # recipients: then it is seen first whether few of them are waited for


def _waiting_for(target: tuple[int, str, int], wanted: dict[str, int], now: datetime, limit: int) -> list[Row]:
    """Return (id, recipient, due at) of what {recipient: how many} may get, the longest due first; no suspects.

    One probe of an index for each, however much waits for others, here or not. What names
    nobody is looked for among all of its priority.
    """
    given = [*target, _put(now), _put(now)]
    found: list[Row] = []
    with _cursor() as cursor:
        if "" in wanted:
            cursor.execute(
                f"SELECT d.id, '', d.due_at FROM messaging_delivery d WHERE {DUE_OF} AND d.losses = 0 AND d.recipient"
                f" IS NULL AND (SELECT m.recipient FROM messaging_message m WHERE {OF_MESSAGE}) = ''"
                " ORDER BY d.due_at LIMIT %s",
                [*given, wanted[""]],
            )
            found += cursor.fetchall()
        named = {recipient: number for recipient, number in wanted.items() if recipient}
        if len(named) > MANY:
            named = _first_ones(cursor, given, named, limit)
        theirs = f"SELECT d.id, d.recipient, d.due_at FROM messaging_delivery d WHERE {DUE_OF} AND d.losses = 0"
        if named and is_postgresql():
            cursor.execute(
                "SELECT f.* FROM json_each_text(%s::json) AS w(recipient, number) CROSS JOIN LATERAL"
                f" ({theirs} AND d.recipient = w.recipient ORDER BY d.due_at LIMIT w.number::bigint) AS f",
                [orjson.dumps(named).decode(), *given],
            )
            found += cursor.fetchall()
        else:
            for recipient, number in named.items():
                cursor.execute(f"{theirs} AND d.recipient = %s ORDER BY d.due_at LIMIT %s", [*given, recipient, number])
                found += cursor.fetchall()
    return sorted(found, key=lambda row: row[2])


def _first_ones(cursor: Any, given: Sequence[Any], named: dict[str, int], limit: int) -> dict[str, int]:
    """Return those of many whom what is due the longest is for, if that is enough to see; else all."""
    present, values = _in(list(named))
    cursor.execute(
        f"SELECT d.recipient FROM messaging_delivery d WHERE {DUE_OF} AND d.losses = 0 AND d.recipient {present}"
        " ORDER BY d.due_at LIMIT %s",
        [*given, *values, 2 * limit],
    )
    seen = Counter(row[0] for row in cursor.fetchall())
    is_enough = seen.total() < 2 * limit or sum(min(seen[name], named[name]) for name in seen) >= limit
    return {name: named[name] for name in seen} if is_enough else named


def _suspect_for(target: tuple[int, str, int], wanted: dict[str, int], now: datetime) -> Row | None:
    """Return (id, recipient, due at) of the one longest due whose worker was lost before."""
    present, values = _in(list(wanted))
    with _cursor() as cursor:
        cursor.execute(
            "SELECT d.id, m.recipient, d.due_at FROM messaging_delivery d JOIN messaging_message m ON"
            f" {OF_MESSAGE} WHERE {DUE_OF} AND d.losses > 0 AND m.recipient {present} ORDER BY d.due_at LIMIT 1",
            [*target, _put(now), _put(now), *values],
        )
        found: Row | None = cursor.fetchone()
    return found


def _as_claim(row: Row, token: uuid.UUID) -> Claim:
    claim = Claim(_uuid(row[0]), token, *row[1:])
    claim.expires_at, claim.throttled_since = _time(claim.expires_at), _time(claim.throttled_since)
    claim.timestamp = _time(claim.timestamp) or claim.timestamp
    claim.payload = None if claim.payload is None else bytes(claim.payload)
    if isinstance(claim.headers, str):
        claim.headers = orjson.loads(claim.headers)
    return claim


# --- what receivers fetch for themselves -----------------------------------------


def lock_inbox(inbox: tuple[int, str]) -> None:
    """Be alone in leasing of (system id, interface) until this transaction ends: its cap counts over all processes."""
    if is_postgresql():
        spot = zlib.crc32(f"{inbox[0]}/{inbox[1]}".encode()) - 2**31
        with _cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [INBOX_LOCK, spot])


def inboxes_due(inboxes: Collection[tuple[int, str]]) -> list[tuple[int, str, int, datetime]]:
    """Return (system id, interface, priority, due since) of what may be fetched from `inboxes` now, as `due_targets`.

    One probe of the partial index for each priority of each, however many rows wait there.
    """
    if not inboxes:
        return []
    kind, source = ("::bigint", "json_array_elements(%s::json) AS value") if is_postgresql() else ("", "json_each(%s)")
    clock = "clock_timestamp()" if is_postgresql() else LITE_CLOCK
    with _cursor() as cursor:
        cursor.execute(
            f"SELECT * FROM ({FIRST_DUE.format('')} FROM"
            f" (SELECT (value ->> 0){kind} AS system_id, value ->> 1 AS interface FROM {source}) AS t"
            f" CROSS JOIN {PRIORITIES} p WHERE EXISTS (SELECT 1 FROM endpoints_endpoint e JOIN endpoints_system s"
            f"  ON s.id = e.system_id WHERE e.system_id = t.system_id AND e.interface = t.interface"
            f"  AND e.protocol = 'pull' AND {ENABLED} AND {NOT_STOPPED})) AS found"
            f" WHERE due_at <= {clock} ORDER BY priority DESC",
            [orjson.dumps([list(inbox) for inbox in inboxes]).decode()],
        )
        return [(row[0], row[1], row[2], _required(row[3])) for row in cursor.fetchall()]


def _required(value: Any) -> datetime:
    found = _time(value)
    assert found is not None
    return found


def count_leased(inbox: tuple[int, str]) -> int:
    """Return how much of (system id, interface) is fetched and not acknowledged."""
    with _cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM messaging_delivery WHERE state = 'sending' AND lease_until IS NOT NULL"
            " AND system_id = %s AND interface = %s",
            list(inbox),
        )
        return int(cursor.fetchone()[0])


def claim_suspect_of(inbox: tuple[int, str], *, token: uuid.UUID, now: datetime, lease_s: float) -> list[Claim]:
    """Lease the one longest due delivery of (system id, interface) whose lease ran out before."""
    return _claim(
        "d.system_id = %s AND d.interface = %s AND d.losses > 0 AND d.due_at <= %s"
        " AND (d.expires_at IS NULL OR d.expires_at > %s)",
        [*inbox, now, now],
        token,
        now + timedelta(seconds=lease_s),
        1,
        loaded=LIGHT,
    )


def fitting(positions: Sequence[int], most_bytes: int) -> list[int]:
    """Return as many of the messages at `positions`, in that order, as have `most_bytes` together, one at least."""
    condition, values = _in(positions)
    with _cursor() as cursor:
        cursor.execute(f"SELECT position, size FROM messaging_message WHERE position {condition}", values)
        sizes = dict(cursor.fetchall())
    total, found = 0, list[int]()
    for position in positions:
        total += sizes.get(position, 0)
        if found and total > most_bytes:
            break
        found.append(position)
    return found


def payloads(positions: Sequence[int]) -> dict[int, bytes | None]:
    """Return {position: payload}, None for one that retention removed."""
    condition, values = _in(positions)
    with _cursor() as cursor:
        cursor.execute(f"SELECT position, payload FROM messaging_message WHERE position {condition}", values)
        return {row[0]: None if row[1] is None else bytes(row[1]) for row in cursor.fetchall()}


@dataclass(slots=True)
class Leased:
    """A delivery that somebody says they fetched, as it is now; `claim.token` is None unless it is leased."""

    claim: Claim
    state: str
    reason: str
    error_class: str
    due_at: datetime
    lease_until: datetime | None
    owner_id: int | None  # of the receiver
    most_bytes: int  # that it may send in one message


def leased(ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, Leased]:
    """Return those of `ids` that exist, without their payloads."""
    condition, values = _in(ids)
    more = "d.lease_token, d.state, d.reason, d.error_class, d.due_at, d.lease_until, target.owner_id"
    columns = LIGHT.format("messaging_delivery").replace(" FROM ", f", {more}, target.max_message_bytes FROM ", 1)
    with _cursor() as cursor:
        cursor.execute(f"{columns} WHERE d.id {condition}", values)
        rows = cursor.fetchall()
    return {(found := _as_leased(row[:-8], row[-8:])).claim.id: found for row in rows}


def _as_leased(row: Row, more: Row) -> Leased:
    claim = _as_claim(row, _uuid(more[0]) if more[0] else NO_TOKEN)
    return Leased(claim, more[1], more[2], more[3], _required(more[4]), _time(more[5]), more[6], more[7])


# --- hold and finish -----------------------------------------------------------


def renew(tokens: Sequence[uuid.UUID], until: datetime) -> int:
    """Hold on to everything claimed with `tokens` until `until`; return how many rows that is."""
    if not tokens:
        return 0
    condition, values = _in(tokens)
    ours = f"SELECT id FROM messaging_delivery WHERE state = 'sending' AND lease_token {condition}"
    if is_postgresql():  # what is being finished at this moment is not waited for: the two could wait for one another
        ours += " FOR UPDATE SKIP LOCKED"
    with _cursor() as cursor:
        cursor.execute(
            f"UPDATE messaging_delivery SET lease_until = %s WHERE id {_among(ours)}",
            [_put(until), *values],
        )
        return int(cursor.rowcount)


# Whether the dead head of an ordering key holds back those behind it, said of a delivery `d`.
HALTS = (
    "EXISTS (SELECT 1 FROM endpoints_endpoint e WHERE e.system_id = d.system_id"
    " AND e.interface = d.interface AND e.ordering_policy = 'halt')"
)
FINISH = (
    "UPDATE messaging_delivery AS d SET state = {state}, reason = {reason}, error_class = {error_class},"
    " error = {error}, ack_level = {ack_level}, attempts = {attempts}, unspent = {unspent},"
    " endpoint_id = coalesce({endpoint_id}, d.endpoint_id), due_at = coalesce({due_at}, d.due_at),"
    " finished_at = {finished_at}, throttled_since = {throttled_since}, losses = {keep_losses} * d.losses,"
    f" halting = CASE {{state}} WHEN 'dead' THEN d.holds AND {HALTS} WHEN 'pending' THEN d.halting ELSE false END,"
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
    + f" FROM (SELECT {', '.join(f'column{place} AS {name}' for place, name in enumerate(FINISH_COLUMNS, 1))}"
    " FROM (VALUES {0})) AS t"
    " WHERE d.id = t.id AND d.state = 'sending' AND d.lease_token = t.token"
    " RETURNING id, holds, system_id, interface, ordering_key"
)


def _finish_postgresql(**others: str) -> str:
    """Return the CTEs that end what is still ours: bytes, ends and attempts are its parameters, `finished` is told."""
    given = {name: f"t.{name}" for name in FINISH_COLUMNS}
    # One JSON text costs this process a tenth of what fifteen arrays do.
    return (
        f"WITH {BODY}, ends AS MATERIALIZED (SELECT * FROM json_to_recordset(%s::json)"
        f" AS t({', '.join(f'{name} {kind}' for name, kind in FINISH_COLUMNS.items())})),"
        f" finished AS ({FINISH.format(**given | others)}"
        # Found by their ids, and not among all that were `sending` since the last vacuum: no help, that index.
        " FROM ends AS t WHERE d.id = ANY(ARRAY(SELECT id FROM ends)) AND d.id = t.id"
        " AND d.state || '' = 'sending' AND d.lease_token = t.token"
        " RETURNING d.id, d.holds, d.system_id, d.interface, d.ordering_key),"
        f" tried AS ({_from_records('messaging_attempt', ATTEMPT)} WHERE t.delivery_id IN (SELECT id FROM finished))"
    )


FINISH_POSTGRESQL = f"{_finish_postgresql()} SELECT * FROM finished"
SINCE_EPOCH = "statement_timestamp() + (t.{} - 'epoch'::timestamptz)"
COUNTED = {"id": "uuid", "system_id": "bigint", "event": "text", "error_class": "text", "total_ms": "float8"}
FINISH_AND_COUNT = (
    _finish_postgresql(**{name: SINCE_EPOCH.format(name) for name in ("due_at", "finished_at")})
    + f", counted AS (INSERT INTO messaging_rollup ({', '.join(ROLLUP)}) SELECT"
    " date_trunc('minute', statement_timestamp()), t.system_id, t.event, t.error_class, count(*), sum(t.total_ms)"
    f" FROM json_to_recordset(%s::json) AS t({', '.join(f'{name} {kind}' for name, kind in COUNTED.items())})"
    " WHERE t.id IN (SELECT id FROM finished) GROUP BY t.system_id, t.event, t.error_class"
    # As `_rollup_rows` sorts them: whoever writes takes their locks in this order.
    f' ORDER BY t.system_id, t.event COLLATE "C", t.error_class COLLATE "C" {ADD_UP})'
    " SELECT id, statement_timestamp() FROM finished"
)


def finish(finishes: Sequence[Finish], now: datetime) -> dict[uuid.UUID, Line | None]:
    """End what was claimed, each with its attempt and only if its lease is still ours.

    Return those that were, and the line each left: call `release_next` for these. An id
    that is missing from the answer had been taken over: the row belongs to another
    worker now and is left alone.
    """
    found = _finish_at_once(FINISH_POSTGRESQL, finishes, now) if is_postgresql() else _finish_in_steps(finishes, now)
    return {_uuid(row[0]): _line_left(row[1:]) for row in found}


def finish_and_count(finishes: Sequence[Finish], counted: Sequence[Row]) -> tuple[set[uuid.UUID], datetime | None]:
    """End what was claimed, and add to the rollups, all of it in one statement: outside of a transaction a commit.

    PostgreSQL alone. `counted` has (delivery id, system id, event, error class, ms) of what each end counts as.
    Return the ids of those that were still ours, as of `finish`, and when it was; None when there were none.
    """
    records = orjson.dumps([dict(zip(COUNTED, row, strict=True)) for row in counted]).decode()
    found = _finish_at_once(FINISH_AND_COUNT, finishes, EPOCH, records)
    return {row[0] for row in found}, found[0][1] if found else None


def _finish_at_once(statement: str, finishes: Sequence[Finish], now: datetime, *more: str) -> list[Row]:
    """Do it in one step: every further one would wait for a round trip, and for its turn beside a busy event loop."""
    body = bytearray()
    ends = orjson.dumps([dict(zip(FINISH_COLUMNS, _finish_row(finish, now), strict=True)) for finish in finishes])
    tried = _as_records(ATTEMPT, _attempt_rows(finish.attempt for finish in finishes if finish.attempt), body)
    with _cursor() as cursor:
        _run_kept(cursor, statement, [bytes(body), ends.decode(), tried, *more])
        found: list[Row] = cursor.fetchall()
        return found


def _finish_in_steps(finishes: Sequence[Finish], now: datetime) -> list[Row]:
    found: list[Row] = []
    with _cursor() as cursor:
        for marks, values in _steps(FINISH_COLUMNS, [_finish_row(finish, now) for finish in finishes]):
            cursor.execute(FINISH_SQLITE.format(marks), values)
            found += cursor.fetchall()
    ours = {_uuid(row[0]) for row in found}
    insert_attempts(finish.attempt for finish in finishes if finish.attempt and finish.id in ours)
    return found


def _line_left(row: Row) -> Line | None:
    """Return the line of (holds, system id, interface, ordering key), None where there is none or it holds it still."""
    holds, system_id, interface, ordering_key = row
    return (system_id, interface, ordering_key) if ordering_key and not holds else None


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


def leases(ids: Sequence[uuid.UUID]) -> set[tuple[uuid.UUID, uuid.UUID]]:
    """Return (id, token) of those of these deliveries that are leased now; deliveries of one claim share a token."""
    condition, values = _in(ids)
    with _cursor() as cursor:
        cursor.execute(f"SELECT id, lease_token FROM messaging_delivery WHERE id {condition}", values)
        return {(_uuid(pk), _uuid(token)) for pk, token in cursor.fetchall() if token is not None}


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
    error: str
    line: Line | None  # that it left, now that it is dead


IS_FETCHED = (
    "EXISTS (SELECT 1 FROM endpoints_endpoint e WHERE e.system_id = d.system_id"
    " AND e.interface = d.interface AND e.protocol = 'pull')"
)
UNACKNOWLEDGED = "its receiver fetched it and did not acknowledge it in time"
LOSSES_ALONE = 3  # a suspect is claimed alone; so many more losses bury it


def lapsed(now: datetime, limit: int) -> tuple[list[Key], set[Line]]:
    """Return up to `limit` deliveries whose lease ran out, and their lines: to be locked before they are taken back."""
    return _over("state = 'sending' AND lease_until < %s", "lease_until", now, limit)


def recover(ids: Sequence[Key], now: datetime) -> list[Lost]:
    """Take back those of `ids` whose lease ran out; bury those that were lost alone too often. Hold their lines."""
    if not ids:
        return []
    lock = "FOR UPDATE SKIP LOCKED" if is_postgresql() else ""
    condition, values = _in(ids)
    with _cursor() as cursor:
        cursor.execute(
            f"WITH lost AS MATERIALIZED (SELECT id FROM messaging_delivery WHERE id {condition} AND state = 'sending'"
            f" AND lease_until < %s {lock})"
            " UPDATE messaging_delivery AS d"
            f" SET state = CASE WHEN losses >= {LOSSES_ALONE} THEN 'dead' ELSE 'pending' END,"
            f" reason = CASE WHEN losses >= {LOSSES_ALONE} THEN 'poison' ELSE 'retrying' END,"
            f" finished_at = CASE WHEN losses >= {LOSSES_ALONE} THEN %s ELSE NULL END,"
            f" halting = CASE WHEN losses >= {LOSSES_ALONE} THEN d.holds AND {HALTS} ELSE d.halting END,"
            " losses = losses + 1, unspent = unspent + 1, due_at = %s, error_class = 'lost',"
            f" error = CASE WHEN {IS_FETCHED} THEN '{UNACKNOWLEDGED}' ELSE 'the worker that held it was lost' END,"
            " lease_token = NULL, lease_until = NULL WHERE id IN (SELECT id FROM lost)"
            " RETURNING id, system_id, state, attempts + unspent, endpoint_id, trigger, error,"
            " holds, interface, ordering_key",
            [*values, _put(now), _put(now), _put(now)],
        )
        return [
            Lost(
                *(_uuid(row[0]), row[1], row[2], row[3], _uuid(row[4]) if row[4] else None, row[5], row[6]),
                _line_left((row[7], row[1], *row[8:])),
            )
            for row in cursor.fetchall()
        ]


def late(now: datetime, limit: int) -> tuple[list[Key], set[Line]]:
    """Return up to `limit` waiting deliveries whose time to live is over, and their lines: to be locked, then ended."""
    return _over("state = 'pending' AND expires_at <= %s", "expires_at", now, limit)


def _over(condition: str, since: str, now: datetime, limit: int) -> tuple[list[Key], set[Line]]:
    with _cursor() as cursor:
        cursor.execute(
            "SELECT id, system_id, interface, ordering_key FROM messaging_delivery"
            f" WHERE {condition} ORDER BY {since} LIMIT %s",
            [_put(now), limit],
        )
        rows = cursor.fetchall()
    return [row[0] for row in rows], {(row[1], row[2], row[3]) for row in rows if row[3]}


def expire(ids: Sequence[Key], now: datetime) -> list[int]:
    """End those of `ids` that still wait; return the system id of each. Hold their lines; then `release_next`."""
    if not ids:
        return []
    lock = "FOR UPDATE SKIP LOCKED" if is_postgresql() else ""
    condition, values = _in(ids)
    with _cursor() as cursor:
        cursor.execute(
            f"WITH late AS MATERIALIZED (SELECT id FROM messaging_delivery WHERE id {condition} AND state = 'pending'"
            f" AND expires_at <= %s {lock})"
            " UPDATE messaging_delivery SET state = 'expired', reason = 'ttl', finished_at = %s, halting = false"
            " WHERE id IN (SELECT id FROM late) RETURNING system_id",
            [*values, _put(now), _put(now)],
        )
        return [row[0] for row in cursor.fetchall()]


# --- dead letters --------------------------------------------------------------


# --- order ---------------------------------------------------------------------
#
# Of one line one delivery is the head (`holds`); those behind it wait as `blocked` and
# nobody looks at them. Whoever ends a head calls `release_next` in the same transaction.


def _lines() -> str:
    """Return the lines of one JSON parameter as a table `t`."""
    kind, source = ("::bigint", "json_array_elements(%s::json) AS value") if is_postgresql() else ("", "json_each(%s)")
    return (
        f"(SELECT (value ->> 0){kind} AS system_id, value ->> 1 AS interface, value ->> 2 AS ordering_key"
        f" FROM {source}) AS t"
    )


LAST_POSITION = 2**63 - 1
HELD = ("paused", "maintenance")
IN_LINE = "{0}.system_id = t.system_id AND {0}.interface = t.interface AND {0}.ordering_key = t.ordering_key"
IS_BLOCKED = "n.state = 'pending' AND n.reason = 'blocked'"
# Asked of one line after the other, by an index; of EXISTS PostgreSQL makes a join with all that hold, or all rows.
IS_HELD = f"(SELECT true FROM messaging_delivery h WHERE h.holds AND {IN_LINE.format('h')} LIMIT 1) IS NOT NULL"
HAS_BLOCKED = (
    f"(SELECT true FROM messaging_delivery n WHERE {IS_BLOCKED} AND {IN_LINE.format('n')} LIMIT 1) IS NOT NULL"
)


def lock_lines(lines: Collection[Line], *, alone: bool) -> None:
    """Keep what ends heads and what joins their lines apart, by interface, until this transaction ends.

    Whoever looks for a head before it adds to a line, or ends what is not the head,
    must be `alone`; those who only end heads of theirs may be many. Call it before any
    row of a line is locked: of two who did it in different orders each could wait for the other.
    """
    if lines and is_postgresql():  # SQLite has one writer
        spots = {zlib.crc32(f"{system_id}/{interface}".encode()) - 2**31 for system_id, interface, _ in lines}
        how = "pg_advisory_xact_lock" if alone else "pg_advisory_xact_lock_shared"
        with _cursor() as cursor:
            cursor.execute(f"SELECT {how}({ORDER_LOCK}, spot) FROM unnest(%s::int[]) AS spot", [sorted(spots)])


def held(lines: Collection[Line]) -> set[Line]:
    """Return those of `lines` in which somebody waits or is sent: who comes to them waits behind."""
    if not lines:
        return set()
    with _cursor() as cursor:
        cursor.execute(
            f"SELECT t.system_id, t.interface, t.ordering_key FROM {_lines()} WHERE {IS_HELD} OR {HAS_BLOCKED}",
            [orjson.dumps(list(lines)).decode()],
        )
        return {(row[0], row[1], row[2]) for row in cursor.fetchall()}


def release_next(lines: Collection[Line], now: datetime) -> list[tuple[int, str, int, datetime]]:
    """Make the first of each line without a head its head.

    Return (system id, interface, priority, due at) of each that may go.
    """
    if not lines:
        return []
    first = (
        f"SELECT n.id FROM messaging_delivery n WHERE {IS_BLOCKED}"
        f" AND {IN_LINE.format('n')} ORDER BY n.message_id LIMIT 1"
    )
    with _cursor() as cursor:
        cursor.execute(
            "UPDATE messaging_delivery AS d SET reason ="
            f" CASE WHEN NOT {IS_ON} THEN 'paused' WHEN {IN_MAINTENANCE.format('d')} THEN 'maintenance'"
            " WHEN d.due_at > %s THEN 'scheduled' ELSE 'new' END"
            f" WHERE d.id {_among(f'SELECT ({first}) FROM {_lines()} WHERE NOT ({IS_HELD})')}"
            # Said so that the index of all that is blocked does not look like a way to find them.
            " AND CASE d.state WHEN 'pending' THEN d.reason = 'blocked' ELSE false END"
            " RETURNING system_id, interface, priority, due_at, reason",
            [_put(now), orjson.dumps(list(lines)).decode()],
        )
        freed = [row for row in cursor.fetchall() if row[4] not in HELD]
        return [(row[0], row[1], row[2], _time(row[3]) or now) for row in freed]


def next_blocked(after: Line) -> tuple[Line, bool] | None:
    """Return the first line beyond `after` where something is blocked, and whether it has a head; None at the end.

    One probe of the index, however many wait in either.
    """
    with _cursor() as cursor:
        cursor.execute(
            f"SELECT t.system_id, t.interface, t.ordering_key, {IS_HELD} FROM"
            " (SELECT n.system_id, n.interface, n.ordering_key FROM messaging_delivery n"
            f" WHERE {IS_BLOCKED}"
            f" AND (n.system_id, n.interface, n.ordering_key, n.message_id) > (%s, %s, %s, {LAST_POSITION})"
            " ORDER BY n.system_id, n.interface, n.ordering_key, n.message_id LIMIT 1) AS t",
            list(after),
        )
        row = cursor.fetchone()
    return ((row[0], row[1], row[2]), bool(row[3])) if row else None


def needlessly_halted(limit: int) -> set[Line]:
    """Return lines that wait for a dead head though their interface does not say `halt` any more."""
    with _cursor() as cursor:
        cursor.execute(
            "SELECT d.system_id, d.interface, d.ordering_key FROM messaging_delivery d"
            f" WHERE d.halting AND NOT {HALTS} LIMIT %s",
            [limit],
        )
        return {(row[0], row[1], row[2]) for row in cursor.fetchall()}


def end_halt(lines: Collection[Line]) -> None:
    """Let the dead heads of `lines` hold nobody back any more; hold the lines, then `release_next`."""
    with _cursor() as cursor:
        cursor.execute(
            "UPDATE messaging_delivery AS d SET halting = false WHERE d.halting"
            f" AND EXISTS (SELECT 1 FROM {_lines()} WHERE {IN_LINE.format('d')})",
            [orjson.dumps(list(lines)).decode()],
        )


# --- dead letters --------------------------------------------------------------
#
# A group counts its unresolved dead letters, in the transaction in which they come or go:
# first the deliveries are locked, then the groups, these in one order everywhere.

GROUP_ORDER = 'digest COLLATE "C", system_id, interface COLLATE "C", error_class COLLATE "C"'
DEAD_GROUP = {
    "id": "uuid",
    "system_id": "bigint",
    "interface": "text",
    "error_class": "text",
    "signature": "text",
    "digest": "text",
    "count": "bigint",
    "first_at": "timestamptz",
    "last_at": "timestamptz",
    "example": "uuid",
}
Kind = tuple[int, str, str]  # system id, interface, error class: what shares them has its groups in common
KEPT_BODY = 600  # bytes of an answer that are looked at


@dataclass(slots=True)
class Died:
    """A dead letter that is in no group yet; `body` is the beginning of the last answer, where one came."""

    id: uuid.UUID
    kind: Kind
    error: str
    at: datetime
    body: bytes | None = None


def _records(columns: dict[str, str], rows: Sequence[Row]) -> tuple[str, str]:
    """Return rows as one JSON parameter, and the table `t` that a statement reads it as."""
    names = ", ".join(columns)
    if is_postgresql():
        source = f"json_to_recordset(%s::json) AS t({', '.join(f'{name} {kind}' for name, kind in columns.items())})"
    else:
        values = ", ".join(f"value ->> {name!r} AS {name}" for name in columns)
        source = f"(SELECT {values} FROM json_each(%s)) AS t"
        rows = list(zip(*[iter(_as_stored(columns, rows))] * len(columns), strict=True))
    return orjson.dumps([dict(zip(names.split(", "), row, strict=True)) for row in rows]).decode(), source


def died(ids: Sequence[uuid.UUID], bodies: Mapping[uuid.UUID, bytes | None]) -> list[Died]:
    """Return those of `ids` that are dead; `bodies` are the answers they got."""
    if not ids:
        return []
    condition, values = _in(ids)
    with _cursor() as cursor:
        cursor.execute(
            "SELECT id, system_id, interface, error_class, error, finished_at FROM messaging_delivery"
            f" WHERE state = 'dead' AND group_id IS NULL AND id {condition}",
            values,
        )
        return [_as_died(row, bodies.get(_uuid(row[0]))) for row in cursor.fetchall()]


def ungrouped(limit: int) -> list[Died]:
    """Return up to `limit` dead letters without a group, locked; those that others hold are left out."""
    lock = "FOR UPDATE OF d SKIP LOCKED" if is_postgresql() else ""
    with _cursor() as cursor:
        cursor.execute(
            "SELECT d.id, d.system_id, d.interface, d.error_class, d.error, d.finished_at,"
            f" (SELECT substr(a.response_body, 1, {KEPT_BODY}) FROM messaging_attempt a WHERE a.delivery_id = d.id"
            " ORDER BY a.number DESC LIMIT 1) FROM messaging_delivery d"
            " WHERE d.state = 'dead' AND d.group_id IS NULL AND d.resolved_at IS NULL"
            f" ORDER BY d.message_id LIMIT %s {lock}",
            [limit],
        )
        return [_as_died(row, row[6]) for row in cursor.fetchall()]


def _as_died(row: Row, body: Any) -> Died:
    at = _time(row[5])
    assert at is not None
    return Died(_uuid(row[0]), (row[1], row[2], row[3]), row[4], at, None if body is None else bytes(body))


def group_digests(kind: Kind, limit: int) -> set[str]:
    """Return the digests of up to `limit` groups of one kind."""
    with _cursor() as cursor:
        cursor.execute(
            "SELECT digest FROM messaging_deadgroup WHERE system_id = %s AND interface = %s AND error_class = %s"
            " LIMIT %s",
            [*kind, limit],
        )
        return {row[0] for row in cursor.fetchall()}


def put_groups(rows: Sequence[Row]) -> dict[tuple[Kind, str], Key]:
    """Add rows, columns as in DEAD_GROUP, to the groups there are, or make these; return {(kind, digest): id}."""
    least, greatest = ("least", "greatest") if is_postgresql() else ("min", "max")
    told, source = _records(DEAD_GROUP, sorted(rows, key=lambda row: (row[5], *row[1:4])))
    given = ", ".join(DEAD_GROUP)
    with _cursor() as cursor:
        cursor.execute(
            f"INSERT INTO messaging_deadgroup AS g ({given}, note, noted_by, resolved_by)"
            f" SELECT {given}, '', '', '' FROM {source} WHERE true"
            " ON CONFLICT (system_id, interface, error_class, digest) DO UPDATE SET count = g.count + excluded.count,"
            " example = CASE WHEN excluded.last_at < g.last_at THEN g.example ELSE excluded.example END,"
            f" first_at = {least}(g.first_at, excluded.first_at), last_at = {greatest}(g.last_at, excluded.last_at)"
            " RETURNING id, system_id, interface, error_class, digest",
            [told],
        )
        return {((row[1], row[2], row[3]), row[4]): row[0] for row in cursor.fetchall()}


def set_groups(pairs: Sequence[tuple[uuid.UUID, Key]]) -> None:
    """Put each dead delivery of (id, group id) into its group; the rows are locked, and in none."""
    told, source = _records({"id": "uuid", "group_id": "uuid"}, pairs)
    with _cursor() as cursor:
        cursor.execute(
            f"UPDATE messaging_delivery AS d SET group_id = t.group_id FROM {source}"
            " WHERE d.id = t.id AND d.state = 'dead'",
            [told],
        )


def leave_groups(ids: Sequence[uuid.UUID]) -> None:
    """Subtract from their groups those of `ids` that are unresolved dead letters.

    Call it with these deliveries locked, before what takes them out: being dead no more, resolved, deleted.
    """
    if not ids:
        return
    condition, values = _in(ids)
    lock = f"ORDER BY {GROUP_ORDER} FOR UPDATE" if is_postgresql() else ""
    with _cursor() as cursor:
        cursor.execute(
            "WITH gone AS MATERIALIZED (SELECT group_id, count(*) AS n FROM messaging_delivery"
            f" WHERE id {condition} AND state = 'dead' AND group_id IS NOT NULL AND resolved_at IS NULL"
            " GROUP BY group_id), locked AS MATERIALIZED (SELECT id FROM messaging_deadgroup"
            f" WHERE id IN (SELECT group_id FROM gone) {lock})"
            " UPDATE messaging_deadgroup AS g SET count = g.count - gone.n FROM gone JOIN locked"
            " ON locked.id = gone.group_id WHERE g.id = gone.group_id",
            values,
        )


# --- retention -----------------------------------------------------------------


def delete_empty_groups(before: datetime) -> int:
    """Delete the groups that nothing is left of, and nothing died of since `before`; return how many."""
    with _cursor() as cursor:
        cursor.execute("DELETE FROM messaging_deadgroup WHERE count = 0 AND last_at < %s", [_put(before)])
        return int(cursor.rowcount)


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


def delete_deliveries(ids: Sequence[uuid.UUID]) -> None:
    """Delete deliveries with their attempts."""
    if not ids:
        return
    theirs, values = _in(ids)
    with _cursor() as cursor:
        cursor.execute(f"DELETE FROM messaging_attempt WHERE delivery_id {theirs}", values)
        cursor.execute(f"DELETE FROM messaging_delivery WHERE id {theirs}", values)


def delete_messages(positions: Sequence[int], deliveries: Sequence[uuid.UUID]) -> int:
    """Delete messages with these, all their deliveries, and what hangs on both; return how many messages that were."""
    if not positions:
        return 0
    condition, values = _in(positions)
    with _cursor() as cursor:
        delete_deliveries(deliveries)
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
