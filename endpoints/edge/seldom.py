"""Log lines of what may come in masses: of those alike, one every few seconds."""

import time
from collections import Counter

LOG_EVERY_S = 10.0


class Seldom:
    """Says which lines are written, and counts the others."""

    def __init__(self) -> None:
        self._written_at: dict[str, float] = {}
        self._left_out: Counter[str] = Counter()

    def left_out(self, what: str) -> int | None:
        """Return how many lines about `what` were left out before this one; None when it is left out, too."""
        now = time.monotonic()
        if now - self._written_at.get(what, float("-inf")) < LOG_EVERY_S:
            self._left_out[what] += 1
            return None
        self._written_at[what] = now
        return self._left_out.pop(what, 0)
