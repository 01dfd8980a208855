"""Who writes next: the processes of one installation queue for SQLite's write lock instead of trying their luck.

SQLite lets a writer that finds the lock taken sleep for up to 100 ms, while the one
that holds it may take it again meanwhile. Under load somebody always waits far too
long. Here the next one holds its place and looks every half millisecond.
"""

import fcntl
import os
import time

FIRST_LOOK_S = 0.0001
LOOK_EVERY_S = 0.0005


class WriteQueue:
    """A place in the queue for one connection; the kernel gives it up with a process that dies.

    Two locks: `next` is held by the one who waits, so that a writer that just ended
    cannot push in again before it; `turn` by the one who writes.
    """

    def __init__(self, database: str) -> None:
        """`database` is the path of the database file, beside which the locks lie."""
        self._next = os.open(f"{database}-next", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._turn = os.open(f"{database}-turn", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._has_turn = False

    def enter(self, timeout_s: float) -> bool:
        """Wait for our turn; return False when it did not come within `timeout_s`."""
        if self._has_turn:
            return True
        deadline = time.monotonic() + timeout_s
        if not _take(self._next, deadline):
            return False
        try:
            self._has_turn = _take(self._turn, deadline)
        finally:
            fcntl.flock(self._next, fcntl.LOCK_UN)
        return self._has_turn

    def leave(self) -> None:
        """Let the next one write."""
        if self._has_turn:
            self._has_turn = False
            fcntl.flock(self._turn, fcntl.LOCK_UN)

    def close(self) -> None:
        self._has_turn = False
        os.close(self._next)
        os.close(self._turn)


def _take(lock: int, deadline: float) -> bool:
    pause_s = FIRST_LOOK_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, LOOK_EVERY_S)
        else:
            return True
