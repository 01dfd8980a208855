"""Hold what the product waits for, from outside: a database that stands still."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from messaging.store import INTAKE_LOCK
from tests.stack import Stack


@contextmanager
def nothing_is_stored(stack: Stack) -> Iterator[None]:
    """Hold what every insert of messages waits for: to the intake, the database stands still."""
    if stack.database_url.startswith("sqlite"):
        holder = sqlite3.connect(stack.database_url.removeprefix("sqlite:///"), isolation_level=None, timeout=20)
        holder.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            holder.execute("ROLLBACK")
            holder.close()
        return
    with psycopg.connect(stack.database_url) as server:
        server.execute("SELECT pg_advisory_xact_lock(%s)", [INTAKE_LOCK])
        yield
