"""Who of an ordering key goes next, and the sweep that finds whoever was left waiting for nobody."""

import time

import structlog
from django.db import transaction

from messaging import store
from messaging.store import Line

log = structlog.get_logger(__name__)

LINES = 100  # looked at in one step: bounded, so that it never holds the database for long
HALTED = 500
MEND_S = 5.0
START: Line = (0, "", "")


class Mender:
    """Lets go what a change of policy leaves halted, and what waits behind nobody: a net that should stay empty."""

    def __init__(self) -> None:
        self._after = START
        self._next_at = 0.0

    def step(self) -> int:
        """Look at some lines, every few seconds; return how many went on."""
        if time.monotonic() < self._next_at:
            return 0
        self._next_at = time.monotonic() + MEND_S
        with transaction.atomic():
            freed = self._free(store.needlessly_halted(HALTED))
        with transaction.atomic():  # one of its own: lines are locked before any row is
            mended = self._release(self._unheld())
        if mended:
            log.warning("order_mended", count=mended)
        return freed + mended

    def _unheld(self) -> set[Line]:
        """Return those of the next lines that have no head, and remember how far that got."""
        unheld = set()
        for _ in range(LINES):
            found = store.next_blocked(self._after)
            if found is None:
                self._after = START
                break
            self._after, is_held = found
            if not is_held:
                unheld.add(self._after)
        return unheld

    def _free(self, lines: set[Line]) -> int:
        if not lines:
            return 0
        store.lock_lines(lines, alone=True)
        store.end_halt(lines)
        return len(store.release_next(lines, store.now()))

    def _release(self, lines: set[Line]) -> int:
        if not lines:
            return 0
        store.lock_lines(lines, alone=True)
        return len(store.release_next(lines, store.now()))
