"""Sizes transactions that go through many rows, so that intake and delivery hardly notice them."""

import time
from typing import Self

from django.db import connection

from messaging import store

# On SQLite a transaction of ours is one that nobody else can have meanwhile.
TURN_S = {"sqlite": 0.006, "postgresql": 0.05}
FEWEST, FIRST, MOST = 30, 50, 2_000  # rows a transaction
CHECKPOINT_EVERY = 4  # of these


class Pace:
    """Sizes transactions by how long the last one took, and rests as long behind each; never below `fewest` rows.

    What it counts in may be minutes instead, see `of_minutes`.
    """

    def __init__(self, fewest: int = FEWEST, first: int = FIRST) -> None:
        self.rows = max(first, fewest)
        self._fewest = fewest
        self._turns = 0
        self._turn_s = TURN_S[connection.vendor]

    @classmethod
    def of_minutes(cls) -> Self:
        """Return one that goes through minutes: there may be two rows of each, or thousands."""
        return cls(1, 1)

    def took(self, elapsed_s: float) -> None:
        """Let `rows` follow what a transaction of so many took, and rest."""
        factor = min(2.0, max(0.5, self._turn_s / max(elapsed_s, 1e-6)))
        self.rows = min(MOST, max(self._fewest, int(self.rows * factor)))
        rest_until = time.monotonic() + elapsed_s
        self._turns += 1
        if self._turns % CHECKPOINT_EVERY == 0:
            store.checkpoint()
        time.sleep(max(0.0, rest_until - time.monotonic()))
