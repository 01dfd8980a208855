"""Who signs: signing keys become principals that may send as their system, remembered for less than a second."""

import time
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

import structlog
from django.db import DatabaseError
from django.db.models import Q
from django.utils import timezone

from endpoints.access import secrets
from endpoints.access.authenticate import CACHE_S, NOTE_S
from endpoints.access.memory import Memory
from endpoints.access.principal import Principal
from endpoints.edge.database_threads import DatabaseThreads
from endpoints.errors import ControlPlaneError, Overloaded
from endpoints.models import Role, SigningKey, System

MAX_REMEMBERED = 10_000
NOBODY = "nobody's"

log = structlog.get_logger(__name__)
_known = Memory(MAX_REMEMBERED)
_noted = Memory(MAX_REMEMBERED)
_threads = DatabaseThreads("signing-keys")
_notes = DatabaseThreads("signing-key-used")


@dataclass(frozen=True, slots=True)
class Signer:
    """A living key: its secret as bytes, and who speaks with it."""

    id: str
    secret: bytes
    principal: Principal


def speaker(system: System, label: str, via: str) -> Principal:
    """Return the principal that speaks only as `system`, and may send."""
    return Principal(
        label=label,
        role=Role.OPERATOR.value,
        via=via,
        team_ids=frozenset() if system.owner_id is None else frozenset((system.owner_id,)),
        system_id=system.pk,
        system_slug=system.slug,
    )


def forget_all() -> None:
    """Forget every remembered key, so that the next use of each is looked up."""
    for memory in (_known, _noted):
        memory.clear()


async def find_signers(ids: Collection[str]) -> dict[str, Signer]:
    """Return the living keys among `ids`; one query for all that are not remembered.

    Raises Overloaded when the database does not answer.
    """
    found, missing = {}, []
    for key_id in set(ids):
        known = _known.get(key_id)
        if known is None:
            missing.append(key_id)
        elif known is not NOBODY:
            found[key_id] = known
    if missing:
        try:
            found |= await _threads.run(_look_up, missing)
        except DatabaseError as exc:
            raise Overloaded("the database does not answer", code="database", retry_after_s=1) from exc
    return found


def signers_of(system: System) -> list[Signer]:
    """Return the living keys of a system; queries the database."""
    return [_signer(key) for key in SigningKey.objects.filter(system=system, revoked_at__isnull=True)]


def note_use(signer: Signer) -> None:
    """Have `last_used_at` written, beside the work, unless it was within the last minute."""
    if _noted.get(signer.id) is None:
        _noted.put(signer.id, True, time.monotonic() + NOTE_S)
        _notes.submit(_write_use, signer.id)


def _look_up(ids: list[str]) -> dict[str, Signer]:
    read_at = time.monotonic()  # before the query: a revocation after it must not wait longer
    named = {key_id: parsed for key_id in ids if (parsed := _parsed(key_id)) is not None}
    rows = SigningKey.objects.filter(pk__in=set(named.values()), revoked_at__isnull=True).select_related("system")
    keys = {key.pk: key for key in rows}
    found = {}
    for key_id in ids:
        key = keys.get(named.get(key_id))
        try:
            if key is not None:
                found[key_id] = _signer(key)
        except ControlPlaneError as exc:  # nobody's then, and no reason to refuse what others sign
            log.error("signing_key_unusable", key=key_id, error=exc.detail)
        _known.put(key_id, found.get(key_id, NOBODY), read_at + CACHE_S)
    return found


def _parsed(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def _signer(key: SigningKey) -> Signer:
    secret = str(secrets.decrypt(key.secret)["secret"]).encode()
    return Signer(str(key.pk), secret, speaker(key.system, f"signing key:{key.system.slug}", "signature"))


def _write_use(key_id: str) -> None:
    """Write that a key was used; of several processes at once, one does."""
    now = timezone.now()
    stale = Q(last_used_at__isnull=True) | Q(last_used_at__lt=now - timedelta(seconds=NOTE_S))
    try:
        SigningKey.objects.filter(stale, pk=key_id).update(last_used_at=now)
    except DatabaseError as exc:  # the next use after this minute is noted
        log.warning("signing_key_use_not_noted", error=str(exc))
