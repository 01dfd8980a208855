"""Create, change and delete rows of the registry: checked, within the caller's teams, and audited."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from django.core.exceptions import ValidationError
from django.db import IntegrityError, models, transaction
from django.db.models import ProtectedError

from endpoints.access import audit, roles
from endpoints.access.principal import Principal
from endpoints.errors import Conflict, NotFound
from endpoints.models import OURS, Credential, Endpoint, System, SystemState
from endpoints.services import ownership, rules
from endpoints.services.last_doors import check_last_door

Row = TypeVar("Row", System, Endpoint, Credential)

RESOURCES: dict[type[models.Model], str] = {System: "systems", Endpoint: "endpoints", Credential: "credentials"}
UNAUDITED = frozenset({"id", "created_at", "updated_at", "health", "encryption_key_id"})


def save(
    instance: Row, *, by: Principal, action: str = "create", m2m: Mapping[str, Iterable[models.Model]] | None = None
) -> Row:
    """Store a new or changed row and return it; `m2m` is `{field: rows}`.

    `action` is "create" or "update" (the audit's word, and the role that is asked
    for). Raises Malformed for bad values, Forbidden for the role or team, Conflict
    for a name that is taken.
    """
    roles.require(by, RESOURCES[type(instance)], action)
    with transaction.atomic():
        before = _lock(instance, by) if action == "update" else None
        _check_ours(instance, before)
        _check_retired(instance, before)
        ownership.settle(instance, before, by)
        _leave_pause(instance)
        rules.validate(instance)
        ownership.check_references(instance, m2m or {}, by)
        _check_last_door(before, instance)
        linked = {name: _linked(instance, name) for name in m2m or {}} if before else {}
        _store(instance)
        for name, rows in (m2m or {}).items():
            getattr(instance, name).set(rows)
        changes = difference(before, instance)
        changes |= {name: [linked.get(name, []), _linked(instance, name)] for name in m2m or {}}
        changes = {name: change for name, change in changes.items() if change[0] != change[1]}
        if changes:
            audit.record(by, action, instance, changes)
    return instance


def delete(instance: Row, *, by: Principal) -> None:
    """Delete a row; raises Conflict naming what still holds it."""
    roles.require(by, RESOURCES[type(instance)], "destroy")
    with transaction.atomic():
        stored = _lock(instance, by)
        _check_ours(stored)
        ownership.check_config_users(stored)
        _check_unheld(stored)
        _check_last_door(stored, None)
        audit.record(by, "delete", stored, difference(stored, None))
        try:
            stored.delete()
        except ProtectedError as exc:
            raise Conflict(f"{stored} is still used", code="in_use") from exc


def _check_unheld(row: models.Model) -> None:
    """Raise Conflict naming what still needs the row.

    Asked before Django does: it would load every row that stands in the way, and
    a system may have sent millions of messages.
    """
    for relation in row._meta.get_fields(include_hidden=True):
        if not isinstance(relation, models.ManyToOneRel) or relation.on_delete is not models.PROTECT:
            continue
        if relation.related_model._base_manager.filter(**{relation.field.name: row}).exists():
            kind = relation.related_model._meta.verbose_name_plural
            raise Conflict(f"{row} is still used by {kind}", code="in_use")


def _check_last_door(before: models.Model | None, after: models.Model | None) -> None:
    if isinstance(before, Endpoint) and (after is None or isinstance(after, Endpoint)):
        check_last_door(before, after)


def difference(before: models.Model | None, after: models.Model | None) -> dict[str, list[Any]]:
    """Return `{field: [old, new]}` of the plain fields that differ; a side that is None has none."""
    shown = before or after
    assert shown is not None
    names = [field.name for field in shown._meta.concrete_fields if field.name not in UNAUDITED]
    pairs = {name: [_plain(before, name), _plain(after, name)] for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _plain(row: models.Model | None, name: str) -> Any:
    """Return a field's value as the audit can keep it: JSON, related rows by their name."""
    if row is None:
        return None
    value = getattr(row, name)
    if isinstance(value, (bytes, memoryview)):
        return audit.MASK if value else ""
    if value is None or isinstance(value, (bool, int, float, list, dict)):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _linked(instance: models.Model, name: str) -> list[str]:
    return sorted(str(row) for row in getattr(instance, name).all())


def _lock(instance: Row, by: Principal) -> Row:
    """Return the row as stored, held until the transaction ends; raises NotFound when it is gone or another team's."""
    rows = type(instance).objects.visible_to(by).select_for_update(of=("self",))
    found: Row | None = rows.filter(pk=instance.pk).first()
    if found is None:
        raise NotFound("there is nothing here, or it is not yours to see")
    return found


def _check_ours(*rows: models.Model | None) -> None:
    """Raise Conflict for the system that this installation speaks as: it registers it, and nobody else changes it."""
    if any(isinstance(row, System) and row.slug == OURS for row in rows):
        detail = f"slug: {OURS} is this installation itself, and nobody's to register or to change"
        errors = [{"field": "slug", "code": "ours", "detail": "is this installation itself"}]
        raise Conflict(detail, code="ours", errors=errors)


def _check_retired(instance: models.Model, before: models.Model | None) -> None:
    """Raise Conflict for an edit that would retire a system, or change what history calls a retired one."""
    if not isinstance(instance, System) or not isinstance(before, System):
        return
    states = {before.state, instance.state}
    if SystemState.RETIRED not in states:
        return
    if len(states) == 2:
        action = "retire" if instance.state == SystemState.RETIRED else "unretire"
        raise Conflict(
            f"state: an edit cannot {action} a system, since more hangs on it: POST systems/{before.slug}/{action}/",
            code="wrong_state",
            errors=[{"field": "state", "code": "wrong_state", "detail": f"use {action}"}],
        )
    if before.slug != instance.slug:
        errors = [{"field": "slug", "code": "retired", "detail": "history keeps the name of a retired system"}]
        raise Conflict("slug: history keeps the name of a retired system", code="retired", errors=errors)


def _leave_pause(instance: models.Model) -> None:
    """Forget until when and why a row was paused once it no longer is."""
    if isinstance(instance, (System, Endpoint)) and instance.state != "paused":
        instance.pause_until, instance.pause_reason = None, ""


def _store(instance: models.Model) -> None:
    """Save; a name that is taken is the same Conflict whether found before the insert or by it."""
    try:
        instance.validate_unique()
        instance.validate_constraints()
        with transaction.atomic():
            instance.save()
    except ValidationError as exc:
        field, text = next((field, text) for field, texts in exc.message_dict.items() for text in texts)
        errors = [{"field": "" if field == "__all__" else field, "code": "taken", "detail": text}]
        raise Conflict(text, code="taken", errors=errors) from exc
    except IntegrityError as exc:
        raise Conflict("another change came first, or the name is taken", code="taken") from exc
