"""Which protocols there are: one row each."""

from functools import cache

from django.utils.module_loading import import_string

from endpoints.errors import Refused
from endpoints.transports.base import Address, Transport

TRANSPORTS = {
    "http": "endpoints.transports.http.HttpTransport",
    "https": "endpoints.transports.http.HttpTransport",
    "memory": "endpoints.transports.memory.MemoryTransport",
    "pull": "endpoints.transports.pull.PullTransport",
    "tcp": "endpoints.transports.tcp.TcpTransport",
    "tls": "endpoints.transports.tcp.TlsTransport",
    "udp": "endpoints.transports.udp.UdpTransport",
}


@cache
def transport_class(protocol: str) -> type[Transport]:
    """Return the class that speaks `protocol`; raises Refused when nobody does."""
    path = TRANSPORTS.get(protocol)
    if path is None:
        raise Refused(
            f"protocol '{protocol}' is not known; known are {', '.join(sorted(TRANSPORTS))}",
            code="unknown_protocol",
        )
    found: type[Transport] = import_string(path)
    return found


@cache
def protocols_claimed_by(claimer: str) -> tuple[str, ...]:
    """Return the protocols whose deliveries `claimer` (see `Transport.CLAIMED_BY`) claims."""
    return tuple(protocol for protocol in TRANSPORTS if claimer == transport_class(protocol).CLAIMED_BY)


def make_transport(address: Address) -> Transport:
    """Return an unopened transport for `address`."""
    return transport_class(address.protocol)(address)
