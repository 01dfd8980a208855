"""What all pools of a process keep without using it: no more than there are files for, the longest idle goes first."""

import sys
from collections.abc import Callable


class Idle:
    """Idle connections, and how each is let go of when there are more than `most`."""

    def __init__(self, most: int = sys.maxsize) -> None:
        self.most = most
        self._drops: dict[object, Callable[[], None]] = {}

    def add(self, connection: object, drop: Callable[[], None]) -> None:
        """Keep a connection; `drop` is called when it must go, which whoever keeps it then does."""
        self._drops[connection] = drop
        while len(self._drops) > self.most:
            self._drops.pop(next(iter(self._drops)))()

    def discard(self, connection: object) -> None:
        """Count a connection no more: it is used, or gone."""
        self._drops.pop(connection, None)

    def __len__(self) -> int:
        return len(self._drops)


IDLE = Idle()
