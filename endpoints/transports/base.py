"""The contract of every transport, on one screen: send one thing, get a Reply or one TransportError.

A transport is opened for one endpoint and used by many coroutines at once, up to
the endpoint's `max_in_flight`. It keeps its connections and closes them in `aclose`.
It never retries, never waits for a due time and never touches the database:
deciding what happens next belongs to the engine.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

import structlog

log = structlog.get_logger(__name__)

KEPT_BODY = 16 * 1024  # bytes of an answer that becomes no message
MAX_RETRY_AFTER_S = 3600.0  # for so long at most a peer may have itself waited for


class AckLevel(StrEnum):
    """How much a delivered message is known to have arrived; weakest first."""

    WRITTEN = "written"
    TRANSPORT = "transport"
    APPLICATION = "application"


class ErrorClass(StrEnum):
    """Whose fault a failed attempt was, in the words of the outcome table."""

    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    TIMEOUT = "timeout"
    PROTOCOL = "protocol"
    AUTH = "auth"
    THROTTLED = "throttled"
    CLIENT_ERROR = "client_error"
    SERVER_ERROR = "server_error"
    NACK = "nack"
    TRANSFORM = "transform"
    BLOCKED_ADDRESS = "blocked_address"
    LOST = "lost"
    INTERNAL = "internal"


class Advice(StrEnum):
    """What a failed attempt asks for, unless the endpoint's `outcomes` say otherwise."""

    RETRY = "retry"
    DEAD = "dead"
    THROTTLED = "throttled"  # wait, and spend no attempt
    GONE = "gone"  # dead, and pause the endpoint
    CUT = "cut"  # the receiver broke it off: retry, but hold it against no endpoint
    STOPPED = "stopped"  # we broke it off: try again at once, and spend nothing
    UNSENT = "unsent"  # nobody was there to send to: no attempt at all


@dataclass(slots=True)  # not frozen: that costs three times as much to make, and one is made per attempt
class Outgoing:
    """One message on its way to one endpoint; times are RFC 3339 text, ids are text. Do not change it."""

    delivery_id: str
    attempt: int
    message_id: str
    source_system: str
    target_system: str
    message_type: str
    priority: str
    timestamp: str
    content_type: str
    payload: bytes
    event_type: str = ""
    correlation_id: str = ""
    reply_to: str = ""
    ordering_key: str = ""
    recipient: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Secret:
    """A decrypted credential: its name (for `$NAME` in records), kind and data."""

    id: str
    name: str
    kind: str
    data: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Address:
    """Everything a transport needs to know of an endpoint; secrets are decrypted, so never log it."""

    id: str
    system: str
    interface: str
    protocol: str
    host: str = ""
    port: int | None = None
    path: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float = 15.0
    max_in_flight: int = 16
    max_reply_bytes: int = 1024 * 1024
    credential: Secret | None = field(default=None, repr=False)
    signing: tuple[Secret, ...] = field(default=(), repr=False)  # newest first; several while rotating
    client_credential: Secret | None = field(default=None, repr=False)
    asked_at: datetime | None = field(default=None, compare=False)  # when its receiver last fetched, if it does

    def reply_cap(self, outgoing: Outgoing) -> int:
        """Return how many bytes of the answer to a message are kept: of a request's what its response may have."""
        return max(self.max_reply_bytes, KEPT_BODY) if outgoing.message_type == "request" else KEPT_BODY


@dataclass(slots=True)
class Reply:
    """What came back. `request` and `headers` hold no secret: each is masked as `$NAME`.

    `phases_ms`: {"dns","connect","tls","first_byte","body"} where known, in milliseconds.
    `body` is cut at the reply cap (decoded bytes); `truncated` says so. `fault` says what
    is wrong with the answer although the message was taken.
    """

    ack_level: AckLevel
    took_ms: float
    status_code: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    truncated: bool = False
    phases_ms: Mapping[str, float] = field(default_factory=dict)
    request: Mapping[str, Any] = field(default_factory=dict)  # {"method","url","headers"[,"body"]}
    fault: str = ""


class TransportError(Exception):
    """The attempt failed. `reply` holds what did come back, when anything did."""

    def __init__(
        self,
        detail: str,
        *,
        error_class: ErrorClass,
        advice: Advice = Advice.RETRY,
        reply: Reply | None = None,
        retry_after_s: float | None = None,
        phases_ms: Mapping[str, float] | None = None,
        request: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.error_class = error_class
        self.advice = advice
        self.reply = reply
        self.retry_after_s = retry_after_s
        self.phases_ms = phases_ms or (reply.phases_ms if reply else {})
        self.request = request or (reply.request if reply else {})


Unfit = Callable[[bytes], str]


class Transport(ABC):
    """One endpoint spoken to in one protocol. Make one, `open` it, use it, `aclose` it."""

    CONFIG_SCHEMA: ClassVar[dict[str, Any]] = {"type": "object", "properties": {}, "additionalProperties": False}
    DEFAULT_PORT: ClassVar[int | None] = None
    CLAIMED_BY: ClassVar[str] = (
        "deliver"  # whose loop sends its deliveries: `deliver`, `gateway`, or the receiver itself
    )

    NEEDS_HOST: ClassVar[bool] = False  # an endpoint without one cannot be spoken to
    NEEDS_PORT: ClassVar[bool] = False
    USES: ClassVar[tuple[str, ...]] = ("deliver", "probe", "test")  # what an endpoint of it may be used for

    def __init__(self, address: Address) -> None:
        self.address = address

    @classmethod
    def check_config(cls, config: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return (field, fault) for what is wrong with a config that fits CONFIG_SCHEMA; empty when nothing is."""
        return []

    @classmethod
    def check_credential(cls, kind: str, config: Mapping[str, Any]) -> str:
        """Return why a credential of this kind cannot be shown under this config; "" when it can."""
        return ""

    @classmethod
    def unfit(cls, config: Mapping[str, Any]) -> "Unfit | None":
        """Return what says why a payload can never be carried ("" when it can); None where every payload can.

        Asked before a message for this endpoint alone is accepted, so that its sender is told at once.
        """
        return None

    @abstractmethod
    async def open(self) -> None:
        """Prepare connections; must not fail because the peer is down."""

    @abstractmethod
    async def send(self, outgoing: Outgoing) -> Reply:
        """Send one message within `timeout_s`; raises TransportError and nothing else."""

    def answered(self, outgoing: Outgoing, reply: Reply) -> Reply:
        """Return the reply of who took a message; where it cannot become the response to a request, it says why."""
        most = self.address.max_reply_bytes
        if outgoing.message_type == "request" and (reply.truncated or len(reply.body) > most):
            reply.fault = (
                f"no response was kept: the answer has more than the {most} bytes {self.address.system} may send"
            )
            log.warning("answer_too_large", system=self.address.system, message=outgoing.message_id, most_bytes=most)
        return reply

    def receive(self) -> AsyncIterator[Reply]:
        """Yield what the peer sends on its own accord; most protocols have no such thing."""
        raise NotImplementedError(f"{self.address.protocol} does not receive")

    @abstractmethod
    async def probe(self) -> Reply:
        """Ask cheaply whether the peer is there; raises TransportError."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close every connection; safe to call twice."""
