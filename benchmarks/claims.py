"""How long claiming 500 takes when 500 wait, and when 1,000,000 wait: `python -m benchmarks.claims MANY`.

Runs inside a migrated database of its own (DATABASE_URL); prints {"few_ms": x, "many_ms": y}, medians of both.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import django
import orjson

CLAIMED = 500
ROUNDS = 15
FINISH = (
    "UPDATE messaging_delivery SET state = 'delivered', reason = 'sent', finished_at = %s, lease_token = NULL,"
    " lease_until = NULL WHERE state = 'sending'"
)

# As intake makes them (`endpoints.ids.new_key`): a thousand carry the same millisecond, the rest is random. With ids
# that are random altogether every claim would read the whole index, which no table of ours makes anyone do.
ID_POSTGRESQL = (
    "(lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint + i / 1000), 12, '0') || '7'"
    " || substr(md5(random()::text), 1, 3) || '8' || substr(md5(random()::text), 1, 15))::uuid"
)
ID_SQLITE = (
    "lower(printf('%012x', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) + i / 1000)"
    " || '7' || substr(hex(randomblob(2)), 1, 3) || '8' || substr(hex(randomblob(8)), 1, 15))"
)


def fill(system_id: int, message: int, count: int) -> None:
    """Insert `count` due deliveries of one message."""
    from django.db import connection

    is_postgresql = connection.vendor == "postgresql"
    new_id = ID_POSTGRESQL if is_postgresql else ID_SQLITE
    now = "now()" if is_postgresql else "strftime('%Y-%m-%d %H:%M:%f', 'now')"
    numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})"
    with connection.cursor() as cursor:
        cursor.execute(
            f"{numbers} INSERT INTO messaging_delivery (id, message_id, source_id, system_id, interface, state, reason,"
            " error_class, error, ack_level, priority, ordering_key, attempts, unspent, max_attempts, losses, trigger,"
            f" halting, due_at, created_at) SELECT {new_id}, {message}, {system_id}, {system_id}, 'main', 'pending',"
            f" 'new', '', '', '', 1, '', 0, 0, 10, 0, 'scheduled', false, {now}, {now} FROM n"
        )


def claim_ms(system_id: int, refill: Callable[[], None]) -> float:
    """Return the median time of leasing 500 and loading them; they are finished, and `refill` called, in between."""
    from django.db import connection, transaction

    from endpoints.ids import new_id
    from messaging import store

    took = []
    for _ in range(ROUNDS):
        with transaction.atomic():
            now, token = store.now(), new_id()
            started = time.perf_counter()
            claims: list[store.Claim] = []
            for target in store.due_targets(now):
                claims += store.claim(target[:3], token=token, now=now, lease_s=30, limit=CLAIMED - len(claims))
        took.append((time.perf_counter() - started) * 1000)
        assert len(claims) == CLAIMED, len(claims)
        with connection.cursor() as cursor:
            cursor.execute(FINISH, [now])
        refill()
    return round(statistics.median(took), 2)


def main(many: int) -> dict[str, float]:
    """Fill and measure; the table is analysed in between, as the database itself does in the background."""
    from django.db import connection

    from endpoints.models import Endpoint, System
    from messaging.models import Message

    system = System.objects.create(slug="claimed", name="Claimed")
    Endpoint.objects.create(
        system=system, name="main", protocol="http", host="127.0.0.1", port=9, use=["deliver"], path="/"
    )
    message = Message.objects.create(
        message_id="one", source=system, timestamp="2026-01-01T00:00:00Z", payload=b"{}", size=2, fingerprint=b"",
        created_at="2026-01-01T00:00:00Z",
    )  # fmt: skip
    more = partial(fill, system.pk, message.pk)
    more(CLAIMED)
    few = claim_ms(system.pk, partial(more, CLAIMED))
    more(many - CLAIMED)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE messaging_delivery")
    return {"few_ms": few, "many_ms": claim_ms(system.pk, partial(more, CLAIMED))}


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
    django.setup()
    print(orjson.dumps(main(int(sys.argv[1]))).decode())
