"""Which protocols there are: one row each, and those that other packages add by entry point."""

from functools import cache

from django.utils.module_loading import import_string

from endpoints.errors import Refused
from endpoints.transports import added
from endpoints.transports.base import Address, Transport

TRANSPORTS = {
    "gateway": "endpoints.transports.gateway.GatewayTransport",
    "http": "endpoints.transports.http.HttpTransport",
    "https": "endpoints.transports.http.HttpTransport",
    "memory": "endpoints.transports.memory.MemoryTransport",
    "postgresql": "endpoints.transports.postgresql.PostgresqlTransport",
    "pull": "endpoints.transports.pull.PullTransport",
    "redis": "endpoints.transports.redis.RedisTransport",
    "tcp": "endpoints.transports.tcp.TcpTransport",
    "tls": "endpoints.transports.tcp.TlsTransport",
    "udp": "endpoints.transports.udp.UdpTransport",
    "ws": "endpoints.transports.ws.WsTransport",
    "wss": "endpoints.transports.ws.WsTransport",
}


def protocols() -> list[str]:
    """Return the names of all protocols that can be spoken here."""
    return sorted({*TRANSPORTS, *(name for name in added.offered() if isinstance(added.added_class(name), type))})


def unusable() -> list[tuple[str, str, str]]:
    """Return (protocol, package, why) of what packages offer and cannot be used."""
    return added.faults(frozenset(TRANSPORTS))


@cache
def transport_class(protocol: str) -> type[Transport]:
    """Return the class that speaks `protocol`, ours first; raises Refused when nobody does."""
    path = TRANSPORTS.get(protocol)
    if path is not None:
        built_in: type[Transport] = import_string(path)
        return built_in
    found = added.require(protocol)
    if found is None:
        raise Refused(
            f"protocol '{protocol}' is not known; known are {', '.join(protocols())}",
            code="unknown_protocol",
        )
    return found


def claimer_of(protocol: str) -> str:
    """Return who claims what goes by `protocol`; of one that nobody speaks any more `deliver` says so."""
    try:
        return transport_class(protocol).CLAIMED_BY
    except Refused:
        return Transport.CLAIMED_BY


@cache
def protocols_claimed_by(claimer: str) -> tuple[str, ...]:
    """Return the protocols whose deliveries `claimer` (see `Transport.CLAIMED_BY`) claims."""
    return tuple(protocol for protocol in protocols() if claimer == transport_class(protocol).CLAIMED_BY)


def make_transport(address: Address) -> Transport:
    """Return an unopened transport for `address`."""
    return transport_class(address.protocol)(address)
