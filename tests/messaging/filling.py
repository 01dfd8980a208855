"""Many due deliveries at once, made inside the database."""

from django.db import connection

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
