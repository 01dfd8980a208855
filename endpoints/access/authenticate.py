"""Who is calling: a key or token becomes a Principal, remembered for less than a second.

The memory is what lets a door take thousands of requests a second without a query
for each; its short life is what makes a revoked key stop in every process within
one second. Refusals are remembered too, apart and as shortly.
"""

import asyncio
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser, Group, User
from django.db import DatabaseError
from django.db.models import Q
from django.utils import timezone

from endpoints.access import keys, tokens
from endpoints.access.memory import Memory
from endpoints.access.principal import ROLES, Principal
from endpoints.edge.database_threads import DatabaseThreads
from endpoints.errors import Overloaded, Unauthenticated
from endpoints.models import ApiKey, Membership, Role, System

CACHE_S = 0.75  # leaves a quarter of the promised second to the request itself
MAX_REMEMBERED = 10_000
MAX_REFUSALS = 1_000
MAX_TOKEN_CHARS = 8192
NOTE_S = 60  # `last_used_at` is written this often per key, not with each request

log = structlog.get_logger(__name__)


_known = Memory(MAX_REMEMBERED)
_refused = Memory(MAX_REFUSALS)
_in_flight: dict[tuple[int, str], asyncio.Future[Principal]] = {}
# Two threads of its own: a slow look-up must not stand behind other work, and a
# burst of misses must not take more than two database connections.
_threads = DatabaseThreads("authenticate", 2)
# A third one writes `last_used_at`: it may wait for a lock, callers must not.
_notes = DatabaseThreads("key-used")
_noted = Memory(MAX_REMEMBERED)


def credentials_of(headers: Mapping[str, str]) -> str | None:
    """Return the key or token in `Authorization: Bearer` or `X-API-Key`, None when there is none.

    `headers` has lower-case names. Raises Unauthenticated when both are given and
    differ, or when the scheme is not Bearer.
    """
    bearer = None
    authorization = headers.get("authorization")
    if authorization:
        scheme, _, bearer = authorization.partition(" ")
        bearer = bearer.strip()
        if scheme.lower() != "bearer" or not bearer:
            raise Unauthenticated("use `Authorization: Bearer <API key or token>`")
    api_key = headers.get("x-api-key")
    if api_key and bearer and api_key != bearer:
        raise Unauthenticated("Authorization and X-API-Key name different callers; send one of them")
    return bearer or api_key or None


def authenticate(token: str) -> Principal:
    """Return who holds `token`; raises Unauthenticated. May query the database: not for the event loop."""
    known = remembered(token)
    return known if known is not None else _look_up(token)


async def aauthenticate(token: str) -> Principal:
    """Return who holds `token` without blocking the loop; requests that miss at once share one look-up."""
    known = remembered(token)
    if known is not None:
        return known
    loop = asyncio.get_running_loop()
    slot = (id(loop), token)
    future = _in_flight.get(slot)
    if future is None:
        future = _threads.run(_look_up_or_refuse, token)
        _in_flight[slot] = future
        future.add_done_callback(lambda done: _landed(slot, done))
    # Shielded: one caller that hangs up must not fail the others that wait with it.
    return await asyncio.shield(future)


def principal_of_user(user: AbstractBaseUser | AnonymousUser, via: str = "admin") -> Principal:
    """Return what a signed-in person may do: a superuser everything, others what their membership says.

    A person without a membership is a viewer; their teams are their groups.
    """
    if not isinstance(user, User) or not user.is_active:
        raise Unauthenticated("sign in first")
    if user.is_superuser:
        return Principal(label=f"user:{user.username}", role="admin", via=via, user_id=user.pk)
    membership = Membership.objects.filter(user=user).first()
    return Principal(
        label=f"user:{user.username}",
        role=membership.role if membership else Role.VIEWER.value,
        via=via,
        team_ids=frozenset(user.groups.values_list("pk", flat=True)),
        user_id=user.pk,
    )


def forget_all() -> None:
    """Forget every remembered caller, so that the next request of each is looked up."""
    for memory in (_known, _refused, _noted):
        memory.clear()


def _landed(slot: tuple[int, str], done: asyncio.Future[Principal]) -> None:
    _in_flight.pop(slot, None)
    if not done.cancelled():
        done.exception()  # every waiter may have gone; then nobody else would fetch it


def remembered(token: str) -> Principal | None:
    """Return who holds `token` if that is known already; raises Unauthenticated if it is known to be nobody's."""
    known: Principal | None = _known.get(token)
    if known is not None:
        return known
    refusal: str | None = _refused.get(token)
    if refusal is not None:
        raise Unauthenticated(refusal)
    return None


def _look_up(token: str) -> Principal:
    """Return who holds `token` as the database says now, and remember the answer."""
    read_at = time.monotonic()  # before the query: a revocation after it must not wait longer
    if len(token) > MAX_TOKEN_CHARS:
        raise Unauthenticated("the key or token is too long")
    try:
        principal, lives_s = _of_key(token) if token.startswith(keys.PREFIX) else _of_jwt(token)
    except Unauthenticated as exc:
        _refused.put(token, exc.detail, read_at + CACHE_S)
        raise
    _known.put(token, principal, read_at + min(CACHE_S, lives_s))
    return principal


def _look_up_or_refuse(token: str) -> Principal:
    try:
        return _look_up(token)
    except DatabaseError as exc:
        log.warning("authentication_failed_on_database", error=str(exc))
        raise Overloaded("the database does not answer", code="database_down", retry_after_s=1) from exc


def _of_key(token: str) -> tuple[Principal, float]:
    """Return the principal behind an API key and how many seconds it still lives."""
    key_id = keys.id_of(token)
    key = ApiKey.objects.select_related("system").filter(pk=key_id).first() if key_id else None
    if key is not None and not keys.matches(token, key.secret_hash):
        key = None
    found = principal_of_key(key)
    if key is not None:
        _note_use(key, timezone.now())
    return found


def principal_of_key(key: ApiKey | None) -> tuple[Principal, float]:
    """Return what a key may do and how many seconds it still lives; raises Unauthenticated for one that is no more."""
    now = timezone.now()
    if key is None:
        raise Unauthenticated("the API key is not known")
    if key.revoked_at is not None:
        raise Unauthenticated("the API key was revoked")
    if key.expires_at is not None and key.expires_at <= now:
        raise Unauthenticated("the API key has expired")
    principal = Principal(
        label=f"key:{key.name}",
        role=key.role,
        team_ids=_teams(key.team_id, key.system),
        system_id=key.system_id,
        system_slug=key.system.slug if key.system else "",
        key_id=str(key.pk),
    )
    return principal, (key.expires_at - now).total_seconds() if key.expires_at else CACHE_S


def _of_jwt(token: str) -> tuple[Principal, float]:
    """Return the principal that a token's claims describe and how many seconds it still lives."""
    claims = tokens.claims_of(token)
    team_names, slug = _texts(claims, "team"), _text(claims, "system")
    system = System.objects.filter(slug=slug).first() if slug else None
    if slug and system is None:
        raise Unauthenticated(f"the token speaks for system '{slug[:63]}', which is not known")
    team_ids = _teams(None, system)
    if team_names:
        team_ids = frozenset(Group.objects.filter(name__in=team_names).values_list("pk", flat=True))
        if len(team_ids) < len(team_names):
            raise Unauthenticated("the token names a team that is not known")
    principal = Principal(
        label=f"token:{_text(claims, 'sub')}"[:200],
        role=_highest(_texts(claims, "roles")),
        team_ids=team_ids,
        system_id=system.pk if system else None,
        system_slug=slug,
        recipient=_text(claims, "recipient"),
    )
    return principal, claims["exp"] + tokens.LEEWAY_S - timezone.now().timestamp()


def _teams(team_id: int | None, system: System | None) -> frozenset[int] | None:
    """Return the teams a caller sees: its own, else that of the one system it speaks as, else all."""
    if team_id is not None:
        return frozenset((team_id,))
    if system is not None:
        return frozenset() if system.owner_id is None else frozenset((system.owner_id,))
    return None


def _text(claims: Mapping[str, Any], name: str) -> str:
    """Return a text claim, "" when absent; raises Unauthenticated for another type or control characters."""
    value = claims.get(name) or ""
    if not isinstance(value, str) or not value.isprintable() or len(value) > 200:
        raise Unauthenticated(f"the token's claim `{name}` is not a short text")
    return value


def _texts(claims: Mapping[str, Any], name: str) -> set[str]:
    """Return a claim that may be one text or a list of them."""
    value = claims.get(name)
    listed = value if isinstance(value, list) else [value] if value else []
    return {_text({name: item}, name) for item in listed}


def _highest(names: set[str]) -> str:
    """Return the strongest role named; roles of other products are passed over."""
    for role in reversed(ROLES):
        if role in names:
            return role
    raise Unauthenticated(f"the token's `roles` hold none of {', '.join(ROLES)}")


def _note_use(key: ApiKey, now: datetime) -> None:
    """Have `last_used_at` written, beside the request, unless it was within the last minute."""
    is_fresh = key.last_used_at is not None and now - key.last_used_at < timedelta(seconds=NOTE_S)
    if not is_fresh and _noted.get(str(key.pk)) is None:
        _noted.put(str(key.pk), True, time.monotonic() + NOTE_S)
        _notes.submit(_write_use, key.pk)


def _write_use(key_id: Any) -> None:
    """Write that a key was used; of several processes at once, one does."""
    now = timezone.now()
    stale = Q(last_used_at__isnull=True) | Q(last_used_at__lt=now - timedelta(seconds=NOTE_S))
    try:
        ApiKey.objects.filter(stale, pk=key_id).update(last_used_at=now)
    except DatabaseError as exc:  # the next use after this minute is noted
        log.warning("key_use_not_noted", error=str(exc))
