"""Revoke a key of either kind: for systems to call with, or to sign with."""

from typing import TypeVar

from django.db import transaction
from django.utils import timezone

from endpoints.access import audit, roles
from endpoints.access.principal import Principal
from endpoints.errors import NotFound
from endpoints.models import ApiKey, SigningKey

K = TypeVar("K", ApiKey, SigningKey)


def revoke(key: K, resource: str, *, by: Principal) -> K:
    """Stop a key for good, in every process within a second; a second time changes nothing."""
    roles.require(by, resource, "revoke")
    now = timezone.now()
    with transaction.atomic():
        rows = type(key).objects.visible_to(by).select_for_update(of=("self",))
        stored: K | None = rows.filter(pk=key.pk).first()
        if stored is None:
            raise NotFound("there is no such key, or it is not yours to see")
        if stored.revoked_at is None:
            stored.revoked_at = now
            stored.save(update_fields=["revoked_at"])
            audit.record(by, "revoke", stored, {"revoked_at": [None, now.isoformat()]})
    return stored
