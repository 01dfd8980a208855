"""Takes the measures of a load while it runs: what is judged, what the warm-up was, and a series over time."""

import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from testing.document.load import Load
from testing.load.pace import level_at
from testing.load.tally import Latencies, Tally

WIDTHS_S = (0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200)
MOST_POINTS = 240
LATE_S = 0.25  # an iteration that starts so long after it was to, or a pause that was so much too long
SERIES = (
    *("at_s", "target", "arrivals", "done", "errors", "dropped", "in_flight"),
    *("p50_ms", "p95_ms", "p99_ms", "service_p99_ms"),
)


@dataclass
class Lag:
    """How late the generator itself was; `cpu` is the share of a core that its loop took."""

    starts: int = 0
    late: int = 0
    latencies: Latencies = field(default_factory=Latencies)
    cpu: float = 0.0

    @property
    def late_share(self) -> float:
        return self.late / self.starts if self.starts else 0.0


class _Pending:
    """What came since the last look, not yet counted: appending is all that an iteration pays for."""

    def __init__(self) -> None:
        self.response: list[int] = []
        self.service: list[int] = []
        self.errors: list[str] = []
        self.arrivals = self.dropped = 0

    def tally(self) -> Tally:
        found = Tally()
        found.response.take(self.response)
        found.service.take(self.service)
        found.errors = Counter(self.errors)
        found.done, found.arrivals, found.dropped = len(self.response), self.arrivals, self.dropped
        return found


class Meter:
    """Times are those of `time.perf_counter`; `look` is to be called every `tick_s`."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self.width_s = float(next((w for w in WIDTHS_S if load.for_s / w <= MOST_POINTS), WIDTHS_S[-1]))
        self.tick_s = min(1.0, self.width_s)
        self.whole, self.warm = Tally(), Tally()
        self.lag = Lag()
        self.series: dict[str, list[Any]] = {name: [] for name in SERIES}
        self._judged, self._warm, self._lags = _Pending(), _Pending(), [0]
        self._bucket, self._bucket_at = Tally(), 0.0
        self._window: deque[tuple[float, Tally]] = deque()
        self._window_s = max((rule.over_s for rule in load.abort_if), default=0.0)
        self.started = self.ended = 0.0

    def begin(self) -> None:
        self.started = self.ended = time.perf_counter()
        self._warm_until = self.started + self._load.warmup_s
        self._cpu = time.thread_time()
        self._lags.clear()

    # -- what the generator says ---------------------------------------------------------

    def arrive(self, intended: float, now: float) -> None:
        """Note an arrival of the open model, and how late we are with it."""
        self._lags.append(int((now - intended) * 1_000_000))
        (self._judged if intended >= self._warm_until else self._warm).arrivals += 1

    def drop(self, intended: float) -> None:
        (self._judged if intended >= self._warm_until else self._warm).dropped += 1

    def pause(self, late_s: float) -> None:
        """Note how much too long a pause of ours was: in the closed model nothing is intended to start."""
        self._lags.append(int(late_s * 1_000_000))

    def done(self, intended: float, sent: float, ended: float, error: str) -> None:
        """Note an iteration that ended; one that was never sent has `sent` 0.0."""
        pending = self._judged if intended >= self._warm_until else self._warm
        pending.response.append(int((ended - intended) * 1_000_000))
        if sent:
            pending.service.append(int((ended - sent) * 1_000_000))
        if error:
            pending.errors.append(error)
        self.ended = ended

    # -- looking -------------------------------------------------------------------------

    def look(self, in_flight: int) -> None:
        """Count what came since the last look."""
        now = time.perf_counter()
        judged, warm = self._judged.tally(), self._warm.tally()
        self._judged, self._warm = _Pending(), _Pending()
        self.whole.add(judged)
        self._count_lags()
        self.lag.cpu = round((time.thread_time() - self._cpu) / max(now - self.started, 1e-9), 3)
        if warm.done or warm.arrivals:
            self.warm.add(warm)
            judged.add(warm)
        if self._window_s:
            self._window.append((now, judged))
            while self._window[0][0] <= now - self._window_s - self.tick_s / 2:
                self._window.popleft()
        self._bucket.add(judged)
        if now - self.started >= self._bucket_at + self.width_s - self.tick_s / 2:
            self._close_bucket(in_flight, now)

    def finish(self) -> None:
        """Count what is left."""
        self.look(0)
        if self._bucket.done or self._bucket.arrivals:
            self._close_bucket(0, time.perf_counter())

    def window(self, over_s: float) -> Tally | None:
        """Return what came in the last `over_s` seconds; None before there were so many."""
        now = time.perf_counter()
        if now - self.started < over_s:
            return None
        found = Tally()
        for at, tally in self._window:
            if at > now - over_s - self.tick_s / 2:
                found.add(tally)
        return found

    @property
    def judged_s(self) -> float:
        """Return how long what is judged took: from the end of the warm-up to the last answer, or the last stage."""
        end = max(self.ended, min(self.started + self._load.for_s, time.perf_counter()))
        return max(end - self._warm_until, 0.0)

    def _count_lags(self) -> None:
        lags = self._lags
        self.lag.starts += len(lags)
        self.lag.late += sum(lag > LATE_S * 1_000_000 for lag in lags)
        self.lag.latencies.take(lags)
        lags.clear()

    def _close_bucket(self, in_flight: int, now: float) -> None:
        bucket, self._bucket = self._bucket, Tally()
        at_s, until_s = self._bucket_at, now - self.started
        self._bucket_at = until_s
        response = bucket.response.percentiles_ms((50, 95, 99))
        point = {
            "at_s": round(at_s, 2),
            "target": round(level_at(self._load.stages, (at_s + until_s) / 2), 2),
            "arrivals": bucket.arrivals,
            "done": bucket.done,
            "errors": bucket.failed,
            "dropped": bucket.dropped,
            "in_flight": in_flight,
            **{f"p{p}_ms": response.get(p) for p in (50, 95, 99)},
            "service_p99_ms": bucket.service.percentiles_ms((99,)).get(99),
        }
        for name, value in point.items():
            self.series[name].append(value)
