"""JSON Web Tokens: who they say is calling, once their signature is known to be good (RFC 7519, RFC 8725).

Only the configured algorithms count, and only with the kind of key they are made
for; a header's `jku`, `x5u`, `jwk` and `x5c` are refused, since they let the sender
choose the key that its own token is checked with.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import jwt
import orjson
import structlog
from django.conf import settings

from endpoints import egress
from endpoints.errors import Overloaded, Unauthenticated
from endpoints.transports.base import ErrorClass, TransportError

log = structlog.get_logger(__name__)

FORBIDDEN_HEADERS = frozenset({"jku", "x5u", "jwk", "x5c", "crit"})
REQUIRED_CLAIMS = ["sub", "exp"]
LEEWAY_S = 30
LATEST = 253_402_300_800  # the year 10,000
JWKS_TTL_S = 300
JWKS_RETRY_S = 30  # an unknown `kid` may fetch the key set again this often, not more
JWKS_DOWN_S = 5  # and this often while there are none at all
JWKS_TIMEOUT_S = 5.0
JWKS_MAX_BYTES = 256 * 1024


def claims_of(token: str) -> dict[str, Any]:
    """Return the claims of a valid token; raises Unauthenticated saying what is wrong with it."""
    env = settings.ENV
    if not (env.jwt_key or env.jwt_jwks_url):
        raise Unauthenticated("this is not an API key, and tokens are not configured here")
    header = _header_of(token)
    key = env.jwt_key or JWKS.key(header, env.jwt_jwks_url)
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=list(env.jwt_algorithms),
            audience=env.jwt_audience or None,
            issuer=env.jwt_issuer or None,
            leeway=LEEWAY_S,
            options={"require": REQUIRED_CLAIMS, "verify_aud": bool(env.jwt_audience)},
        )
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as exc:
        raise Unauthenticated(f"the token is not valid: {exc}") from exc
    # The library also takes what can be made a number of.
    if isinstance(claims["exp"], bool | str) or not claims["exp"] < LATEST:
        raise Unauthenticated("the token is not valid: exp must be a number, of seconds since 1970")
    return claims


def ends_at(token: str) -> float:
    """Return until when a token counts that was found to be valid, in Unix seconds."""
    claims = jwt.decode(token, options={"verify_signature": False})
    return float(claims["exp"]) + LEEWAY_S


def _header_of(token: str) -> dict[str, Any]:
    """Return the unverified header, once nothing in it tries to steer the verification."""
    try:
        header: dict[str, Any] = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError) as exc:
        raise Unauthenticated("this is neither an API key nor a token") from exc
    if header.get("alg") not in settings.ENV.jwt_algorithms:
        raise Unauthenticated("the token's algorithm is not one of those allowed here")
    steering = FORBIDDEN_HEADERS & header.keys()
    if steering:
        raise Unauthenticated(f"the token's header may not hold {', '.join(sorted(steering))}")
    return header


class KeySet:
    """The issuer's published keys, fetched through egress and kept for a while.

    One caller fetches, outside the lock; the others go on with the keys there are,
    so that a slow issuer, or a flood of made-up `kid`s, holds up nobody else.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: dict[str, Any] = {}
        self._url = ""
        self._next_fetch = float("-inf")
        self._next_fetch_for_unknown = float("-inf")

    def key(self, header: dict[str, Any], url: str) -> Any:
        """Return the key named by the header's `kid`.

        Raises Unauthenticated when the issuer has no such key, Overloaded when it
        cannot be asked.
        """
        kid = header.get("kid")
        if not isinstance(kid, str):
            raise Unauthenticated("the token's header names no key (`kid`)")
        if self._is_fetch_due(kid, url):
            self._refresh(url)
        if kid in self._keys:
            return self._keys[kid]
        if not self._keys:
            raise Overloaded("the token issuer's keys cannot be read now", code="issuer_down", retry_after_s=5)
        raise Unauthenticated("the token is signed with a key that its issuer does not publish")

    def _is_fetch_due(self, kid: str, url: str) -> bool:
        """Say whether the caller is to fetch; it is then nobody else's turn for a while."""
        now = self._clock()
        with self._lock:
            if url != self._url:
                self._url, self._keys = url, {}
            elif now < (self._next_fetch if kid in self._keys else self._next_fetch_for_unknown):
                return False
            self._next_fetch = now + JWKS_TTL_S
            self._next_fetch_for_unknown = now + (JWKS_RETRY_S if self._keys else JWKS_DOWN_S)
            return True

    def _refresh(self, url: str) -> None:
        """Fetch the key set; a failure keeps the keys there are."""
        try:
            # A synchronous look-up, in a thread: this is its one crossing into a loop.
            fetched = _usable(orjson.loads(asyncio.run(_fetch(url))))
        except (TransportError, ValueError) as exc:
            log.warning("issuer_keys_not_read", url=url, error=str(exc))
            return
        with self._lock:
            self._keys = fetched
            self._next_fetch_for_unknown = self._clock() + JWKS_RETRY_S


JWKS = KeySet()


def _usable(document: Any) -> dict[str, Any]:
    """Return {kid: key} of the asymmetric signing keys in a JWKS document (RFC 7517)."""
    entries = document.get("keys") if isinstance(document, dict) else None
    keys: dict[str, Any] = {}
    for entry in entries if isinstance(entries, list) else []:
        # A symmetric key in a public document would let every reader sign.
        if not isinstance(entry, dict) or entry.get("kty") == "oct" or entry.get("use", "sig") != "sig":
            continue
        try:
            found = jwt.PyJWK(entry)
        except jwt.PyJWTError:
            continue  # a kind of key we do not know; others of the set still count
        # One that declares its algorithm is bound to it; another fits those of its type.
        keys[str(entry.get("kid"))] = found if "alg" in entry else found.key
    return keys


async def _fetch(url: str) -> bytes:
    """Return the key set's text; raises TransportError when the issuer does not answer 200."""
    found = await egress.fetch(url, max_bytes=JWKS_MAX_BYTES, timeout_s=JWKS_TIMEOUT_S)
    if found.status != 200:
        raise TransportError(f"the key set answered {found.status}", error_class=ErrorClass.PROTOCOL)
    return found.body
