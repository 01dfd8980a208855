"""Five fields of cron in a time zone, as instants: pure, and defined where the clock is put forward or back.

A schedule whose hour is a star follows time as it passes: an hour that the clock skips
has no tick, one that it repeats has them twice. One with fixed hours has each of its
times once a day: a time that the clock skips comes the moment after the gap, one that
it repeats comes the first time.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

DAYS_AHEAD = 366 * 8 + 1  # the 29th of February can be eight years off
AROUND = timedelta(hours=26)  # by more no two zones differ
PUT_BACK = timedelta(hours=4)  # by more no clock is put back
SPANS = (timedelta(hours=1), timedelta(days=1), timedelta(days=32), timedelta(days=366))
SHORT = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
ITEM = re.compile(r"(?:\*|([a-z0-9]+)(?:-([a-z0-9]+))?)(?:/([0-9]{1,3}))?")


@dataclass(frozen=True, slots=True)
class Part:
    """What one field may hold; `names` stand for numbers from `low`."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()

    def read(self, text: str) -> frozenset[int]:
        """Return the numbers that the field names; raises ValueError."""
        found: set[int] = set()
        for item in text.lower().split(","):
            match = ITEM.fullmatch(item)
            if match is None:
                raise ValueError(f"cannot read '{item}' as a {self.name}")
            first, last, step = match.groups()
            every = int(step) if step else 1
            low = self._number(first) if first else self.low
            high = self._number(last) if last else self.high if step or not first else low
            if every < 1 or high < low:
                raise ValueError(f"'{item}' names no {self.name}")
            found.update(range(low, high + 1, every))
        return frozenset(found)

    def _number(self, text: str) -> int:
        number = self.names.index(text) + self.low if text in self.names else int(text) if text.isdigit() else -1
        if not self.low <= number <= self.high:
            raise ValueError(f"a {self.name} is {self.low} to {self.high}, not '{text}'")
        return number


FIELDS = (
    Part("minute", 0, 59),
    Part("hour", 0, 23),
    Part("day of the month", 1, 31),
    Part("month", 1, 12, MONTHS),
    Part("day of the week", 0, 7, WEEKDAYS),
)


@dataclass(frozen=True, slots=True)
class Cron:
    """A schedule: which minutes, of which hours, on which days of its zone."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool  # both kinds of day are named: one of them suffices
    follows_time: bool  # its hour is a star
    zone: ZoneInfo

    def after(self, moment: datetime) -> datetime | None:
        """Return the first tick later than `moment`, in UTC; None when none comes within eight years."""
        day = (moment - AROUND).astimezone(self.zone).date()
        for number in range(DAYS_AHEAD):
            if self._is_on(day + timedelta(days=number)) and (found := self._on(day + timedelta(days=number), moment)):
                return found
        return None

    def latest(self, first: datetime, until: datetime) -> datetime:
        """Return the last tick up to `until`; `first` is one. It takes no longer when that was years ago."""
        for span in SPANS:
            if until - span <= first:
                break
            if (found := self.after(until - span)) is not None and found <= until:
                first = found
                break
        while (following := self.after(first)) is not None and following <= until:
            first = following
        return first

    def coming(self, moment: datetime, count: int) -> Iterator[datetime]:
        """Return the first `count` ticks after `moment`."""
        found = self.after(moment)
        while found is not None and count > 0:
            yield found
            found, count = self.after(found), count - 1

    def _is_on(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        by_month, by_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return (by_month or by_week) if self.either_day else (by_month and by_week)

    def _on(self, day: date, moment: datetime) -> datetime | None:
        """Return the first tick of one day that is later than `moment`."""
        local = moment.astimezone(self.zone).replace(tzinfo=None)
        best: datetime | None = None
        for hour in self.hours:
            start = datetime.combine(day, time(hour))
            if start < local - PUT_BACK:
                continue
            if best is not None and start - PUT_BACK > best.astimezone(self.zone).replace(tzinfo=None):
                break  # what is so much later on the dial comes later
            for minute in self.minutes:
                for tick in self._instants(start + timedelta(minutes=minute)):
                    if tick > moment and (best is None or tick < best):
                        best = tick
        return best

    def _instants(self, local: datetime) -> list[datetime]:
        """Return when a time of the dial is: once, twice, or never."""
        first, second = (local.replace(tzinfo=self.zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        if first == second:
            return [first]
        if first < second:  # the clock is put back: it shows this twice
            return [first, second] if self.follows_time else [first]
        if self.follows_time:
            return []
        return [_end_of_gap(second, first, self.zone)]


def _end_of_gap(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """Return the moment at which the clock is put forward, between two that lie around it."""
    was = before.astimezone(zone).utcoffset()
    low, high = before, after
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) / 2
        low, high = (middle, high) if middle.astimezone(zone).utcoffset() == was else (low, middle)
    return high.replace(microsecond=0)


@lru_cache(maxsize=1000)
def read_cron(text: str, timezone: str = "UTC") -> Cron:
    """Return what five fields (or `@daily` and the like) say; raises ValueError."""
    zone = read_zone(timezone)
    words = SHORT.get(text.strip().lower(), text).split()
    if len(words) != len(FIELDS):
        raise ValueError(f"must be five fields: minute, hour, day, month, weekday, such as '*/5 * * * *', not '{text}'")
    minutes, hours, days, months, weekdays = (part.read(word) for part, word in zip(FIELDS, words, strict=True))
    either = not words[2].startswith("*") and not words[4].startswith("*")
    found = Cron(
        tuple(sorted(minutes)),
        tuple(sorted(hours)),
        days,
        months,
        frozenset(number % 7 for number in weekdays),
        either,
        words[1].startswith("*"),
        zone,
    )
    if found.after(datetime(2024, 1, 1, tzinfo=UTC)) is None:
        raise ValueError(f"'{text}' never comes")
    return found


def read_zone(name: str) -> ZoneInfo:
    """Return a time zone by its name; raises ValueError."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as exc:  # unknown; a path; a folder of zones
        raise ValueError(f"there is no time zone '{name}'; names read as Europe/Amsterdam") from exc
