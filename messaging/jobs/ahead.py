"""The next rows of a job, and the place behind them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Ahead:
    """The next rows as (position, key), and where looking ended; without `more`, nothing is behind that."""

    rows: Sequence[tuple[int, Any]]
    place: str
    more: bool

    @property
    def ids(self) -> list[Any]:
        return [key for _, key in self.rows]

    def split(self, count: int, *, whole_messages: bool) -> tuple["Ahead", "Ahead | None"]:
        """Return the first `count` rows (more, where a message would be cut), and the rest if there is one."""
        cut = count
        while whole_messages and 0 < cut < len(self.rows) and self.rows[cut][0] == self.rows[cut - 1][0]:
            cut += 1
        if cut >= len(self.rows):
            return self, None
        done = Ahead(self.rows[:cut], place_of(*self.rows[cut - 1]), True)
        return done, Ahead(self.rows[cut:], self.place, self.more)


def place_of(position: int, key: Any) -> str:
    """Return the mark of a row: all up to it is done."""
    return f"{position}:{key}"
