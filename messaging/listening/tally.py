"""What a listener has seen: counts, and the last of whom it refused and why. Logs are limited in their rate."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog

from endpoints.edge.seldom import Seldom
from endpoints.errors import ControlPlaneError
from messaging.intake.commit import Answer

log = structlog.get_logger(__name__)

KEPT = 20


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
    _lines: Seldom = field(default_factory=Seldom)

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
        if (left_out := self._lines.left_out(code)) is not None:
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
