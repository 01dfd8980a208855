"""A line that a caller keeps for itself: it says what it likes, and hears all that the peer says, in the order it came.

Deliveries never need this; suites do. Each protocol that has such a thing has a
`converse` of its own, over the same address, credential and way out as its deliveries.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from endpoints.transports.base import ErrorClass, TransportError

MOST_UNHEARD = 20_000  # messages that nobody took yet
MOST_UNHEARD_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Heard:
    """One message of the peer; `at` is the time of `time.perf_counter` at which it came."""

    data: bytes
    is_text: bool = True
    at: float = field(default_factory=time.perf_counter)


class Inbox:
    """What was heard and not taken yet, the oldest first; `fault` says what ended the line, once it did."""

    def __init__(self) -> None:
        self._heard: deque[Heard] = deque()
        self._size = 0
        self._news = asyncio.Event()
        self.fault: TransportError | None = None

    def put(self, heard: Heard) -> None:
        """Keep a message; a peer that says more than anybody takes ends the line."""
        if self.fault is not None:
            return
        self._heard.append(heard)
        self._size += len(heard.data)
        if len(self._heard) > MOST_UNHEARD or self._size > MOST_UNHEARD_BYTES:
            self.end(TransportError("the peer said more than was taken of it", error_class=ErrorClass.PROTOCOL))
        self._news.set()

    def end(self, fault: TransportError) -> None:
        """Nothing more will come; what is here can still be taken."""
        self.fault = self.fault or fault
        self._news.set()

    async def get(self) -> Heard | None:
        """Return the next message once there is one, None when none will come any more."""
        while not self._heard:
            if self.fault is not None:
                return None
            self._news.clear()
            await self._news.wait()
        heard = self._heard.popleft()
        self._size -= len(heard.data)
        return heard


class Conversation(ABC):
    """One line, open until `aclose` or until the peer ends it (`inbox.fault`).

    `request` is how it was opened, as it may be recorded; `connect_ms` how long that took.
    """

    inbox: Inbox
    request: Mapping[str, Any]
    connect_ms: float = 0.0

    @abstractmethod
    async def say(self, data: bytes, *, is_text: bool = True) -> None:
        """Say one message; raises TransportError when it cannot be said."""

    @abstractmethod
    async def aclose(self) -> None:
        """End it; safe to call twice."""

    def _require_open(self) -> None:
        if self.inbox.fault is not None:
            fault = self.inbox.fault
            raise TransportError(fault.detail, error_class=fault.error_class)
