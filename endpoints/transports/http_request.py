"""How a message becomes an HTTP request: everything that does not depend on the message is worked out once."""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from yarl import URL

from endpoints.addresses import normalise_host
from endpoints.egress import BlockedAddress
from endpoints.transports.base import Address, Outgoing
from endpoints.transports.bodies import body_maker
from endpoints.transports.http_exchange import head
from endpoints.transports.placeholders import Text, cannot_be_made
from endpoints.transports.signing import signature, signing_key

HOP_BY_HOP = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"),
        *("te", "trailer", "trailers", "transfer-encoding", "upgrade"),
    }
)
# Ours to set, or the endpoint's: a sender's own credentials are not for the receiver.
OWN = HOP_BY_HOP | {
    *("host", "content-length", "content-type", "expect", "authorization", "cookie", "user-agent", "accept-encoding"),
    *("traceparent", "webhook-id", "webhook-timestamp", "webhook-signature"),
    *("x-message-id", "x-correlation-id", "x-source-system", "x-message-type", "x-event-type", "x-priority"),
    "x-attempt",
}
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}")
UNSAFE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})")
BODILESS = frozenset({"GET", "HEAD"})
DOTS = re.compile(r"(?:^|/)(?:\.|%2e){1,2}(?=/|$)", re.IGNORECASE)


@dataclass(slots=True)
class Request:
    """One request, ready but for its credential; `target` is path and query.

    `body_record` is set when the body is not simply the payload, `recorded` when the
    headers may not be recorded as they are sent.
    """

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""
    body_record: str | None = None
    recorded: dict[str, str] | None = None


def traceparent(outgoing: Outgoing) -> str:
    """Return the W3C trace context: the sender's trace where it gave one, else one that follows from the message id."""
    span = hashlib.blake2b(f"{outgoing.delivery_id}#{outgoing.attempt}".encode(), digest_size=8).hexdigest()
    if outgoing.headers:
        given = next((value for name, value in outgoing.headers.items() if name.lower() == "traceparent"), "")
        if match := TRACEPARENT.fullmatch(given):
            return f"00-{match[1]}-{span}-{match[2]}"
    trace = hashlib.blake2b(outgoing.message_id.encode(), digest_size=16).hexdigest()
    return f"00-{trace}-{span}-01"


class RequestMaker:
    """Makes requests for one endpoint."""

    def __init__(self, address: Address) -> None:
        config = address.config
        self.method = str(config.get("method", "POST"))
        self._make_body = body_maker(config)
        self._plain_body = config.get("body", "payload") == "payload"
        self._keys = [signing_key(secret) for secret in address.signing]
        self._target = Target(address)
        headers = {name.lower(): Text(str(value)) for name, value in (config.get("headers") or {}).items()}
        self._fixed_headers = {name: text.fixed for name, text in headers.items() if text.fixed is not None}
        self._made_headers = {name: text for name, text in headers.items() if text.fixed is None}
        self._taken = OWN | headers.keys()
        self._sets_type = "content-type" in headers
        base = URL(self._target.origin)
        self._host = base.host_port_subcomponent or ""
        self._base = str(base.origin())
        self._fixed_target = self._target.fixed

    def make(self, outgoing: Outgoing, timestamp: str) -> Request:
        """Return the request for one message; raises TransportError of class transform when it cannot be made."""
        body, content_type = (b"", "") if self.method in BODILESS else self._make_body(outgoing)
        headers = self._own_headers(outgoing, timestamp)
        if content_type and not self._sets_type:
            headers["content-type"] = content_type
        if self._keys:
            headers["webhook-signature"] = signature(self._keys, outgoing.delivery_id, timestamp, body)
        for name, text in self._made_headers.items():
            headers[name] = text.fill(outgoing)
        if outgoing.headers:
            self._pass_on(outgoing.headers, headers)
        values = "".join(headers.values())
        if not values.isprintable() and UNSAFE.search(values):  # the first is five times as fast
            raise cannot_be_made(f"header {_unsafe(headers)} would hold a line break or a control character")
        headers.update(self._fixed_headers)
        record = None if self._plain_body else body[:16384].decode("utf-8", "replace")
        target = self._target.fill(outgoing) if self._fixed_target is None else self._fixed_target
        return Request(self.method, target, headers, body, record)

    def probe(self, method: str) -> Request:
        """Return the request that asks whether somebody is there."""
        return Request(method, self._fixed_target or "/", {})

    def plain(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> Request:
        """Return a request that carries no message; raises TransportError of class transform when it cannot be made.

        A `path` from `/` stands instead of the endpoint's, any other below it. The names of
        `headers` are in lower case; the endpoint's own come first, but for those made of a message.
        """
        target = self._target.plain(path, query)
        check_headers(headers)
        record = body[:16384].decode("utf-8", "replace") if body else None
        return Request(method, target, {**self._fixed_headers, **headers}, body, record)

    def head(self, request: Request) -> bytes:
        """Return the bytes of a request up to its body."""
        try:
            return head(request.method, request.target, self._host, request.headers, request.body)
        except UnicodeEncodeError as exc:
            raise cannot_be_made("a header would hold what is no character") from exc

    def record(self, request: Request) -> dict[str, Any]:
        """Return a request as it may be stored: no secret in it, the body only when it is not the payload."""
        kept: dict[str, Any] = {
            "method": request.method,
            "url": self._base + request.target,
            "headers": request.recorded or request.headers,
        }
        if request.body_record is not None:
            kept["body"] = request.body_record
        return kept

    def _own_headers(self, outgoing: Outgoing, timestamp: str) -> dict[str, str]:
        headers = {
            "webhook-id": outgoing.delivery_id,
            "webhook-timestamp": timestamp,
            "x-message-id": outgoing.message_id,
            "x-source-system": outgoing.source_system,
            "x-message-type": outgoing.message_type,
            "x-priority": outgoing.priority,
            "x-attempt": str(outgoing.attempt),
            "traceparent": traceparent(outgoing),
        }
        if outgoing.event_type:
            headers["x-event-type"] = outgoing.event_type
        if outgoing.correlation_id:
            headers["x-correlation-id"] = outgoing.correlation_id
        return headers

    def _pass_on(self, given: Mapping[str, str], headers: dict[str, str]) -> None:
        """Add the message's own headers, but those that are ours, the endpoint's or of one hop only."""
        for name, value in given.items():
            lowered = name.lower()
            if lowered in self._taken:
                continue
            if not TOKEN.fullmatch(name):
                raise cannot_be_made(f"header name {name[:50]!r} is not allowed in HTTP")
            headers[lowered] = value


def _unsafe(headers: Mapping[str, str]) -> str:
    return next(name for name, value in headers.items() if UNSAFE.search(value))


class Target:
    """Path and query of an endpoint's requests: values are encoded whole, fixed parts only where they must be."""

    def __init__(self, address: Address) -> None:
        self.origin = origin(address)
        path, _, query = address.path.partition("?")
        self._path = Text("/" + path.removeprefix("/"), escape=_encoded, escape_fixed=_keep("/%:@!$&'()*+,;=~"))
        self._queries = [Text(query, escape=_encoded, escape_fixed=_keep("/%:@!$'()*+,;=~?&"))] if query else []
        self._queries += [
            Text(f"{_encoded('', name)}={value}", escape=_encoded, escape_fixed=_keep("=%"))
            for name, value in (address.config.get("query") or {}).items()
        ]
        texts = [self._path, *self._queries]
        self.fixed = self._joined([text.fixed for text in texts if text.fixed is not None], len(texts))

    def fill(self, outgoing: Outgoing) -> str:
        """Return the target for one message; no value may turn the path into another one."""
        path = self._path.fill(outgoing)
        if DOTS.search(path):
            raise cannot_be_made("a value would turn the path into another one ('.' or '..')")
        return self._joined([path, *(text.fill(outgoing) for text in self._queries)]) or ""

    def plain(self, path: str, query: Mapping[str, str]) -> str:
        """Return the target of what carries no message; see `RequestMaker.plain`."""
        if not path.startswith("/"):
            if self.fixed is None:
                raise cannot_be_made("the endpoint's path is made of a message; give one from '/'")
            path = f"{self.fixed.rstrip('/')}/{path}" if path else self.fixed
        more = "&".join(f"{_encoded('', name)}={_encoded('', value)}" for name, value in query.items())
        return _keep("/%:@!$'()*+,;=~?&")(path) + (("&" if "?" in path else "?") + more if more else "")

    def _joined(self, parts: list[str], needed: int = 0) -> str | None:
        if len(parts) < needed:
            return None
        return parts[0] + ("?" + "&".join(parts[1:]) if len(parts) > 1 else "")


def check_headers(headers: Mapping[str, str]) -> None:
    """Raise TransportError of class transform for headers that cannot be set; their names are in lower case."""
    for name, value in headers.items():
        if not TOKEN.fullmatch(name) or name in HOP_BY_HOP or name in ("host", "content-length"):
            raise cannot_be_made(f"header {name[:50]!r} cannot be set")
        if UNSAFE.search(value):
            raise cannot_be_made(f"header {name} would hold a line break or a control character")


def _encoded(_field: str, value: str) -> str:
    return quote(value, safe="")


def _keep(safe: str) -> Callable[[str], str]:
    return lambda text: quote(text, safe=safe)


def origin(address: Address) -> str:
    """Return scheme, host and port of an endpoint, the host in its canonical spelling; raises BlockedAddress."""
    try:
        host = normalise_host(address.host)
    except ValueError as exc:
        raise BlockedAddress(f"host {address.host[:100]!r} is refused: {exc}") from exc
    port = f":{address.port}" if address.port is not None else ""
    return f"{address.protocol}://{f'[{host}]' if ':' in host else host}{port}"
