"""What this process may send to each endpoint now: its part of the cap and the rate, the breaker, the slow start."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from endpoints.models import Breaker, BreakerState
from messaging.engine.breaker import IN_A_ROW, LONGEST_RAMP, allowed
from messaging.engine.shares import Shares

# What is late catches up so far: short, since a receiver that counts may count by the second.
BURST_S = 0.25
AHEAD_S = 1.0  # what the rate does not allow within this is left for others to claim
FOREVER = float("inf")
ASK_EVERY_S = 0.5


@dataclass(slots=True, eq=False)
class Gate:
    """One endpoint's; it outlives the doors that a change of settings replaces."""

    id: UUID
    interface: tuple[int, str] = (0, "")
    timeout_s: float = 0.0
    cap: int = 1
    rate_per_s: float | None = None
    pace_per_s: float | None = None  # of a drain: for a while no faster
    part: int = 0  # of the cap, ours
    limit: int = 0  # how many may be on their way through us now
    in_flight: int = 0
    next_at: float = float("-inf")  # when the rate allows the next send, on the monotonic clock
    rate: float | None = None  # our part of it
    is_open: bool = False
    try_at: datetime | None = None
    asked_at: float = float("-inf")  # when we last asked for one to try, on the monotonic clock
    healed_at: datetime | None = None
    failed_in_a_row: int = 0  # here, and not yet judged

    def wait_s(self, now: float) -> float:
        """Take the next place the rate allows and return the seconds until then."""
        if not self.rate:
            return 0.0
        at = max(self.next_at, now - BURST_S)
        self.next_at = at + 1 / self.rate
        return max(0.0, at - now)

    def use_rate(self, rate: float | None) -> None:
        """Let so many begin a second from now on; what a slower rate put off is not put off for longer than this."""
        if rate != self.rate:
            self.rate = rate
            self.next_at = min(self.next_at, time.monotonic() + 1 / rate) if rate else self.next_at

    def allowance(self, now: float) -> float:
        """Return how many more sends the rate lets begin within a second."""
        if not self.rate:
            return FOREVER if self.rate is None else 0
        ahead_s = now + AHEAD_S - max(self.next_at, now - BURST_S)
        return int(ahead_s * self.rate) + 1 if ahead_s >= 0 else 0

    def room(self) -> int:
        """Return how many more may begin at this moment."""
        if self.rate is not None and self.next_at - time.monotonic() > AHEAD_S:
            return 0
        return self.limit - self.in_flight

    def is_due(self, at: datetime, now: float) -> bool:
        """Say whether we may try one delivery behind the open breaker; once in a while, as there may be none."""
        is_time = self.try_at is not None and self.try_at <= at and now - self.asked_at >= ASK_EVERY_S
        return self.is_open and is_time and self.in_flight < self.part and self.allowance(now) > 0

    def note(self, *, failed: bool) -> None:
        """Hold back at once when enough failed to open the breaker; the judgement follows with the next batch."""
        self.failed_in_a_row = self.failed_in_a_row + 1 if failed else 0
        if self.failed_in_a_row >= IN_A_ROW:
            self.limit = 0


class Gates:
    """All of them, by endpoint."""

    def __init__(self, shares: Shares) -> None:
        self.shares = shares
        self.ahead = timedelta()  # of the database's clock before ours
        self._gates: dict[UUID, Gate] = {}
        self._healing: set[Gate] = set()
        self._open: set[Gate] = set()
        self._paced: set[Gate] = set()
        self._dirty: set[UUID] = set()

    def gate(self, endpoint: UUID) -> Gate:
        """Return the endpoint's gate, the same for as long as it is known."""
        if endpoint not in self._gates:
            self._gates[endpoint] = Gate(endpoint)
        return self._gates[endpoint]

    def known(self, endpoint: UUID | None) -> Gate | None:
        """Return the gate of an endpoint that has one."""
        return self._gates.get(endpoint) if endpoint else None

    def keep(self, endpoints: set[UUID]) -> None:
        """Forget the gates of all others, once nothing of theirs is on its way."""
        for endpoint in self._gates.keys() - endpoints:
            if not self._gates[endpoint].in_flight:
                gate = self._gates.pop(endpoint)
                self._healing.discard(gate)
                self._open.discard(gate)
                self._paced.discard(gate)
                self._dirty.discard(endpoint)

    def learn(self, rows: Iterable[Breaker], *, judged: bool = False) -> set[UUID]:
        """Take in breakers as they are stored; return the endpoints that opened or closed.

        `judged` says that what failed here is counted in them.
        """
        turned = set()
        for row in rows:
            gate = self._gates.get(row.endpoint_id)
            if gate is None:
                continue
            is_open = row.state != BreakerState.CLOSED
            if is_open != gate.is_open:
                turned.add(gate.id)
            if row.try_at != gate.try_at:
                gate.asked_at = float("-inf")
            gate.is_open, gate.try_at, gate.healed_at = is_open, row.try_at, row.healed_at
            gate.pace_per_s = row.pace_per_s
            (self._paced.discard if row.pace_per_s is None else self._paced.add)(gate)
            (self._open.add if is_open else self._open.discard)(gate)
            (self._dirty.add if is_open or row.streak else self._dirty.discard)(gate.id)
            if judged:
                gate.failed_in_a_row = 0
            self._healing.add(gate)
            self._set(gate)
        return turned

    def dirty(self) -> set[UUID]:
        """Return the endpoints whose breakers count failures, and must hear of successes, too."""
        return set(self._dirty)

    def paced(self) -> dict[UUID, tuple[int, str]]:
        """Return {endpoint: interface} of those that are drained at a pace."""
        return {gate.id: gate.interface for gate in self._paced}

    def to_try(self) -> dict[UUID, tuple[tuple[int, str], float]]:
        """Return {endpoint: (interface, timeout)} of the open breakers of which we may try one delivery now."""
        now = time.monotonic()
        ready = [gate for gate in self._open if gate.is_due(datetime.now(UTC) + self.ahead, now)]
        for gate in ready:
            gate.asked_at = now
        return {gate.id: (gate.interface, gate.timeout_s) for gate in ready}

    def tick(self) -> bool:
        """Let those that heal have more, as time goes by; return whether there is something to claim for it."""
        for gate in list(self._healing):
            self._set(gate)
        at, now = datetime.now(UTC) + self.ahead, time.monotonic()
        return any(gate.is_due(at, now) for gate in self._open)

    def divide(self) -> None:
        """Work out every part anew."""
        for gate in self._gates.values():
            self._set(gate)

    def loads(self) -> dict[UUID, tuple[int, int]]:
        """Return {endpoint: (in flight, cap)} of those with something on its way."""
        return {gate.id: (gate.in_flight, gate.cap) for gate in self._gates.values() if gate.in_flight}

    def _set(self, gate: Gate) -> None:
        since_s = None
        if gate.healed_at is not None:
            since_s = (datetime.now(UTC) + self.ahead - gate.healed_at).total_seconds()
        gate.part = self.shares.part(gate.cap, gate.id)
        rates = [rate for rate in (gate.rate_per_s, gate.pace_per_s) if rate is not None]
        gate.use_rate(min(rates) * self.shares.rate_share(gate.cap, gate.id) if rates else None)
        is_held = gate.is_open or gate.failed_in_a_row >= IN_A_ROW
        gate.limit = 0 if is_held else min(gate.part, self.shares.part(allowed(gate.cap, since_s), gate.id))
        if since_s is None or since_s > LONGEST_RAMP:
            self._healing.discard(gate)
