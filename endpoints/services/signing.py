"""Make and revoke the secrets that systems sign datagrams and hooks with; two may live at once, to change over."""

import secrets as random

from django.db import transaction

from endpoints.access import audit, roles, secrets
from endpoints.access.principal import Principal
from endpoints.errors import Conflict, Forbidden
from endpoints.models import SigningKey, System, SystemState
from endpoints.services.revoking import revoke

RESOURCE = "signing-keys"
AT_ONCE = 2
SECRET_BYTES = 32


def create_signing_key(system: System, *, by: Principal) -> tuple[SigningKey, str]:
    """Return a new key of `system` and its secret, which is encrypted from now on and cannot be shown again.

    Raises Forbidden for the role or team, Conflict for a retired system and for a third key.
    """
    roles.require(by, RESOURCE, "create")
    _require_own(by, system)
    with transaction.atomic():
        stored: System = System.objects.select_for_update(of=("self",)).get(pk=system.pk)  # one key after the other
        if stored.state == SystemState.RETIRED:
            raise Conflict(f"{system.slug} is retired: nobody speaks as it any more", code="retired")
        if stored.signing_keys.filter(revoked_at__isnull=True).count() >= AT_ONCE:
            raise Conflict(
                f"{system.slug} has {AT_ONCE} signing keys; revoke the one that nobody uses any more", code="too_many"
            )
        text = random.token_urlsafe(SECRET_BYTES)
        blob, key_id = secrets.encrypt({"secret": text})
        key: SigningKey = SigningKey.objects.create(system=stored, secret=blob, encryption_key_id=key_id)
        audit.record(by, "create", key, {"system": [None, system.slug]})
    return key, text


def revoke_signing_key(key: SigningKey, *, by: Principal) -> SigningKey:
    """Stop a key for good, in every process within a second; a second time changes nothing.

    Raises Forbidden for the role, and for a system that everybody sees and no team of theirs owns.
    """
    with transaction.atomic():
        stored = revoke(key, RESOURCE, by=by)
        _require_own(by, stored.system)
    return stored


def _require_own(by: Principal, system: System) -> None:
    if not by.sees_team(system.owner_id) or (by.team_ids is not None and system.owner_id is None):
        raise Forbidden("the key must belong to a system of one of your teams")
