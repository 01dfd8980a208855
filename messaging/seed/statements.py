"""What `seed_history` runs for each chunk, as text.

What is made looks like what intake and the engine write: the columns, ids that grow
with time, positions in order of commit, counts. There is no chance in it: row `j`
follows from `j` alone, and a prime spreads neighbours over every share.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from messaging.seed.dialects import Dialect

GROUP, MESSAGES_IN_GROUP = 5, 4  # of every four messages the last one goes to two systems
PREFIX = "seed-"
EVENTS = ("order.created", "order.paid", "order.shipped", "invoice.paid", "customer.changed", "stock.moved")
RARE_EVENT = "contract.signed"  # one message in RARE_EVERY
RARE_EVERY = 50_000
SPREAD = 7919
TRIES = 3  # of a delivery whose tries were used up

Party = tuple[int, str, str]  # id and slug of a system, id of its endpoint as SQLite keeps it


@dataclass(frozen=True, slots=True)
class Chunk:
    """Deliveries `first` to `last` (not in it) of the whole."""

    first: int
    last: int
    start: datetime
    step_s: float
    dead: int
    parties: list[Party]
    causes: Sequence[tuple[str, int, str, str]]  # error class, number, how its texts begin, digest

    @property
    def each(self) -> int:
        """How many causes an error class has."""
        return 1 + max(number for _, number, _, _ in self.causes)

    @property
    def messages(self) -> tuple[int, int]:
        """The numbers of the first message, and of the one behind the last."""
        return _message_of(self.first), _message_of(self.last - 1) + 1


def _message_of(delivery: int) -> int:
    return delivery // GROUP * MESSAGES_IN_GROUP + min(delivery % GROUP, MESSAGES_IN_GROUP - 1)


def _parties_as(chunk: Chunk, sql: Dialect) -> str:
    rows = ", ".join(
        f"({place}, {id}, '{slug}', {sql.id(repr(endpoint))})"
        for place, (id, slug, endpoint) in enumerate(chunk.parties)
    )
    return f"parties (place, id, slug, endpoint) AS (VALUES {rows})"


def _causes_as(chunk: Chunk) -> str:
    rows = ", ".join(f"('{name}', {number}, '{text}', '{digest}')" for name, number, text, digest in chunk.causes)
    return f"causes (class, number, text, digest) AS (VALUES {rows})"


def _case(*pairs: tuple[str, str], otherwise: str) -> str:
    return f"CASE {' '.join(f'WHEN {when} THEN {then}' for when, then in pairs)} ELSE {otherwise} END"


def _receiver(chunk: Chunk, number: str) -> str:
    """Return which party message `number` goes to; senders and receivers come in runs, as they do in life."""
    return f"({number} / 16 * 3 + 1 + {number} % 3) % {len(chunk.parties)}"


def _messages(chunk: Chunk, shift: int, sql: Dialect) -> str:
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


def _search_keys(chunk: Chunk, shift: int, sql: Dialect) -> str:
    low, high = (number + shift for number in chunk.messages)
    return (
        "INSERT INTO messaging_searchkey (message_id, name, value)"
        f" SELECT position, 'order', CAST(100000 + position - {shift} AS text) FROM messaging_message"
        f" WHERE position >= {low} AND position < {high} AND (position - {shift}) % 2 = 0"
        f" UNION ALL SELECT position, 'customer', 'c' || ((position - {shift}) * {SPREAD} % 5000)"
        " FROM messaging_message"
        f" WHERE position >= {low} AND position < {high} AND (position - {shift}) % 8 = 0"
    )


def _ends(chunk: Chunk) -> tuple[str, str, str, str, str]:
    """Return what becomes of delivery `i`: state, reason, error class, attempts, seconds until it ended."""
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
        ("reason = 'exhausted'", "'server_error'"),
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
    return state, reason, error_class, attempts, took_s


def _deliveries(chunk: Chunk, shift: int, sql: Dialect) -> str:
    low, high = (number + shift for number in chunk.messages)
    state, reason, error_class, attempts, took_s = _ends(chunk)
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
        # The group is of every text that begins so: what follows varies.
        "error": _case(
            ("error_class = ''", "''"), otherwise="text || ' of order ' || position || ' after ' || (i % 900) || ' ms'"
        ),
        "group_id": "group_id",
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
        f"WITH {_parties_as(chunk, sql)}, {_causes_as(chunk)},"
        f" owed AS (SELECT m.position, m.source_id, m.priority, m.ordering_key, m.created_at, x.extra, {number} AS j,"
        f"  {number} / {MESSAGES_IN_GROUP} * {GROUP} + {number} % {MESSAGES_IN_GROUP} + x.extra AS i"
        "  FROM messaging_message m JOIN (SELECT 0 AS extra UNION ALL SELECT 1) x"
        f"  ON x.extra = 0 OR {number} % {MESSAGES_IN_GROUP} = {MESSAGES_IN_GROUP - 1}"
        f"  WHERE m.position >= {low} AND m.position < {high}),"
        f" ended AS MATERIALIZED (SELECT owed.*, p.id AS system_id, p.endpoint, i * 31 % 10 AS cause,"
        f"  {state} AS state FROM owed JOIN parties p"
        f"  ON p.place = ({_receiver(chunk, 'j')} + extra) % {len(chunk.parties)} WHERE i < {chunk.last}),"
        f" because AS MATERIALIZED (SELECT ended.*, {reason} AS reason FROM ended),"
        f" failed AS MATERIALIZED (SELECT because.*, {error_class} AS error_class,"
        f"  {attempts} AS attempts FROM because),"
        " grouped AS MATERIALIZED (SELECT failed.*, c.text, g.id AS group_id FROM failed"
        f"  LEFT JOIN causes c ON c.class = failed.error_class AND c.number = failed.i % {max(1, chunk.each)}"
        "  LEFT JOIN messaging_deadgroup g ON g.system_id = failed.system_id AND g.interface = 'main'"
        "  AND g.error_class = failed.error_class AND g.digest = c.digest)"
        f" INSERT INTO messaging_delivery ({', '.join(columns)}) SELECT {', '.join(columns.values())} FROM grouped"
    )


def _attempts(chunk: Chunk, shift: int, sql: Dialect) -> str:
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


def _rollups(chunk: Chunk, shift: int, sql: Dialect) -> str:
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
        f" UNION ALL SELECT {sql.minute('a.started_at')}, d.system_id, 'attempt', a.error_class, count(*),"
        f" sum(a.took_ms) FROM messaging_delivery d JOIN messaging_attempt a ON a.delivery_id = d.id"
        f" WHERE {mine} GROUP BY 1, 2, 4"
        " ON CONFLICT (minute, system_id, event, error_class) DO UPDATE SET"
        " count = messaging_rollup.count + excluded.count, total_ms = messaging_rollup.total_ms + excluded.total_ms"
    )


STATEMENTS = (_messages, _search_keys, _deliveries, _attempts, _rollups)
