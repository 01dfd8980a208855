"""The queue for SQLite's write lock: nobody starves, nobody waits for the dead, every transaction gives its turn up."""

import gc
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError
from django.db.utils import ConnectionHandler

from controlplane.env_types import database_config
from controlplane.sqlite3.base import DatabaseWrapper
from controlplane.sqlite3.queue import WriteQueue
from tests.stack import PYTHON, ROOT, wait_for


@pytest.fixture
def database(tmp_path: Path) -> str:
    return str(tmp_path / "db.sqlite3")


@pytest.fixture
def connections(database: str, django_db_blocker: Any) -> Iterator[list[DatabaseWrapper]]:
    """Two connections of the product's own settings, but for how long one waits."""
    config = database_config(f"sqlite:///{database}", "full")
    config["OPTIONS"] |= {"timeout": 0.3, "check_same_thread": False}
    made = [ConnectionHandler({"default": deepcopy(config)})["default"] for _ in range(2)]
    with django_db_blocker.unblock():
        with made[0].cursor() as cursor:
            cursor.execute("CREATE TABLE t (n integer)")
        yield made  # type: ignore[misc]
        for connection in made:
            connection.close()


def begin(connection: DatabaseWrapper) -> None:
    connection.set_autocommit(False, force_begin_transaction_with_broken_autocommit=True)


def end(connection: DatabaseWrapper, *, well: bool) -> None:
    connection.commit() if well else connection.rollback()
    connection.set_autocommit(True)


BUSY = """
import os, sys, time
from controlplane.sqlite3.queue import WriteQueue
queue, turns = WriteQueue(sys.argv[1]), os.open(sys.argv[1] + "-turns", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
while queue.enter(20):
    os.write(turns, b"x")
    time.sleep(0.004)
    queue.leave()
"""


def test_one_that_comes_back_at_once_cannot_push_in(database: str) -> None:
    """A process that writes without a pause lets the one that waits go first."""
    turns = Path(f"{database}-turns")
    turns.touch()
    busy = subprocess.Popen([PYTHON, "-c", BUSY, database], cwd=ROOT)
    waiting = WriteQueue(database)
    waited = []
    try:
        wait_for(lambda: turns.stat().st_size, 20, "the first turn")
        for _ in range(20):
            before = turns.stat().st_size
            assert waiting.enter(20)
            waited.append(turns.stat().st_size - before)
            waiting.leave()
            after = turns.stat().st_size
            wait_for(lambda n=after: turns.stat().st_size > n + 1, 20, "two more turns")
    finally:
        busy.kill()
        busy.wait()
        waiting.close()

    assert sorted(waited)[len(waited) // 2] <= 2, waited


def test_one_that_waits_too_long_is_told(database: str) -> None:
    first, second = WriteQueue(database), WriteQueue(database)
    assert first.enter(1)

    assert not second.enter(0.05)
    first.leave()
    assert second.enter(1)
    for queue in (first, second):
        queue.close()


def test_a_killed_process_gives_its_turn_up(database: str) -> None:
    """The kernel does it: nothing of a crash has to be cleared away."""
    code = (
        "import sys; from controlplane.sqlite3.queue import WriteQueue; queue = WriteQueue(sys.argv[1]);"
        " queue.enter(5); print('in', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [PYTHON, "-c", code, database], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sys.stderr
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"in\n"
    queue = WriteQueue(database)
    assert not queue.enter(0)

    holder.kill()
    holder.communicate()

    assert queue.enter(10)
    queue.close()


@pytest.mark.parametrize("well", [True, False])
def test_the_end_of_a_transaction_lets_the_next_one_in(connections: list[DatabaseWrapper], well: bool) -> None:
    first, second = connections
    begin(first)
    with pytest.raises(OperationalError, match="locked"):
        begin(second)

    end(first, well=well)
    begin(second)
    with second.cursor() as cursor:
        cursor.execute("INSERT INTO t VALUES (1)")
    end(second, well=True)


def test_a_closed_connection_lets_the_next_one_in(connections: list[DatabaseWrapper]) -> None:
    """Also in the midst of a transaction, which is then rolled back."""
    first, second = connections
    begin(first)
    first.in_atomic_block = False
    first.close()

    begin(second)
    end(second, well=True)


def half_read(connection: DatabaseWrapper) -> Any:
    """Return a cursor with more to read: for as long as it is open its connection sees what was there then."""
    cursor = connection.cursor()
    cursor.execute("SELECT n FROM t")
    cursor.fetchone()
    return cursor


def write(connection: DatabaseWrapper) -> None:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO t VALUES (1), (2), (3)")


def test_a_read_that_was_forgotten_keeps_nobody_from_writing(connections: list[DatabaseWrapper]) -> None:
    """Such as one in the frames of an error that went round: SQLite refuses at once to write upon what is old."""
    first, second = connections
    write(first)
    gc.disable()
    try:
        cycle = [half_read(first)]
        cycle.append(cycle)  # type: ignore[arg-type]
        del cycle
        write(second)

        begin(first)
    finally:
        gc.enable()
    end(first, well=True)


@pytest.mark.parametrize("looking_s", [0, 0.4])
def test_a_read_that_goes_on_says_why_nothing_can_be_written(
    connections: list[DatabaseWrapper], monkeypatch: pytest.MonkeyPatch, looking_s: float
) -> None:
    """Also where to look for forgotten ones takes longer than one waits."""
    monkeypatch.setattr(gc, "collect", lambda: time.sleep(looking_s))
    first, second = connections
    write(first)
    cursor = half_read(first)
    write(second)

    with pytest.raises(OperationalError, match="a read that is not finished"):
        begin(first)
    cursor.close()
    begin(first)
    end(first, well=True)


def test_who_reads_waits_for_one_that_does_not_queue(connections: list[DatabaseWrapper]) -> None:
    """SQLite itself would refuse at once, since the two could wait for one another."""
    first, second = connections
    write(first)
    reading = half_read(first)
    first.settings_dict["OPTIONS"]["timeout"] = 20
    first.inc_thread_sharing()
    with second.cursor() as cursor:
        cursor.execute("BEGIN IMMEDIATE")
        begun = threading.Thread(target=begin, args=(first,))
        begun.start()
        begun.join(0.3)
        assert begun.is_alive()
        cursor.execute("ROLLBACK")
        begun.join(10)
    assert not begun.is_alive()
    reading.close()
    end(first, well=True)
