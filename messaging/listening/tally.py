"""What a listener has seen: counts, and the last of whom it refused and why. Logs are limited in their rate."""

import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog

from endpoints.errors import ControlPlaneError
from messaging.intake.commit import Answer

log = structlog.get_logger(__name__)

KEPT = 20
LOG_EVERY_S = 10.0


@dataclass(slots=True)
class Tally:
    """Counts since the start of the process; `dropped` are datagrams that nobody could look at."""

    name: str
    connections: int = 0
    accepted: int = 0
    duplicates: int = 0
    refused: int = 0
    dropped: int = 0
    refusals: deque[dict[str, str]] = field(default_factory=lambda: deque(maxlen=KEPT))
    _logged: dict[str, float] = field(default_factory=dict)
    _unlogged: Counter[str] = field(default_factory=Counter)

    def take(self, answers: Sequence[Answer], address: str) -> None:
        """Count what became of messages."""
        for answer in answers:
            if isinstance(answer, ControlPlaneError):
                self.refuse(address, answer.code, answer.detail)
            elif answer.status == "duplicate":
                self.duplicates += 1
            else:
                self.accepted += 1

    def refuse(self, address: str, code: str, detail: str) -> None:
        """Count and remember a refusal; of many with one code a line is logged every few seconds."""
        self.refused += 1
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self.refusals.append({"at": at, "address": address[:100], "code": code, "detail": detail[:300]})
        now = time.monotonic()
        if now - self._logged.get(code, float("-inf")) < LOG_EVERY_S:
            self._unlogged[code] += 1
            return
        self._logged[code] = now
        left_out = self._unlogged.pop(code, 0)
        log.warning("listener_refused", listener=self.name, address=address, code=code, left_out=left_out)

    def counts(self) -> dict[str, int]:
        """Return what changes with traffic, under the names of its columns."""
        return {
            "connections": self.connections,
            "accepted": self.accepted,
            "duplicates": self.duplicates,
            "refused": self.refused,
            "dropped": self.dropped,
        }
