"""What a request for the intake says before its body: where to, whose it is, how long its sender waits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from endpoints.access import roles
from endpoints.access.authenticate import aauthenticate, credentials_of, remembered
from endpoints.access.principal import Principal
from endpoints.edge import wire
from endpoints.edge.numerals import decimal
from endpoints.errors import Malformed, Unauthenticated
from messaging.intake.bodies import Body
from messaging.intake.commit import Accepted
from messaging.intake.fields import CHECKS

MAX_WAIT_S = 60.0
CREDENTIALS = ("authorization", "x-api-key")

Scope = Mapping[str, Any]
Headers = Mapping[bytes, bytes]


@dataclass(slots=True)
class Request:
    """What is known of a request before its body is read, and what was stored of it."""

    path: str
    headers: Headers
    body: Body
    token: str
    principal: Principal
    wait_s: float
    stored: tuple[Accepted, int] | None = None  # of a single message, with the id of its source

    async def read(self, limit: int) -> bytes:
        """Return the body, which may have taken long to come."""
        data = await self.body.read(self.headers, limit)
        await self.renew()
        return data

    async def renew(self) -> None:
        """Look anew who is calling, as a key may be revoked meanwhile; raises Unauthenticated or Forbidden."""
        self.principal = await sender_of(self.token)

    @property
    def idempotency_key(self) -> str | None:
        """Return the header's key, checked; raises Malformed, for an empty one, too: it would tell nothing apart."""
        given = self.headers.get(b"idempotency-key")
        if given is None:
            return None
        try:
            key: str = CHECKS["idempotency_key"](wire.text_of(given))
        except ValueError as exc:
            raise Malformed(f"Idempotency-Key: {exc}", code="invalid") from exc
        if not key:
            raise Malformed("Idempotency-Key: must not be empty", code="invalid")
        return key


async def sender_of(token: str) -> Principal:
    """Return who sends with this key or token; raises Unauthenticated, or Forbidden for one who may not."""
    principal = remembered(token) or await aauthenticate(token)
    roles.require(principal, "messages", "create")
    return principal


def token_of(headers: Headers) -> str:
    """Return the caller's key or token; raises Unauthenticated."""
    given = headers.get(b"authorization", b"")
    if given.startswith(b"Bearer cp_") and b"x-api-key" not in headers:  # nearly always
        return given[7:].decode("latin-1").strip()
    named = {name: value.decode("latin-1") for name in CREDENTIALS if (value := headers.get(name.encode())) is not None}
    token = credentials_of(named)
    if token is None:
        raise Unauthenticated("send a key: `Authorization: Bearer <key>` or `X-API-Key`")
    return token


def wait_of(query: bytes) -> float:
    """Return the seconds of `?wait=`, 0 without; raises Malformed for anything else in the query."""
    wait_s = 0.0
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name != "wait":
            raise Malformed(f"'{name[:50]}' is not a parameter of this path; known is wait", code="unknown_parameter")
        try:
            wait_s = decimal(value)
        except ValueError:
            wait_s = -1.0
        if not 0 <= wait_s <= MAX_WAIT_S:
            raise Malformed(f"wait: must be seconds between 0 and {MAX_WAIT_S:g}", code="invalid")
    return wait_s
