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


def fill(system_id: int, message: int, count: int) -> None:
    """Insert `count` due deliveries of one message."""
    from django.db import connection

    is_postgresql = connection.vendor == "postgresql"
    new_id = "gen_random_uuid()" if is_postgresql else "lower(hex(randomblob(16)))"
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
            ids: list[store.Key] = []
            for target in store.due_targets(now):
                ids += store.claim(target[:3], token=token, now=now, lease_s=30, limit=CLAIMED - len(ids))
            claims = store.load_claims(ids, token)
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
