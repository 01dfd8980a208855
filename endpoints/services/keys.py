"""Make and revoke API keys; a key never gives more than its maker has."""

from datetime import datetime

from django.contrib.auth.models import Group
from django.db import transaction
from django.utils import timezone

from endpoints.access import audit, roles
from endpoints.access.keys import make_key
from endpoints.access.principal import ROLES, Principal
from endpoints.errors import Conflict, Forbidden
from endpoints.models import ApiKey, System, SystemState
from endpoints.services.revoking import revoke
from endpoints.services.rules import invalid


def create_api_key(
    name: str,
    role: str,
    *,
    by: Principal,
    team: Group | None = None,
    system: System | None = None,
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """Return a new key and its text, which is stored nowhere and cannot be shown again.

    Raises Malformed for bad values, Forbidden when the key would reach further
    than its maker.
    """
    roles.require(by, "keys", "create")
    _check(name, role, team, system, expires_at)
    if system is not None and system.state == SystemState.RETIRED:
        raise Conflict(f"{system.slug} is retired: nobody speaks as it any more", code="retired")
    if not by.may(role):
        raise Forbidden(f"you cannot make a key with the role '{role}', yours is '{by.role}'")
    _check_reach(by, team, system)
    key_id, plaintext, secret_hash = make_key()
    with transaction.atomic():
        key: ApiKey = ApiKey.objects.create(
            id=key_id,
            name=name,
            role=role,
            team=team,
            system=system,
            expires_at=expires_at,
            secret_hash=secret_hash,
        )
        changes = {
            "role": [None, role],
            "team": [None, team.name if team else None],
            "system": [None, system.slug if system else None],
            "expires_at": [None, expires_at.isoformat() if expires_at else None],
        }
        audit.record(by, "create", key, {field: pair for field, pair in changes.items() if pair[1] is not None})
    return key, plaintext


def revoke_api_key(key: ApiKey, *, by: Principal) -> ApiKey:
    """Stop a key for good, in every process within a second; a second time changes nothing."""
    return revoke(key, "keys", by=by)


def _check(name: str, role: str, team: Group | None, system: System | None, expires_at: datetime | None) -> None:
    faults = {
        "name": "1 to 100 printable characters" if not (1 <= len(name) <= 100 and name.isprintable()) else "",
        "role": f"must be one of {', '.join(ROLES)}" if role not in ROLES else "",
        "expires_at": "must be in the future" if expires_at and expires_at <= timezone.now() else "",
        "system": "belongs to another team" if team and system and system.owner_id not in (None, team.pk) else "",
    }
    errors = [{"field": field, "code": "invalid", "detail": fault} for field, fault in faults.items() if fault]
    if errors:
        raise invalid(errors)


def _check_reach(by: Principal, team: Group | None, system: System | None) -> None:
    if by.team_ids is None:
        return
    if system is not None and not by.sees_team(system.owner_id):
        raise Forbidden("the system belongs to another team")
    # A key without team and system would see everything; a bound one sees its system's team.
    reaches = team.pk if team else system.owner_id if system else None
    if reaches not in by.team_ids:
        raise Forbidden("the key must belong to one of your teams")
