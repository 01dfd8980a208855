"""What the transports share that keep a pool of connections: where to, when there is one, and why there is none."""

from typing import ClassVar, Generic, TypeVar

from endpoints.egress import Egress, default_egress
from endpoints.transports.base import Address, Transport, TransportError
from endpoints.transports.pool import Peer, closed
from endpoints.transports.tls import endpoint_context

P = TypeVar("P")


class PooledTransport(Transport, Generic[P]):
    """Has its pool from `open` to `aclose`; what is found in `open` that cannot work is told by whatever needs it."""

    NEEDS_HOST: ClassVar[bool] = True

    def __init__(self, address: Address, egress: Egress | None = None) -> None:
        super().__init__(address)
        self._egress = egress or default_egress()
        self._pool: P | None = None
        self._fault: TransportError | None = None

    def _require_pool(self) -> P:
        if self._pool is not None:
            return self._pool
        if self._fault is not None:
            fault = self._fault
            raise TransportError(fault.detail, error_class=fault.error_class, advice=fault.advice)
        raise closed()


def peer_of(address: Address, port: int, *, is_tls: bool) -> Peer:
    """Return where to connect to; raises TransportError when the TLS settings cannot be used."""
    if not is_tls:
        return Peer(address.host, port)
    tls = address.config.get("tls") or {}
    return Peer(address.host, port, endpoint_context(address), tls.get("server_name"))
