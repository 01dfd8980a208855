"""Counts and latencies of some iterations; tallies of seconds, or of shards, add up to that of the whole."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from hdrh.histogram import HdrHistogram

LONGEST_US = 600_000_000  # longer ones are counted as this
DIGITS = 3  # a value is known to 0.1 %


class Latencies:
    """A histogram of microseconds (HDR): it can be added to another, and written as text and read again."""

    def __init__(self, text: str = "") -> None:
        self._hdr: Any = HdrHistogram.decode(text) if text else HdrHistogram(1, LONGEST_US, DIGITS)

    @property
    def count(self) -> int:
        return int(self._hdr.get_total_count())

    def take(self, values_us: Iterable[int]) -> None:
        for value, count in Counter(values_us).items():
            self.take_one(value, count)

    def take_one(self, value_us: int, count: int = 1) -> None:
        self._hdr.record_value(1 if value_us < 1 else value_us if value_us < LONGEST_US else LONGEST_US, count)

    def add(self, other: "Latencies") -> None:
        if other.count:
            self._hdr.add(other._hdr)

    def percentiles_ms(self, wanted: Iterable[float]) -> dict[float, float]:
        """Return milliseconds by percentile; nothing when there is nothing."""
        if not self.count:
            return {}
        return {p: _ms(value) for p, value in self._hdr.get_percentile_to_value_dict(list(wanted)).items()}

    def p_ms(self, p: float) -> float:
        return self.percentiles_ms([p])[p]

    def min_ms(self) -> float:
        return _ms(self._hdr.get_min_value())

    def max_ms(self) -> float:
        return _ms(self._hdr.get_max_value())

    def mean_ms(self) -> float:
        return _ms(self._hdr.get_mean_value())

    def text(self) -> str:
        """Return it in HdrHistogram's own encoding (V2, compressed, base64)."""
        encoded = self._hdr.encode()
        return encoded.decode() if isinstance(encoded, bytes) else str(encoded)


class Tally:
    """What came of some iterations. `arrivals` are those that were to start, with the `dropped` ones."""

    def __init__(self) -> None:
        self.response, self.service = Latencies(), Latencies()
        self.errors: Counter[str] = Counter()
        self.done = self.arrivals = self.dropped = 0

    def add(self, other: "Tally") -> None:
        self.response.add(other.response)
        self.service.add(other.service)
        self.errors.update(other.errors)
        self.done += other.done
        self.arrivals += other.arrivals
        self.dropped += other.dropped

    @property
    def failed(self) -> int:
        return self.errors.total()

    def plain(self) -> dict[str, Any]:
        """Return it as values that can be kept and sent, and read with `of`."""
        return {
            "response": self.response.text(),
            "service": self.service.text(),
            "errors": dict(self.errors),
            **{name: getattr(self, name) for name in ("done", "arrivals", "dropped")},
        }

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "Tally":
        found = cls()
        found.response, found.service = Latencies(plain["response"]), Latencies(plain["service"])
        found.errors.update(plain["errors"])
        found.done, found.arrivals, found.dropped = plain["done"], plain["arrivals"], plain["dropped"]
        return found


def _ms(value_us: float) -> float:
    return round(value_us / 1000, 3)
