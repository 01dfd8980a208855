"""What a step saw: one shape for all kinds of steps, so that all subjects can be asked of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Missing:
    """Stands for a subject that is not there; `said` is what was there instead."""

    said: str = ""


MISSING = Missing()


@dataclass(slots=True)
class Observation:
    """What came of one attempt; what a kind of step has no word for stays None.

    `latency_ms` is how long it took, `phases_ms` of what that is made. `error_class` is one
    of those of attempts, with `error` for people and the peer's own word for it as
    `error_code`. `no_answer`: nothing came back, or a no, which no assertion passes over but
    one about what `speaks` of it. `dirty`: it went as it went, and left something behind.
    """

    latency_ms: float = 0.0
    status: Any = None
    headers: Mapping[str, str] | None = None
    body: bytes | None = None
    truncated: bool = False
    rows: Sequence[Any] | None = None
    messages: Sequence[Any] | None = None
    events: Sequence[Any] | None = None
    tls: Mapping[str, Any] | None = None
    close: Mapping[str, Any] | None = None
    phases_ms: Mapping[str, float] = field(default_factory=dict)
    error_class: str = ""
    error_code: str = ""
    error: str = ""
    no_answer: bool = False
    speaks: tuple[str, ...] = ("error",)
    dirty: bool = False
    request: Mapping[str, Any] = field(default_factory=dict)
