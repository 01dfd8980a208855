"""Teams apart: whose a row may become, and which rows it may refer to."""

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from django.contrib.auth.models import Group
from django.db import models

from endpoints.access.principal import Principal
from endpoints.errors import Conflict, Forbidden, Malformed
from endpoints.models import Credential, Endpoint, System
from endpoints.services.rules import invalid


def settle(instance: System | Endpoint | Credential, before: Any, by: Principal) -> None:
    """Hold the caller to its teams; a new row without an owner goes to the caller's only team.

    Nobody moves a row to a team, or to everyone, unless they see all teams or both ends are
    theirs: handing a row over is giving away what it can reach.
    """
    if isinstance(instance, Endpoint):
        if not by.sees_team(instance.system.owner_id):
            raise Forbidden("the system belongs to another team")
        return
    if by.team_ids is None:
        return
    if before is None and instance.owner_id is None:
        instance.owner = _only_team(by)
    kept = before is not None and before.owner_id == instance.owner_id
    if not kept and (instance.owner_id not in by.team_ids or (before and before.owner_id is None)):
        raise Forbidden("the owner must be, and stay, one of your teams")


def _only_team(by: Principal) -> Group:
    teams = list(Group.objects.filter(pk__in=by.team_ids or ())[:2])
    if len(teams) != 1:
        raise Malformed(
            "owner: name one of your teams",
            errors=[{"field": "owner", "code": "required", "detail": "name one of your teams"}],
        )
    return teams[0]


def check_references(
    instance: System | Endpoint | Credential, m2m: Mapping[str, Iterable[models.Model]], by: Principal
) -> None:
    """Raise unless everything the row refers to may be used by it; one function per kind."""
    CHECKS[type(instance)](instance, m2m, by)


def _check_system(system: System, m2m: Mapping[str, Iterable[models.Model]], by: Principal) -> None:
    # `accepts_from` names teams and systems alike: a system named like a team would be let in as that team.
    namesake = Group.objects.filter(name=system.slug).exclude(pk=system.owner_id or 0).exists()
    if namesake:
        raise invalid([{"field": "slug", "code": "taken", "detail": "is the name of another team"}])
    if system in m2m.get("depends_on", ()):
        raise invalid([{"field": "depends_on", "code": "invalid", "detail": "a system cannot depend on itself"}])
    if system.pk is not None:
        for endpoint in system.endpoints.select_related("credential"):
            endpoint.system = system
            for field, credential in credentials_of(endpoint):
                if credential is not None and not _fits(credential, system):
                    raise Conflict(
                        f"endpoint {endpoint} uses credential '{credential.name}' ({field}) of another owner",
                        code="in_use",
                    )


def _check_endpoint(endpoint: Endpoint, m2m: Mapping[str, Iterable[models.Model]], by: Principal) -> None:
    errors = []
    for field, credential in credentials_of(endpoint):
        if credential is None or not by.sees_team(credential.owner_id):
            errors.append({"field": field, "code": "unknown", "detail": "there is no such credential"})
        elif not _fits(credential, endpoint.system):
            detail = "belongs to another owner than the system"
            errors.append({"field": field, "code": "not_yours", "detail": detail})
        elif field in KINDS and credential.kind != KINDS[field]:
            errors.append({"field": field, "code": "invalid", "detail": f"must be of kind {KINDS[field]}"})
    if errors:
        raise invalid(errors)


def _check_credential(credential: Credential, m2m: Mapping[str, Iterable[models.Model]], by: Principal) -> None:
    stored = Credential.objects.filter(pk=credential.pk).first()
    if stored is None:
        return
    for endpoint in users_of(stored):
        if not _fits(credential, endpoint.system):
            raise Conflict(f"endpoint {endpoint} of another owner uses this credential", code="in_use")
    if stored.name != credential.name:
        check_config_users(stored)


def check_config_users(row: Any) -> None:
    """Raise Conflict when an endpoint's config names this credential: no foreign key guards those."""
    if isinstance(row, Credential):
        for endpoint in users_of(row):
            if endpoint.credential_id != row.pk:
                raise Conflict(f"endpoint {endpoint} names '{row.name}' in its config", code="in_use")


def users_of(credential: Credential) -> list[Endpoint]:
    """Return the endpoints that use a credential, by foreign key or by name in their config."""
    names = {credential.name, str(credential.pk)}
    rows = Endpoint.objects.select_related("system").only(
        "id", "interface", "name", "config", "credential_id", "system__slug", "system__owner_id"
    )
    return [
        row
        for row in rows.iterator()
        if row.credential_id == credential.pk or any(name in names for _, name in named_in(row.config))
    ]


def named_in(config: Any) -> list[tuple[str, str]]:
    """Return (field, name or id) of every credential that a config names."""
    if not isinstance(config, dict):
        return []
    signing = config.get("signing_credential") or []
    client = (config.get("tls") or {}).get("client_credential")
    found = [("config.signing_credential", name) for name in ([signing] if isinstance(signing, str) else signing)]
    return found + ([("config.tls.client_credential", client)] if client else [])


def credentials_of(endpoint: Endpoint) -> list[tuple[str, Credential | None]]:
    """Return (field, credential) of all an endpoint uses; None where the name leads nowhere."""
    found: list[tuple[str, Credential | None]] = []
    if endpoint.credential is not None:
        found.append(("credential", endpoint.credential))
    return found + [(field, credential_named(name)) for field, name in named_in(endpoint.config)]


def credential_named(text: str) -> Credential | None:
    """Return the credential with this name or id."""
    found: Credential | None = Credential.objects.filter(name=text).first()
    if found is None:
        try:
            found = Credential.objects.filter(pk=uuid.UUID(text)).first()
        except ValueError:
            return None
    return found


def _fits(credential: Credential, system: System) -> bool:
    """Say whether a system may use a credential: everyone's, or of the very same owner.

    A team's secret on a system that is everyone's would let everyone send it wherever they like.
    """
    return credential.owner_id is None or credential.owner_id == system.owner_id


KINDS = {"config.signing_credential": "hmac", "config.tls.client_credential": "mtls"}
CHECKS: dict[type[models.Model], Any] = {
    System: _check_system,
    Endpoint: _check_endpoint,
    Credential: _check_credential,
}
