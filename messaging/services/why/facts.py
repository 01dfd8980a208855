"""What is known of a delivery or a message when somebody asks why: read once, then said by pure functions."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

# Each kind of hold, in the order in which it is said.
STOP, SYSTEM, MAINTENANCE, INTERFACE, BREAKER = "stop", "system", "maintenance", "interface", "breaker"
NO_ENDPOINT, DISABLED, RETIRED, NO_PROCESS = "no_endpoint", "disabled", "retired", "no_process"


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose the receiver is; contact and runbook only for those who see the system."""

    system: str
    team: str = ""
    contact: str = ""
    runbook_url: str = ""
    is_seen: bool = True


@dataclass(frozen=True, slots=True)
class Hold:
    """One thing that keeps deliveries from being sent now, whatever their own reason says."""

    kind: str
    since: datetime | None = None
    until: datetime | None = None  # of a breaker: when one is tried
    by: str = ""
    reason: str = ""
    endpoint: str = ""  # its id, where there is exactly one


@dataclass(frozen=True, slots=True)
class Answered:
    """So many tries ended alike."""

    outcome: str
    status_code: int | None
    error_class: str
    times: int


@dataclass(frozen=True, slots=True)
class Tries:
    """What became of the tries, the most frequent end first; of the latest ones, if there are very many."""

    spent: int = 0
    unspent: int = 0
    most: int = 0
    ends: tuple[Answered, ...] = ()
    last_said: str = ""
    first_at: datetime | None = None
    last_at: datetime | None = None
    took_ms: float | None = None  # of the one that delivered


@dataclass(frozen=True, slots=True)
class Others:
    """How many more wait, or ended, for the same reason; `is_least`: there may be more."""

    count: int = 0
    is_least: bool = False

    @property
    def text(self) -> str:
        return f"{self.count:,}{'+' if self.is_least else ''}"


@dataclass(frozen=True, slots=True)
class Behind:
    """The head of its ordering key; ids only for those who may see it."""

    delivery: str | None
    position: int | None
    message_id: str | None
    state: str
    reason: str
    error: str
    since: datetime
    due_at: datetime
    is_halting: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """One delivery and all that its state follows from."""

    now: datetime
    delivery: str
    position: int
    message_id: str
    source: str
    system: str
    interface: str
    state: str
    reason: str
    created_at: datetime
    due_at: datetime
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    lease_until: datetime | None = None
    throttled_since: datetime | None = None
    resolved_at: datetime | None = None
    ttl_s: float | None = None
    event_type: str = ""
    ordering_key: str = ""
    error_class: str = ""
    error: str = ""
    ack_level: str = ""
    trigger: str = "scheduled"
    endpoint: str = ""  # id of the one tried last
    rate_per_s: float | None = None
    is_halting: bool = False
    is_removed: bool = False  # its body, by retention
    is_retired: bool = False  # the receiver
    owner: Owner = Owner("")
    tries: Tries = Tries()
    others: Others | None = None
    holds: tuple[Hold, ...] = ()
    behind: Behind | None = None
    held_up: Others | None = None  # those that wait behind this one
    by: str = ""  # who cancelled it, or sent it again
    by_at: datetime | None = None
    dead_group: str = ""
    kept_bodies_days: int = 0
    is_fetched: bool = False  # its receiver comes for it, it is not sent
    asked_at: datetime | None = None  # when that was last asked for
    is_brief: bool = False  # of the row alone: what holds it was not looked at

    @property
    def target(self) -> str:
        return self.system if self.interface == "main" else f"{self.system}/{self.interface}"

    def hold(self, *kinds: str) -> Hold | None:
        """Return the first hold of these kinds."""
        return next((hold for hold in self.holds if hold.kind in kinds), None)


@dataclass(frozen=True, slots=True)
class MessageFacts:
    """One message, and what its deliveries came to."""

    now: datetime
    position: int
    message_id: str
    source: str
    message_type: str
    event_type: str
    targets: list[str] | None
    created_at: datetime
    is_unrouted: bool
    is_removed: bool
    kept_bodies_days: int
    owner: Owner
    others: Others | None = None
    is_hidden: int = 0  # how many deliveries are other teams'


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do next: as a request, as a command, and as a page."""

    name: str
    label: str
    method: str = ""
    path: str = ""
    body: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Why:
    """The answer. `marked` and `short_marked` hold times between marks, see `words.pieces`."""

    marked: str
    short_marked: str
    state: str
    reason: str
    since: datetime
    facts: dict[str, Any]
    actions: tuple[Action, ...]
    delivery: str = ""
    position: int = 0
