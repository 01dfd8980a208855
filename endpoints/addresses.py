"""Which addresses may be spoken to: the deny table, the zones that re-open parts of it, and strict host spelling.

Pure functions, no network. `ipaddress.is_private` and `is_global` are no filters: NAT64 of a
metadata address counts as global and 100.64/10 as not private on some Pythons, so the table is ours.
Sources: IANA special-purpose registries for IPv4 and IPv6, RFC 6890, RFC 6052, RFC 8215, RFC 3056, RFC 4380.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import idna

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

DENIED: tuple[tuple[IPNetwork, str], ...] = tuple(
    (ip_network(network), why)
    for network, why in (
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared (carrier-grade NAT)"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "protocol assignment"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved or broadcast"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::/96", "IPv4-compatible"),
        ("::ffff:0:0:0/96", "IPv4-translated"),
        ("64:ff9b:1::/48", "local-use NAT64"),
        ("100::/64", "discard-only"),
        ("2001::/32", "Teredo"),
        ("2001::/23", "protocol assignment"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "documentation"),
        ("5f00::/16", "segment routing"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)
# A zone that merely contains one of these does not open it: a zone must name the very address.
METADATA: frozenset[IPAddress] = frozenset(
    map(ip_address, ("169.254.169.254", "168.63.129.16", "100.100.100.200", "fd00:ec2::254", "fd20:ce::254"))
)
GLOBAL_UNICAST = IPv6Network("2000::/3")
NAT64 = IPv6Network("64:ff9b::/96")
LOW_32 = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Zone:
    """A network that may be spoken to although the table denies it, on one port or on all."""

    network: IPNetwork
    port: int | None = None

    def opens(self, address: IPAddress, port: int) -> bool:
        """Say whether this zone allows `address` on `port`."""
        if self.port not in (None, port) or address not in self.network:
            return False
        return address not in METADATA or self.network.num_addresses == 1


_ZONE = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:./]+)\]|(?P<v4>[0-9./]+)|(?P<bare6>[0-9a-fA-F:.]+/\d+))(?::(?P<port>\d+))?")


def parse_zones(entries: Iterable[str]) -> tuple[Zone, ...]:
    """Return the zones that `CIDR[:port]` entries name; an IPv6 one with a port is `[CIDR]:port`.

    Raises ValueError naming the entry and the fault: a zone that is silently
    misread opens or closes the wrong door.
    """
    return tuple(_parse_zone(entry.strip()) for entry in entries if entry.strip())


def _parse_zone(entry: str) -> Zone:
    match = _ZONE.fullmatch(entry)
    if match is None:
        raise ValueError(f"egress zone {entry!r} is not CIDR[:port], or [CIDR]:port for IPv6")
    try:
        network = ip_network(match["v6"] or match["v4"] or match["bare6"])
    except ValueError as exc:
        raise ValueError(f"egress zone {entry!r}: {exc}") from exc
    port = int(match["port"]) if match["port"] else None
    if port is not None and not 1 <= port <= 65535:
        raise ValueError(f"egress zone {entry!r}: port {port} is not within 1..65535")
    return Zone(network, port)


def embedded(address: IPv6Address) -> list[IPv4Address]:
    """Return the IPv4 addresses an IPv6 one carries (NAT64, 6to4, Teredo, compatible and translated)."""
    if address in NAT64 or address in IPv6Network("::/96") or address in IPv6Network("::ffff:0:0:0/96"):
        return [IPv4Address(int(address) & LOW_32)]
    if address.sixtofour is not None:
        return [address.sixtofour]
    return list(address.teredo or ())


def why_denied(address: IPAddress, port: int, zones: Iterable[Zone] = ()) -> str | None:
    """Return why `address` may not be spoken to, or None when it may.

    An IPv4-mapped address is judged as the IPv4 one it is. An address that
    carries an IPv4 one must be allowed itself and so must what it carries.
    """
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return "scoped"
        if address.ipv4_mapped is not None:
            return why_denied(address.ipv4_mapped, port, zones)
    zones = tuple(zones)
    if any(zone.opens(address, port) for zone in zones):
        return None
    if address in METADATA:
        return "metadata service"
    for network, why in DENIED:
        if address in network:
            return why
    if isinstance(address, IPv4Address):
        return None
    for carried in embedded(address):
        if inner := why_denied(carried, port, zones):
            return f"{inner}, embedded in IPv6"
    return None if address in GLOBAL_UNICAST or address in NAT64 else "not global unicast"


_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")
_WITH_PORT = re.compile(r"[^:]+:[0-9]*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


def normalise_host(host: str) -> str:
    """Return `host` in its one canonical spelling; raises ValueError saying what is wrong with it.

    An IPv4 address must be written as four decimal numbers: 127.1, 0x7f.1, 0177.0.0.1
    and 2130706433 are read as an address by some libraries and as a name by others,
    and such disagreements are how filters are passed (WHATWG URL, "ends in a number").
    """
    if not host:
        raise ValueError("it is empty")
    if "/" in host or _WITH_PORT.fullmatch(host):
        raise ValueError("it is more than a host; protocol, port and path are fields of their own")
    if host.startswith("[") and host.endswith("]"):
        return str(_ipv6(host[1:-1]))
    if ":" in host:
        return str(_ipv6(host))
    name = _ascii(host).lower().removesuffix(".")
    if len(name) > 253 or not _NAME.fullmatch(name):
        raise ValueError("it is neither a host name nor an address")
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        try:
            return str(IPv4Address(name))
        except ValueError as exc:
            raise ValueError("an IPv4 address must be written as four decimal numbers") from exc
    return name


def _ipv6(text: str) -> IPv6Address:
    try:
        address = IPv6Address(text)
    except ValueError as exc:
        raise ValueError("it is not an IPv6 address") from exc
    if address.scope_id is not None:
        raise ValueError("a scope id is not allowed")
    return address


def _ascii(host: str) -> str:
    if host.isascii():
        return host
    try:
        return idna.encode(host, uts46=True).decode("ascii")
    except idna.IDNAError as exc:
        raise ValueError("it is not a valid international name") from exc
