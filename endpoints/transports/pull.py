"""For systems that cannot be called: they fetch what is for them, and acknowledge it, over our own REST API.

Nothing is ever sent from here. `messaging.pulling` leases deliveries to whoever asks.
"""

from datetime import UTC, datetime
from typing import Any, ClassVar

from endpoints.transports.base import AckLevel, Advice, ErrorClass, Outgoing, Reply, Transport, TransportError

LEASE_S = 60
MIN_LEASE_S, MAX_LEASE_S = 1, 12 * 3600
SILENT_S = 300.0  # who asks less often than this is not there


def lease_s(config: Any) -> float:
    """Return for how long a fetched delivery is its receiver's alone."""
    return float(config.get("lease_s", LEASE_S))


class PullTransport(Transport):
    """Stands for a receiver that asks; says of a probe when it last did."""

    CLAIMED_BY: ClassVar[str] = "receiver"
    CONFIG_SCHEMA: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "lease_s": {
                "type": "number",
                "minimum": MIN_LEASE_S,
                "maximum": MAX_LEASE_S,
                "default": LEASE_S,
                "description": "How long the receiver has to acknowledge what it fetched, before others may fetch it.",
            },
            "silent_s": {
                "type": "number",
                "minimum": 1,
                "maximum": 30 * 24 * 3600,
                "default": SILENT_S,
                "description": "A probe finds the receiver down when it last asked longer ago than this.",
            },
        },
        "additionalProperties": False,
    }

    async def open(self) -> None:
        """Nothing to prepare."""

    async def send(self, outgoing: Outgoing) -> Reply:
        """Refuse: whoever calls this took a delivery that is its receiver's to fetch."""
        raise TransportError(
            "a pull endpoint is never sent to; its receiver fetches",
            error_class=ErrorClass.INTERNAL,
            advice=Advice.RETRY,
        )

    async def probe(self) -> Reply:
        """Say how long ago the receiver asked; raises TransportError when that is too long."""
        silent_s = float(self.address.config.get("silent_s", SILENT_S))
        if self.address.asked_at is None:
            raise TransportError("nobody has ever asked for what is here", error_class=ErrorClass.CONNECT)
        ago_s = max(0.0, (datetime.now(UTC) - self.address.asked_at).total_seconds())
        if ago_s > silent_s:
            raise TransportError(f"nobody has asked for {ago_s:.0f} s", error_class=ErrorClass.CONNECT)
        return Reply(ack_level=AckLevel.APPLICATION, took_ms=0.0, body=f"last asked {ago_s:.0f} s ago".encode())

    async def aclose(self) -> None:
        """Nothing to close."""
