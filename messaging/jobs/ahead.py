"""The next rows of a job."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Ahead:
    """The keys of the next rows, and where they end; without `more`, nothing lies behind it."""

    ids: Sequence[Any]
    place: str
    more: bool
