"""Work through many rows: SQLite's log is moved into the database in the rests between, in nobody's turn."""

import sqlite3
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from django.db.utils import ConnectionHandler

from controlplane.env_types import database_config
from messaging import store
from messaging.pace import CHECKPOINT_EVERY, Pace

ROWS = 300


@pytest.fixture
def connection(tmp_path: Path, django_db_blocker: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A connection to a file of its own, which is the one of `store`, too."""
    config = database_config(f"sqlite:///{tmp_path / 'db.sqlite3'}", "full")
    made = ConnectionHandler({"default": deepcopy(config)})["default"]
    monkeypatch.setattr(store, "connection", made)
    with django_db_blocker.unblock():
        with made.cursor() as cursor:
            cursor.execute("CREATE TABLE t (text TEXT)")
        yield made
        made.close()


def fill(connection: Any) -> None:
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO t VALUES (%s)", [("x" * 1000,) for _ in range(ROWS)])


def rows_moved(path: Path) -> int:
    """Return how many rows the database file holds by itself, without its log."""
    alone = path.with_name("alone.sqlite3")
    alone.write_bytes(path.read_bytes())
    reader = sqlite3.connect(alone)
    try:
        return int(reader.execute("SELECT count(*) FROM t").fetchone()[0])
    except sqlite3.OperationalError:  # not even the table
        return 0
    finally:
        reader.close()


def test_the_log_is_moved_every_few_turns(connection: Any, tmp_path: Path) -> None:
    path, pace, seen = tmp_path / "db.sqlite3", Pace(), []
    for _ in range(CHECKPOINT_EVERY):
        fill(connection)
        pace.took(0.001)
        seen.append(rows_moved(path))

    assert seen == [0] * (CHECKPOINT_EVERY - 1) + [ROWS * CHECKPOINT_EVERY]


def test_who_reads_or_writes_is_not_disturbed(connection: Any, tmp_path: Path) -> None:
    """Within a transaction, and while a read is under way, the log stays; the next time takes it along."""
    fill(connection)
    path = tmp_path / "db.sqlite3"
    connection.set_autocommit(False, force_begin_transaction_with_broken_autocommit=True)
    connection.in_atomic_block = True
    store.checkpoint()
    connection.in_atomic_block = False
    connection.commit()
    connection.set_autocommit(True)
    assert rows_moved(path) == 0

    with connection.cursor() as reading:
        reading.execute("SELECT text FROM t")
        reading.fetchone()
        store.checkpoint()
        assert len(reading.fetchall()) == ROWS - 1
    store.checkpoint()
    assert rows_moved(path) == ROWS
