"""The one way out: the only module that resolves a name or opens a connection.

A name is resolved once, every address is checked, and the connection goes to a
checked address: whoever answers the next DNS question differently (rebinding)
gains nothing. If *any* address of a name is forbidden the whole name is refused:
a name with a public and a private address is either a mistake or an attack, and
which of the two gets connected to must not be a matter of luck.
Redirects are not followed, proxies of the environment are not used, cookies are not kept.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address
from typing import Any, TypeVar

from aiohappyeyeballs import start_connection
from yarl import URL

from endpoints.addresses import IPAddress, Zone, normalise_host, parse_zones, why_denied
from endpoints.transports.base import Advice, ErrorClass, TransportError
from endpoints.transports.failures import BadAnswer, NotConnected, translated
from endpoints.transports.http1 import Connection
from endpoints.transports.http_exchange import Exchange, head
from endpoints.transports.tls import system_context

__all__ = [
    "BlockedAddress",
    "Egress",
    "Fetched",
    "Target",
    "default_egress",
    "egress_to_ourselves",
    "fetch",
    "parse_zones",
]

CACHE_S = 5.0
CACHE_SIZE = 4096
LOOKUP_THREADS = 32  # a name server that hangs must not hold up the names of others
NEXT_ADDRESS_S = 0.25  # the delay RFC 8305 recommends

P = TypeVar("P", bound=asyncio.BaseProtocol)
Lookup = Callable[[str], Awaitable[list[str]]]


class BlockedAddress(TransportError):
    """The target is, or resolves to, an address we do not speak to; trying again would not help."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, error_class=ErrorClass.BLOCKED_ADDRESS, advice=Advice.DEAD)


@dataclass(frozen=True, slots=True)
class Target:
    """A checked address to connect to."""

    address: str
    port: int
    family: socket.AddressFamily


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer to `fetch`; `body` is complete and within the cap."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@cache
def _lookup_pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(LOOKUP_THREADS, thread_name_prefix="lookup")


async def system_lookup(host: str) -> list[str]:
    """Return the addresses the system's resolver knows for `host`; raises socket.gaierror."""
    loop = asyncio.get_running_loop()
    found = await loop.run_in_executor(_lookup_pool(), lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Egress:
    """A policy (zones, own ports) and the connections made under it."""

    def __init__(
        self, zones: Iterable[Zone] = (), *, own: frozenset[Target] = frozenset(), lookup: Lookup = system_lookup
    ) -> None:
        self._zones = tuple(zones)
        self._own = own
        self._lookup = lookup
        self._cache: dict[str, tuple[float, list[str]]] = {}
        self._pending: dict[tuple[int, str], asyncio.Future[list[str]]] = {}

    async def resolve(self, host: str, port: int) -> list[Target]:
        """Return the checked addresses of `host`; raises BlockedAddress, or TransportError of class dns."""
        try:
            name = normalise_host(host)
        except ValueError as exc:
            raise BlockedAddress(f"host {host[:100]!r} is refused: {exc}") from exc
        return [self.check(address, port, name) for address in await self._addresses(name)]

    def check(self, address: str, port: int, host: str = "") -> Target:
        """Return `address` as a target; raises BlockedAddress with the reason."""
        parsed: IPAddress = ip_address(address)
        of = f" (of {host})" if host and host != address else ""
        if why := why_denied(parsed, port, self._zones):
            raise BlockedAddress(f"address {address}{of} is refused: {why}")
        target = Target(address, port, socket.AF_INET if parsed.version == 4 else socket.AF_INET6)
        if target in self._own:
            raise BlockedAddress(f"address {address} port {port}{of} is refused: it is our own door")
        return target

    async def _addresses(self, name: str) -> list[str]:
        try:
            return [str(ip_address(name))]
        except ValueError:
            pass
        kept = self._cache.get(name)
        if kept is not None and kept[0] > time.monotonic():
            return kept[1]
        asking = (id(asyncio.get_running_loop()), name)
        asked = self._pending.get(asking)
        if asked is None:  # one question at a time per name, whoever asks; a cancelled asker does not cancel it
            asked = self._pending[asking] = asyncio.ensure_future(self._ask(name))
            asked.add_done_callback(lambda done: self._answered(asking, done))
        return await asyncio.shield(asked)

    async def _ask(self, name: str) -> list[str]:
        try:
            found = await self._lookup(name)
        except (OSError, UnicodeError) as exc:
            raise TransportError(f"no address for {name}: {exc}", error_class=ErrorClass.DNS) from exc
        if not found:
            raise TransportError(f"no address for {name}", error_class=ErrorClass.DNS)
        return found

    def _answered(self, asking: tuple[int, str], done: "asyncio.Future[list[str]]") -> None:
        self._pending.pop(asking, None)
        if done.cancelled() or done.exception() is not None:
            return
        if len(self._cache) >= CACHE_SIZE:
            self._cache.clear()
        self._cache[asking[1]] = (time.monotonic() + CACHE_S, done.result())

    async def connect(
        self,
        factory: Callable[[], P],
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        server_name: str | None = None,
    ) -> P:
        """Connect a protocol to a checked address of `host`, over TLS when there is a context for it.

        Several addresses are tried side by side, each a moment after the one before (RFC 8305).
        Raises what `resolve` raises, NotConnected, or ssl.SSLError.
        """
        infos = [
            (target.family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (target.address, port))
            for target in await self.resolve(host, port)
        ]
        try:
            connected = await start_connection(infos, happy_eyeballs_delay=NEXT_ADDRESS_S, socket_factory=self._socket)
            name = (server_name or normalise_host(host)) if tls is not None else None
            _, protocol = await asyncio.get_running_loop().create_connection(
                factory, sock=connected, ssl=tls, server_hostname=name
            )
        except ssl.SSLError:
            raise
        except (OSError, RuntimeError) as exc:  # uvloop raises RuntimeError for some
            reason = getattr(exc, "strerror", None) or str(exc)
            raise NotConnected(getattr(exc, "errno", None), reason) from exc
        return protocol

    async def datagram(self, host: str, port: int, *, broadcast: bool = False) -> socket.socket:
        """Return a non-blocking UDP socket that speaks to one checked address of `host`, and hears nobody else.

        It is the first of them that there is a way to. Raises what `resolve` raises, or OSError where there is none.
        Whoever asks closes it.
        """
        *others, last = await self.resolve(host, port)
        for target in others:
            with suppress(OSError):
                return self._connected(target, broadcast=broadcast)
        return self._connected(last, broadcast=broadcast)

    def _connected(self, target: Target, *, broadcast: bool) -> socket.socket:
        self.check(target.address, target.port)
        made = socket.socket(target.family, socket.SOCK_DGRAM)
        try:
            made.setblocking(False)
            if broadcast:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            made.connect((target.address, target.port))
        except BaseException:
            made.close()
            raise
        return made

    async def fetch(
        self,
        url: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
        timeout_s: float = 10.0,
        max_bytes: int = 256 * 1024,
        tls: ssl.SSLContext | None = None,
    ) -> Fetched:
        """Ask once and return the whole answer, whatever its status; raises TransportError.

        For small things: tokens, key sets. An answer over `max_bytes` is an error, not a prefix.
        """
        target = parse_url(url)
        exchange = Exchange(max_bytes + 1, time.perf_counter() + timeout_s)
        given = {name.lower(): value for name, value in (headers or {}).items()}
        host = target.host_port_subcomponent or ""
        exchange.head = head(method, target.raw_path_qs, host, given, data) + (data or b"")
        context = (tls or system_context()) if target.scheme == "https" else None
        with translated(f"{target.origin()}{target.raw_path}"):
            async with asyncio.timeout(timeout_s):
                connection = await self.connect(Connection, target.raw_host or "", target.port or 0, tls=context)
                try:
                    answer = await connection.ask(exchange)
                finally:
                    connection.close()
            if len(answer.body) > max_bytes:
                raise TransportError(f"answer over {max_bytes} bytes", error_class=ErrorClass.PROTOCOL)
            if answer.is_cut:
                raise BadAnswer("it broke off or is not as announced")
            return Fetched(answer.status, dict(answer.headers), answer.body)

    def _socket(self, info: Any) -> socket.socket:
        """Make the socket for an address that is about to be connected, after a last look at it."""
        family, kind, protocol, _, address = info
        self.check(str(address[0]), int(address[1]))
        return socket.socket(family, kind, protocol)


def parse_url(url: str) -> URL:
    """Return an http(s) URL without credentials in it; raises BlockedAddress for anything else."""
    try:
        parsed = URL(url)
    except ValueError as exc:
        raise BlockedAddress(f"this is not a URL: {exc}") from exc
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.user is not None:
        raise BlockedAddress("a URL must be http or https, name a host, and hold no user or password")
    return parsed


@cache
def default_egress() -> Egress:
    """Return the egress of this installation, as its settings say."""
    from django.conf import settings

    return Egress(parse_zones(settings.ENV.egress_zones), own=own_doors(settings.ENV.public_url))


@cache
def egress_to_ourselves() -> Egress:
    """Return the egress of what looks at our own doors as their clients do; deliveries to them would go in circles."""
    from django.conf import settings

    return Egress(parse_zones(settings.ENV.egress_zones))


def own_doors(public_url: str) -> frozenset[Target]:
    """Return our own web address where the public one is plainly local: a delivery to it would go in circles."""
    url = URL(public_url)
    if url.host not in ("127.0.0.1", "localhost", "::1") or url.port is None:
        return frozenset()
    return frozenset(
        {Target("127.0.0.1", url.port, socket.AF_INET), Target("::1", url.port, socket.AF_INET6)},
    )


async def fetch(url: str, **options: Any) -> Fetched:
    """Fetch under the installation's policy; see `Egress.fetch`."""
    return await default_egress().fetch(url, **options)
