"""Who is at the other end: a token from the header or the first frame, and the system it speaks for."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from django.conf import settings
from django.db import Error as DatabaseError
from django.http.request import validate_host

from endpoints.access import roles, tokens
from endpoints.access.authenticate import aauthenticate, credentials_of
from endpoints.access.principal import Principal
from endpoints.edge.database_threads import DatabaseThreads
from endpoints.errors import ControlPlaneError, Forbidden, Malformed, Overloaded, Unauthenticated
from endpoints.models import System, SystemState
from messaging.gateway.closing import Closed, Code

CREDENTIALS = (b"authorization", b"x-api-key")
SECRET_PARAMETERS = frozenset({"token", "access_token", "key", "api_key", "authorization"})
_threads = DatabaseThreads("gateway-callers")


@dataclass(frozen=True, slots=True)
class Party:
    """The system a connection speaks for."""

    id: int
    slug: str
    max_message_bytes: int


@dataclass(slots=True)
class Caller:
    """Who connected: the token is kept to be asked about again, `party` is None for a key that named no system."""

    token: str
    principal: Principal
    party: Party | None
    ends_at: float = math.inf  # of a token, in Unix seconds; when a key ends is stored with it

    @property
    def slug(self) -> str | None:
        return self.party.slug if self.party else None


def check_origin(headers: Mapping[bytes, bytes]) -> None:
    """Raise Closed for a page of somebody else's: a browser says where its page came from, and nobody else does."""
    origin = headers.get(b"origin", b"").decode("latin-1")
    if not origin:
        return
    try:
        host = urlsplit(origin).hostname or ""
    except ValueError:  # of brackets that do not close
        host = ""
    if not host or not validate_host(host, settings.ALLOWED_HOSTS or ["localhost", "127.0.0.1", "[::1]"]):
        raise Closed(Code.FORBIDDEN, "pages of this origin may not connect")


def token_in_head(headers: Mapping[bytes, bytes], query: bytes) -> str | None:
    """Return the token of the request's head, None when there is none; raises Closed for one in the URL."""
    if any(name.lower() in SECRET_PARAMETERS for name, _ in parse_qsl(query.decode("latin-1"))):
        raise Closed(Code.UNAUTHENTICATED, "never put a key into a URL, and revoke this one: URLs are logged")
    named = {name.decode(): headers[name].decode("latin-1") for name in CREDENTIALS if name in headers}
    try:
        return credentials_of(named)
    except Unauthenticated as exc:
        raise Closed(Code.UNAUTHENTICATED, exc.detail) from exc


def token_in_frame(frame: Mapping[str, Any]) -> str:
    """Return the token of an `auth` frame; raises Closed when it is not one."""
    token = frame.get("token")
    if frame.get("type") != "auth" or not isinstance(token, str):
        raise Closed(Code.UNAUTHENTICATED, 'the first frame must be {"type":"auth","token":...}')
    return token


async def admit(token: str, named: Any = None) -> Caller:
    """Return the caller of a token that may connect, as `named` system if given; raises Closed."""
    try:
        return await identify(token, named)
    except Unauthenticated as exc:
        raise Closed(Code.UNAUTHENTICATED, exc.detail) from exc
    except (Forbidden, Malformed) as exc:
        raise Closed(Code.FORBIDDEN, exc.detail) from exc
    except ControlPlaneError as exc:
        raise Closed(Code.FULL, exc.detail) from exc


async def identify(token: str, named: Any = None) -> Caller:
    """Return the caller of a token; raises Unauthenticated, Forbidden, Malformed, and Overloaded: ask again."""
    try:
        return await _identify(token, named)
    except DatabaseError as exc:
        raise Overloaded("the database does not answer", code="database_down", retry_after_s=1) from exc


async def _identify(token: str, named: Any) -> Caller:
    principal = await aauthenticate(token)
    roles.require(principal, "gateway", "connect")
    if named is not None and not isinstance(named, str):
        raise Malformed("system: must be the slug of a system")
    party = await _threads.run(_find, principal, named) if principal.system_id or named else None
    if principal.system_id and party is not None and party.slug != principal.system_slug:
        principal = replace(principal, system_slug=party.slug)  # who remembers callers may not know it was renamed
    return Caller(token, principal, party, math.inf if principal.key_id else tokens.ends_at(token))


def _find(principal: Principal, named: str | None) -> Party:
    """Return the system that a caller is bound to, else the one it names."""
    wanted = {"pk": principal.system_id} if principal.system_id else {"slug": named}
    found = System.objects.filter(**wanted).first()
    if found is None or not (principal.system_id == found.pk or principal.sees_team(found.owner_id)):
        raise Forbidden(f"system '{(named or principal.system_slug)[:63]}' is not registered")
    if principal.system_id and named not in (None, found.slug):
        raise Forbidden(f"this key speaks only as {found.slug}")
    if found.state == SystemState.RETIRED and not found.may_be_sent_to:
        raise Forbidden(f"{found.slug} is retired")
    return Party(found.pk, found.slug, found.max_message_bytes)
