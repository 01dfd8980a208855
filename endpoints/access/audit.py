"""The audit: who changed or read what, written in the transaction of the change itself."""

from collections.abc import Mapping
from typing import Any

from django.db import models

from endpoints.access.principal import Principal
from endpoints.models import AuditEntry

MASK = "***"
SECRET_FIELDS = frozenset({"data", "secret_hash", "password", "token", "secret"})
# Where a row's team is found, first match wins; rows without one are nobody's.
TEAM_PATHS = ("owner_id", "team_id", "system.owner_id", "source.owner_id")


def record(
    principal: Principal,
    action: str,
    obj: models.Model,
    changes: Mapping[str, Any] | None = None,
    label: str | None = None,
) -> AuditEntry:
    """Write that `principal` did `action` to `obj`; `changes` is `{field: [old, new]}`.

    Call it inside the transaction of the change, so that neither exists without the
    other. Values of secret fields are masked.
    """
    entry: AuditEntry = AuditEntry.objects.create(
        actor=principal.label[:200],
        via=principal.via,
        action=action,
        object_type=obj._meta.model_name or "",
        object_id=str(obj.pk),
        object_label=(label or str(obj))[:300],
        team_id=_team_of(obj),
        changes={field: _masked(field, change) for field, change in (changes or {}).items()},
    )
    return entry


def _masked(field: str, change: Any) -> Any:
    return [MASK, MASK] if field in SECRET_FIELDS else change


def _team_of(obj: models.Model) -> int | None:
    for path in TEAM_PATHS:
        found: Any = obj
        for name in path.split("."):
            found = getattr(found, name, None)
        if found is not None:
            return int(found)
    return None
