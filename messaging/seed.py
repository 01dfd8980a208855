"""History made in bulk, for size tests: set-based statements, a few per chunk, that both databases run.

What is made looks like what intake and the engine write: the columns, the ids that grow with time, the positions
in order of commit, the counts. The one column that no history has is chance: row `j` follows from `j` alone.
"""

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
from messaging.models import Message

CHUNK = 25_000  # deliveries a transaction
GROUP, MESSAGES_IN_GROUP = 5, 4  # of every four messages the last one goes to two systems
PREFIX = "seed-"
PAUSED = "made by seed_history: there is nobody to send to"
EVENTS = ("order.created", "order.paid", "order.shipped", "invoice.paid", "customer.changed", "stock.moved")
RARE_EVENT = "contract.signed"  # one message in RARE_EVERY
RARE_EVERY = 50_000
SPREAD = 7919  # prime to every modulus below: neighbours differ, and each share comes out exact
TRIES = 3  # of a delivery whose tries were used up


@dataclass(frozen=True, slots=True)
class Shape:
    """How much history, over how many systems and days; `dead` deliveries of a thousand."""

    deliveries: int
    systems: int = 20
    days: int = 60
    dead: int = 20


def seed(
    shape: Shape, *, force: bool = False, progress: Callable[[int], None] = lambda done: None, now: datetime | None = None
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
    for first in range(0, shape.deliveries, CHUNK):
        last = min(first + CHUNK, shape.deliveries)
        _make(_Chunk(first, last, start, step_s, shape.dead, parties))
        progress(last)
    with connection.cursor() as cursor:
        _sum_up(cursor, parties)
        if connection.vendor == "postgresql":
            cursor.execute("ANALYZE")  # what autovacuum would get to in a minute


def _parties(count: int) -> list[tuple[int, str, str]]:
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


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Deliveries `first` to `last` (not in it) of the whole."""

    first: int
    last: int
    start: datetime
    step_s: float
    dead: int
    parties: list[tuple[int, str, str]]

    @property
    def messages(self) -> tuple[int, int]:
        """The numbers of the first message, and of the one behind the last."""
        return _message_of(self.first), _message_of(self.last - 1) + 1


def _message_of(delivery: int) -> int:
    return delivery // GROUP * MESSAGES_IN_GROUP + min(delivery % GROUP, MESSAGES_IN_GROUP - 1)


def _make(chunk: _Chunk) -> None:
    if connection.vendor == "sqlite":
        connection.disable_constraint_checking()  # the rows are right by construction, and it costs a third
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            store.lock_intake()
            low, high = chunk.messages
            shift = store.reserve_positions(high - low)[0] - low
            for statement in STATEMENTS:
                cursor.execute(statement(chunk, shift, DIALECTS[connection.vendor]))
    finally:
        if connection.vendor == "sqlite":
            connection.enable_constraint_checking()


def _sum_up(cursor: Any, parties: list[tuple[int, str, str]]) -> None:
    """Let the totals of the made systems say what their rollups do."""
    ids = ", ".join(str(id) for id, _, _ in parties)
    cursor.execute(f"DELETE FROM messaging_total WHERE system_id IN ({ids})")
    cursor.execute(
        "INSERT INTO messaging_total (system_id, event, error_class, count, total_ms)"
        " SELECT system_id, event, error_class, sum(count), sum(total_ms) FROM messaging_rollup"
        f" WHERE system_id IN ({ids}) GROUP BY system_id, event, error_class"
    )


# --- the statements ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Dialect:
    """What the databases spell differently."""

    numbers: Callable[[int, int], str]  # n from the first to before the second
    time: Callable[[str], str]  # of seconds since 1970
    later: Callable[[str, str], str]  # a time and so many seconds
    milliseconds: Callable[[str], str]  # since 1970, of a time
    hex: Callable[[str, int], str]  # a number in so many digits
    id: Callable[[str], str]
    bytes: Callable[[str], str]
    digest: str  # 16 bytes
    json: Callable[[str], str]
    minute: Callable[[str], str]


DIALECTS = {
    "postgresql": _Dialect(
        numbers=lambda low, high: f"SELECT n FROM generate_series({low}::bigint, {high - 1}::bigint) AS n",
        time=lambda at: f"to_timestamp({at})",
        later=lambda time, s: f"({time} + ({s}) * interval '1 second')",
        milliseconds=lambda time: f"(extract(epoch FROM {time}) * 1000)::bigint",
        hex=lambda n, digits: f"lpad(to_hex(({n})::bigint), {digits}, '0')",
        id=lambda text: f"({text})::uuid",
        bytes=lambda text: f"convert_to({text}, 'UTF8')",
        digest="decode(md5(j::text), 'hex')",
        json=lambda text: f"({text})::jsonb",
        minute=lambda time: f"date_trunc('minute', {time})",
    ),
    "sqlite": _Dialect(
        numbers=lambda low, high: f"SELECT {low} UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {high}",
        time=lambda at: f"strftime('%Y-%m-%d %H:%M:%f', {at}, 'unixepoch') || '000'",
        later=lambda time, s: f"(strftime('%Y-%m-%d %H:%M:%f', {time}, ({s}) || ' seconds') || '000')",
        milliseconds=lambda time: f"CAST((julianday({time}) - 2440587.5) * 86400000.0 + 0.5 AS INTEGER)",
        hex=lambda n, digits: f"printf('%0{digits}x', {n})",
        id=lambda text: text,
        bytes=lambda text: f"CAST({text} AS BLOB)",
        digest="randomblob(16)",
        json=lambda text: text,
        minute=lambda time: f"substr({time}, 1, 16) || ':00'",
    ),
}


def _parties_as(chunk: _Chunk, sql: _Dialect) -> str:
    rows = ", ".join(
        f"({place}, {id}, '{slug}', {sql.id(repr(endpoint))})"
        for place, (id, slug, endpoint) in enumerate(chunk.parties)
    )
    return f"parties (place, id, slug, endpoint) AS (VALUES {rows})"


def _case(*pairs: tuple[str, str], otherwise: str) -> str:
    return f"CASE {' '.join(f'WHEN {when} THEN {then}' for when, then in pairs)} ELSE {otherwise} END"


def _receiver(chunk: _Chunk, number: str) -> str:
    """Return which party message `number` goes to; senders and receivers come in runs, as they do in life."""
    return f"({number} / 16 * 3 + 1 + {number} % 3) % {len(chunk.parties)}"


def _messages(chunk: _Chunk, shift: int, sql: _Dialect) -> str:
    at = f"{chunk.start.timestamp()!r} + j * {chunk.step_s * GROUP / MESSAGES_IN_GROUP!r}"
    events = [(f"j * {SPREAD} % {len(EVENTS)} = {place}", repr(event)) for place, event in enumerate(EVENTS[1:], 1)]
    customer = f"(j * {SPREAD} % 5000)"
    keys = _case(
        ("j % 8 = 0", f"""'{{"order":"' || (100000 + j) || '","customer":"c' || {customer} || '"}}'"""),
        ("j % 2 = 0", """'{"order":"' || (100000 + j) || '"}'"""),
        otherwise="'{}'",
    )
    body = """'{"order":' || (100000 + j) || ',"status":"paid","amount":' || (j % 900 + 1) || '.50,"currency":"EUR"}'"""
    columns = {
        "position": f"j + {shift}",
        "message_id": f"'{PREFIX}' || (j + {shift})",
        "source_id": "source.id",
        "targets": sql.json("""'["' || target.slug || '"]'"""),
        "message_type": _case(("j % 20 = 0", "'request'"), ("j % 20 = 1", "'command'"), otherwise="'event'"),
        "event_type": _case((f"j % {RARE_EVERY} = 17", repr(RARE_EVENT)), *events, otherwise=repr(EVENTS[0])),
        "priority": _case(("j % 50 = 0", "2"), ("j % 50 = 1", "0"), otherwise="1"),
        "timestamp": sql.time(at),
        "payload": sql.bytes(body),
        "content_type": "'application/json'",
        "headers": sql.json("'{}'"),
        "correlation_id": _case(("j % 2 = 0", "'run-' || (j / 6)"), otherwise="''"),
        "reply_to": "''",
        "ordering_key": _case(("j % 4 = 0", f"'customer-' || {customer}"), otherwise="''"),
        "recipient": "''",
        "search_keys": sql.json(keys),
        "size": f"length({body})",
        "fingerprint": sql.digest,
        "unrouted": "false",
        "created_at": sql.time(at),
    }
    low, high = chunk.messages
    return (
        f"WITH RECURSIVE {_parties_as(chunk, sql)}, numbers (n) AS ({sql.numbers(low, high)})"
        f" INSERT INTO messaging_message ({', '.join(columns)}) SELECT {', '.join(columns.values())}"
        " FROM (SELECT n AS j FROM numbers) made"
        f" JOIN parties source ON source.place = (j / 16) % {len(chunk.parties)}"
        f" JOIN parties target ON target.place = {_receiver(chunk, 'j')}"
    )


def _search_keys(chunk: _Chunk, shift: int, sql: _Dialect) -> str:
    low, high = (number + shift for number in chunk.messages)
    return (
        "INSERT INTO messaging_searchkey (message_id, name, value)"
        f" SELECT position, 'order', CAST(100000 + position - {shift} AS text) FROM messaging_message"
        f" WHERE position >= {low} AND position < {high} AND (position - {shift}) % 2 = 0"
        f" UNION ALL SELECT position, 'customer', 'c' || ((position - {shift}) * {SPREAD} % 5000) FROM messaging_message"
        f" WHERE position >= {low} AND position < {high} AND (position - {shift}) % 8 = 0"
    )


def _deliveries(chunk: _Chunk, shift: int, sql: _Dialect) -> str:
    low, high = (number + shift for number in chunk.messages)
    shares = (("dead", chunk.dead), ("expired", 4), ("cancelled", 3), ("skipped", 10))
    bounds = [sum(share for _, share in shares[: place + 1]) for place in range(len(shares))]
    state = _case(
        ("i % 10000 = 9999", "'pending'"),
        *((f"i * {SPREAD} % 1000 < {bound}", repr(name)) for (name, _), bound in zip(shares, bounds, strict=True)),
        otherwise="'delivered'",
    )
    dead = "state = 'dead' AND"
    reason = _case(
        (f"{dead} cause < 6", "'exhausted'"),
        (f"{dead} cause < 9", "'refused'"),
        (f"{dead} i % 500 < 5", "'poison'"),
        ("state = 'dead'", "'address'"),
        ("state = 'pending'", "'paused'"),
        ("state = 'expired'", "'ttl'"),
        ("state = 'cancelled'", "'operator'"),
        ("state = 'skipped'", "'disabled'"),
        otherwise="'sent'",
    )
    error_class = _case(
        ("state <> 'dead'", "''"),
        ("reason = 'exhausted' AND cause % 3 = 0", "'timeout'"),
        ("reason = 'exhausted' AND cause % 3 = 1", "'connect'"),
        ("reason = 'exhausted'", "'server_error'"),
        ("reason = 'refused' AND cause = 8", "'auth'"),
        ("reason = 'refused'", "'client_error'"),
        ("reason = 'poison'", "'lost'"),
        otherwise="'blocked_address'",
    )
    attempts = _case(
        ("state IN ('pending', 'skipped')", "0"),
        ("reason = 'exhausted'", str(TRIES)),
        ("state = 'delivered' AND i % 20 = 0", "2"),
        otherwise="1",
    )
    took_s = _case(
        ("state = 'expired'", "3600"),
        ("state = 'cancelled'", "600"),
        ("state = 'skipped'", "0"),
        otherwise="(attempts - 1) * 5 + 0.04 + (i % 100) / 1000.0",
    )
    columns = {
        "id": sql.id(f"{sql.hex(sql.milliseconds('created_at'), 12)} || '7' || {sql.hex('i % 4096', 3)} || 'a' ||"
                     f" {sql.hex('position * 16 + extra', 15)}"),
        "message_id": "position",
        "source_id": "source_id",
        "system_id": "system_id",
        "interface": "'main'",
        "endpoint_id": _case(("attempts > 0", "endpoint"), otherwise="NULL"),
        "state": "state",
        "reason": "reason",
        "error_class": "error_class",
        "error": _case(("error_class = ''", "''"), otherwise="'made up: ' || error_class"),
        "ack_level": _case(("state = 'delivered'", "'application'"), otherwise="''"),
        "priority": "priority",
        "ordering_key": "ordering_key",
        "attempts": "attempts",
        "unspent": "0",
        "max_attempts": str(TRIES),
        "losses": "0",
        "trigger": "'scheduled'",
        "due_at": "created_at",
        "created_at": "created_at",
        "finished_at": _case(("state = 'pending'", "NULL"), otherwise=sql.later("created_at", took_s)),
    }  # fmt: skip
    number = f"(position - {shift})"
    return (
        f"WITH {_parties_as(chunk, sql)},"
        f" owed AS (SELECT m.position, m.source_id, m.priority, m.ordering_key, m.created_at, x.extra, {number} AS j,"
        f"  {number} / {MESSAGES_IN_GROUP} * {GROUP} + {number} % {MESSAGES_IN_GROUP} + x.extra AS i"
        "  FROM messaging_message m JOIN (SELECT 0 AS extra UNION ALL SELECT 1) x"
        f"  ON x.extra = 0 OR {number} % {MESSAGES_IN_GROUP} = {MESSAGES_IN_GROUP - 1}"
        f"  WHERE m.position >= {low} AND m.position < {high}),"
        f" ended AS MATERIALIZED (SELECT owed.*, p.id AS system_id, p.endpoint, i * 31 % 10 AS cause, {state} AS state FROM owed"
        f"  JOIN parties p ON p.place = ({_receiver(chunk, 'j')} + extra) % {len(chunk.parties)}"
        f"  WHERE i < {chunk.last}),"
        f" because AS MATERIALIZED (SELECT ended.*, {reason} AS reason FROM ended),"
        f" failed AS MATERIALIZED (SELECT because.*, {error_class} AS error_class, {attempts} AS attempts FROM because)"
        f" INSERT INTO messaging_delivery ({', '.join(columns)}) SELECT {', '.join(columns.values())} FROM failed"
    )


def _attempts(chunk: _Chunk, shift: int, sql: _Dialect) -> str:
    low, high = (number + shift for number in chunk.messages)
    error_class = _case(
        ("state = 'delivered' AND number = attempts", "''"),
        ("state = 'dead'", "error_class"),
        ("state = 'delivered'", "'timeout'"),
        otherwise="'connect'",
    )
    status_code = _case(
        ("class = ''", "200"),
        ("class = 'server_error'", "503"),
        ("class = 'client_error'", "422"),
        ("class = 'auth'", "401"),
        otherwise="NULL",
    )
    request = """'{"method":"POST","url":"http://127.0.0.1:9/in","headers":{"content-type":"application/json"}}'"""
    columns = {
        "id": sql.id(f"{sql.hex(sql.milliseconds('started_at'), 12)} || '7' || {sql.hex('number', 3)} || 'a' ||"
                     f" {sql.hex('message_id * 256 + system_id % 32 * 8 + number', 15)}"),
        "delivery_id": "id",
        "endpoint_id": "endpoint_id",
        "number": "number",
        "started_at": "started_at",
        "took_ms": "5 + message_id % 200",
        "phases_ms": sql.json("""'{"connect": 1, "first_byte": 4}'"""),
        "outcome": _case(
            ("class = ''", "'delivered'"),
            ("state = 'dead' AND number = attempts", "'dead'"),
            otherwise="'retry'",
        ),
        "error_class": "class",
        "error": _case(("class = ''", "''"), otherwise="'made up: ' || class"),
        "status_code": status_code,
        "request": sql.json(request),
        "response_headers": sql.json("""'{"content-type":"text/plain"}'"""),
        "response_body": _case(("class = ''", sql.bytes("'ok'")), otherwise="NULL"),
        "response_truncated": "false",
        "trigger": "'scheduled'",
    }  # fmt: skip
    return (
        f"WITH tried AS MATERIALIZED (SELECT d.*, x.number, {error_class} AS class,"
        f"  {sql.later('d.created_at', '(x.number - 1) * 5')} AS started_at FROM messaging_delivery d"
        f"  JOIN (SELECT 1 AS number{''.join(f' UNION ALL SELECT {n}' for n in range(2, TRIES + 1))}) x"
        f"  ON x.number <= d.attempts WHERE d.message_id >= {low} AND d.message_id < {high})"
        f" INSERT INTO messaging_attempt ({', '.join(columns)}) SELECT {', '.join(columns.values())} FROM tried"
    )


def _rollups(chunk: _Chunk, shift: int, sql: _Dialect) -> str:
    low, high = (number + shift for number in chunk.messages)
    mine = f"message_id >= {low} AND message_id < {high}"
    dead_class = _case(("state = 'dead'", "error_class"), otherwise="''")
    return (
        "INSERT INTO messaging_rollup (minute, system_id, event, error_class, count, total_ms)"
        f" SELECT {sql.minute('created_at')} AS minute, source_id, 'accepted', '', count(*), 0 FROM messaging_message"
        f" WHERE position >= {low} AND position < {high} GROUP BY 1, 2"
        f" UNION ALL SELECT {sql.minute('created_at')}, system_id, 'owed', '', count(*), 0 FROM messaging_delivery"
        f" WHERE {mine} GROUP BY 1, 2"
        f" UNION ALL SELECT {sql.minute('finished_at')}, system_id, state, {dead_class}, count(*), 0"
        f" FROM messaging_delivery WHERE {mine} AND finished_at IS NOT NULL GROUP BY 1, 2, 3, 4"
        f" UNION ALL SELECT {sql.minute('a.started_at')}, d.system_id, 'attempt', a.error_class, count(*), sum(a.took_ms)"
        f" FROM messaging_delivery d JOIN messaging_attempt a ON a.delivery_id = d.id WHERE {mine} GROUP BY 1, 2, 4"
        " ON CONFLICT (minute, system_id, event, error_class) DO UPDATE SET"
        " count = messaging_rollup.count + excluded.count, total_ms = messaging_rollup.total_ms + excluded.total_ms"
    )


STATEMENTS = (_messages, _search_keys, _deliveries, _attempts, _rollups)
