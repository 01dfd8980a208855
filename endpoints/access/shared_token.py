"""One access token per credential for all processes: a row that whoever claims it renews.

Compare-and-set throughout: a renewal is saved only over the version it was begun
from, so a process that stalled in the middle overwrites nothing newer.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import F, Q
from django.utils import timezone

from endpoints.access import secrets
from endpoints.models import CredentialToken

RENEWAL_S = 20.0  # a renewal that takes longer is given up by the others, who then try themselves


@dataclass(frozen=True, slots=True)
class StoredToken:
    """The shared token as it stands; `token` is empty before the first renewal."""

    version: int = 0
    token: str = ""
    expires_at: datetime | None = None


def read(credential_id: str) -> StoredToken:
    """Return the token all processes share."""
    row = CredentialToken.objects.filter(credential_id=credential_id).first()
    if row is None or not row.data:
        return StoredToken(version=row.version if row else 0)
    return StoredToken(row.version, str(secrets.decrypt(row.data)["token"]), row.expires_at)


def claim(credential_id: str, version: int) -> bool:
    """Say whether the caller is the one to renew version `version`; at most one at a time is."""
    now = timezone.now()
    CredentialToken.objects.get_or_create(credential_id=credential_id)
    free = Q(renewing_until__isnull=True) | Q(renewing_until__lt=now)
    return bool(
        CredentialToken.objects.filter(free, credential_id=credential_id, version=version).update(
            renewing_until=now + timedelta(seconds=RENEWAL_S)
        )
    )


def save(credential_id: str, version: int, token: str, lifetime_s: float) -> bool:
    """Store the token that follows `version`; False when somebody else stored one first."""
    data, key_id = secrets.encrypt({"token": token})
    return bool(
        CredentialToken.objects.filter(credential_id=credential_id, version=version).update(
            data=data,
            encryption_key_id=key_id,
            version=F("version") + 1,
            expires_at=timezone.now() + timedelta(seconds=lifetime_s),
            renewing_until=None,
        )
    )


def release(credential_id: str, version: int) -> None:
    """Give a renewal up, so that others need not wait for it."""
    CredentialToken.objects.filter(credential_id=credential_id, version=version).update(renewing_until=None)
