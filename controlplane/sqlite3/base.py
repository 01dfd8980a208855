"""Django's SQLite backend, except that transactions queue for the write lock."""

import gc
import os
import time
from contextlib import suppress
from typing import Any

from django.db import OperationalError
from django.db.backends.sqlite3 import base

from controlplane.sqlite3.queue import LOOK_EVERY_S, WriteQueue


class DatabaseWrapper(base.DatabaseWrapper):
    """Takes its turn before a transaction and gives it up with the end of it, however that comes.

    Single statements outside of a transaction do not queue: SQLite's own waiting serves them.
    """

    _queue: WriteQueue | None = None

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        self._close_queue()
        if self.is_in_memory_db():
            return super().get_new_connection(conn_params)
        name = str(self.settings_dict["NAME"])
        _make_private(name)
        connection = super().get_new_connection(conn_params)
        self._queue = WriteQueue(name)
        return connection

    def _start_transaction_under_autocommit(self) -> None:
        timeout_s = float(self.settings_dict["OPTIONS"].get("timeout", 5.0))
        if self._queue is None:
            super()._start_transaction_under_autocommit()  # type: ignore[misc]
        elif not self._queue.enter(timeout_s):
            raise OperationalError("database is locked: another process has been writing for too long")
        else:
            try:
                self._begin(time.monotonic() + timeout_s)
            except BaseException:
                self._queue.leave()
                raise

    def _begin(self, deadline: float) -> None:
        """Begin to write, waiting until `deadline` (monotonic) where SQLite itself does not.

        While a read of this connection is not finished, SQLite refuses at once when another one writes, and for good
        once that has written. Most such reads are forgotten, in the frames of an error that refer to one another.
        """
        is_clean = False
        while True:
            try:
                super()._start_transaction_under_autocommit()  # type: ignore[misc]
                return
            except OperationalError as exc:
                name = getattr(exc.__cause__, "sqlite_errorname", "")
                is_behind = name == "SQLITE_BUSY_SNAPSHOT"
                if is_behind and is_clean:
                    raise OperationalError("database is locked: behind a read that is not finished") from exc
                is_over = not is_behind and time.monotonic() >= deadline
                if is_over or not name.startswith("SQLITE_BUSY"):
                    raise
            if is_clean:
                time.sleep(LOOK_EVERY_S)
            else:
                gc.collect()
                is_clean = True

    def _commit(self) -> None:
        super()._commit()  # type: ignore[misc]
        self._leave()

    def _rollback(self) -> None:
        try:
            super()._rollback()  # type: ignore[misc]
        finally:
            self._leave()

    def _close(self) -> None:
        try:
            super()._close()  # type: ignore[misc]
        finally:
            self._close_queue()

    def _leave(self) -> None:
        if self._queue is not None:
            self._queue.leave()

    def _close_queue(self) -> None:
        if self._queue is not None:
            self._queue.close()
            self._queue = None


def _make_private(name: str) -> None:
    """Let a new file, and with it those SQLite puts beside it, be read by its owner alone: payloads lie in it.

    One that is there is not opened: to close it would end the locks that other connections of this process have on it.
    """
    with suppress(OSError):  # it is there; or SQLite says what is wrong with the place
        os.close(os.open(name, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
