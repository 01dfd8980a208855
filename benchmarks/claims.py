"""How long claiming 500 takes when 500 wait, and when 1,000,000 wait: `python -m benchmarks.claims MANY`.

Runs inside a migrated database of its own (DATABASE_URL); prints {"few_ms": x, "many_ms": y}, medians of both.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import django
import orjson

CLAIMED = 500
ROUNDS = 15
FINISH = (
    "UPDATE messaging_delivery SET state = 'delivered', reason = 'sent', finished_at = %s, lease_token = NULL,"
    " lease_until = NULL WHERE state = 'sending'"
)


def claim_ms(system_id: int, refill: Callable[[], None]) -> float:
    """Return the median time of leasing 500 and loading them; they are finished, and `refill` called, in between."""
    from django.db import connection

    from messaging.engine import record
    from messaging.engine.judging import Tally

    took = []
    for _ in range(ROUNDS):
        wanted = record.Wanted({(system_id, "main"): CLAIMED}, protocols=("http",))
        started = time.perf_counter()
        claims = record.turn([], wanted, 30.0, Tally(), ()).claims
        took.append((time.perf_counter() - started) * 1000)
        assert len(claims) == CLAIMED, len(claims)
        with connection.cursor() as cursor:
            cursor.execute(FINISH, [datetime.now(UTC)])
        refill()
    return round(statistics.median(took), 2)


def main(many: int) -> dict[str, float]:
    """Fill and measure; the table is analysed in between, as the database itself does in the background."""
    from django.db import connection

    from endpoints.models import Endpoint, System
    from messaging.models import Message
    from tests.messaging.filling import fill

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
