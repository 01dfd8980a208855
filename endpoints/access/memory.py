"""A bounded memory of who is calling: entries live shortly, and reading one takes no lock."""

import threading
import time
from typing import Any


class Memory:
    """A bounded map from token to what it turned out to be; reading takes no lock."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: dict[str, tuple[Any, float]] = {}
        self._lock = threading.Lock()

    def get(self, token: str) -> Any:
        """Return what was put for `token`, or None when that was too long ago."""
        entry = self._entries.get(token)
        return entry[0] if entry is not None and entry[1] > time.monotonic() else None

    def put(self, token: str, value: Any, until: float) -> None:
        """Remember `value` until a monotonic time; the entry put first makes room."""
        with self._lock:
            self._entries.pop(token, None)
            while len(self._entries) >= self._size:
                del self._entries[next(iter(self._entries))]
            self._entries[token] = (value, until)

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
