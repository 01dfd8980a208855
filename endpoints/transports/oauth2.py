"""OAuth2 client credentials (RFC 6749, section 4.4): one token shared by all processes, renewed by one of them."""

import asyncio
import base64
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, urlencode

import jiter
from django.db import close_old_connections
from django.utils import timezone

from endpoints.access import shared_token
from endpoints.access.shared_token import StoredToken
from endpoints.egress import Fetched, default_egress
from endpoints.transports.base import ErrorClass, TransportError
from endpoints.transports.credentials import Authorization

EARLY_S = 30.0  # renewed this long before it ends (a short one: a fifth of its life), so that none ends on its way
MAX_LIFETIME_S = 86400.0
LIFETIME_S = 300.0  # of a token whose server does not say
POLL_S = 0.1
MAX_WAIT_S = 25.0
T = TypeVar("T")


class TokenStore(Protocol):
    """Where the shared token lives."""

    async def read(self, credential_id: str) -> StoredToken: ...
    async def claim(self, credential_id: str, version: int) -> bool: ...
    async def save(self, credential_id: str, version: int, token: str, lifetime_s: float) -> bool: ...
    async def release(self, credential_id: str, version: int) -> None: ...


class DatabaseTokenStore:
    """The token table, each call in a thread whose connection is given back at its end."""

    async def read(self, credential_id: str) -> StoredToken:
        return await _in_thread(lambda: shared_token.read(credential_id))

    async def claim(self, credential_id: str, version: int) -> bool:
        return await _in_thread(lambda: shared_token.claim(credential_id, version))

    async def save(self, credential_id: str, version: int, token: str, lifetime_s: float) -> bool:
        return await _in_thread(lambda: shared_token.save(credential_id, version, token, lifetime_s))

    async def release(self, credential_id: str, version: int) -> None:
        await _in_thread(lambda: shared_token.release(credential_id, version))


async def _in_thread(work: Callable[[], T]) -> T:
    def call() -> T:
        try:
            return work()
        finally:
            close_old_connections()

    return await asyncio.to_thread(call)


class OAuth2Client(Authorization):
    """Sends `Authorization: Bearer <the shared token>`."""

    per_request = True
    store: TokenStore = DatabaseTokenStore()

    def prepare(self) -> None:
        self._current = StoredToken()
        self._lock = asyncio.Lock()
        self.hidden = (str(self.data["client_secret"]),)
        self._client, self._url = str(self.data["client_id"]), str(self.data["token_url"])

    async def headers(self, body: bytes) -> dict[str, str]:
        if not _usable(self._current, timezone.now()):
            async with self._lock:
                if not _usable(self._current, timezone.now()):
                    self._remember(await self._shared(rejected=None))
        return {"authorization": f"Bearer {self._current.token}"}

    def recorded(self, headers: Mapping[str, str]) -> dict[str, str]:
        return {"authorization": f"Bearer {self.mask}"}

    async def renew(self) -> bool:
        """Replace the token that was refused, unless somebody already did."""
        rejected = self._current.token
        async with self._lock:
            if self._current.token == rejected:
                self._remember(await self._shared(rejected=rejected))
        return True

    def _remember(self, token: StoredToken) -> None:
        self._current = token
        self.hidden = (str(self.data["client_secret"]), token.token)

    async def _shared(self, rejected: str | None) -> StoredToken:
        """Return a usable token other than `rejected`: the stored one, or a new one if it falls to us to renew."""
        assert self.secret is not None
        async with asyncio.timeout(MAX_WAIT_S):
            while True:
                stored = await self.store.read(self.secret.id)
                if stored.token != rejected and _usable(stored, timezone.now()):
                    return stored
                if await self.store.claim(self.secret.id, stored.version):
                    return await self._renewed(stored.version)
                await asyncio.sleep(POLL_S)

    async def _renewed(self, version: int) -> StoredToken:
        assert self.secret is not None
        saved = False
        try:
            token, lifetime_s = await self._request()
            saved = await self.store.save(self.secret.id, version, token, lifetime_s)
        finally:
            if not saved:
                await asyncio.shield(self.store.release(self.secret.id, version))
        return StoredToken(version + 1, token, timezone.now() + timedelta(seconds=lifetime_s))

    async def _request(self) -> tuple[str, float]:
        """Ask the token endpoint; raises TransportError of class auth when it refuses."""
        form = {"grant_type": "client_credentials", **(self.data.get("extra") or {})}
        form |= {name: self.data[name] for name in ("scope", "audience") if self.data.get(name)}
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        client, secret = self._client, str(self.data["client_secret"])
        if self.data.get("auth", "basic") == "basic":  # RFC 6749, 2.3.1: form-encoded, then basic
            pair = f"{quote(client, safe='')}:{quote(secret, safe='')}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        else:
            form |= {"client_id": client, "client_secret": secret}
        answer = await default_egress().fetch(self._url, method="POST", headers=headers, data=urlencode(form).encode())
        return _token_of(answer)


def _usable(token: StoredToken, now: datetime) -> bool:
    return bool(token.token) and token.expires_at is not None and token.expires_at > now


def _token_of(answer: Fetched) -> tuple[str, float]:
    """Return the token and its lifetime; the answer itself is never quoted, it may hold secrets."""
    body: Any = None
    if answer.status == 200:
        try:
            body = jiter.from_json(answer.body)
        except ValueError:
            body = None
    token = body.get("access_token") if isinstance(body, dict) else None
    if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
        raise TransportError(f"the token endpoint gave no token (status {answer.status})", error_class=ErrorClass.AUTH)
    lifetime = body.get("expires_in")
    lifetime_s = float(lifetime) if isinstance(lifetime, int | float) and lifetime > 0 else LIFETIME_S
    return token, min(lifetime_s, MAX_LIFETIME_S) - min(EARLY_S, lifetime_s / 5)
