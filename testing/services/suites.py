"""Suites as rows: saved with every version, within the caller's teams, and audited."""

from typing import Any

from django.contrib.auth.models import Group
from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from endpoints.access import audit, roles
from endpoints.access.principal import Principal
from endpoints.errors import Conflict, Forbidden, Malformed, Refused
from testing.document.reader import read_suite
from testing.document.suite import Suite as Document
from testing.models import Suite, SuiteVersion
from testing.services import schedules
from testing.services.digests import digest

RESERVED = frozenset({"check", "draft", "export", "import", "new"})  # what stands in their place in addresses


def check(text: str) -> Document:
    """Return what the text says; raises BadDocument with every fault."""
    return read_suite(text)


def create(text: str, *, by: Principal, owner: Group | None = None) -> Suite:
    """Store a new suite; its slug is the document's. Raises BadDocument, Forbidden, or Conflict for a taken slug."""
    roles.require(by, "suites", "create")
    document = read_suite(text)
    if document.slug in RESERVED:
        raise Refused(f"a suite cannot be called '{document.slug}', which is an address of ours", code="reserved")
    suite = Suite(slug=document.slug, owner=owner_of(owner, by))
    _fill(suite, document, text)
    try:
        with transaction.atomic():
            suite.save(force_insert=True)
            _keep(suite, text, by)
            audit.record(by, "create", suite, {"version": [None, 1]})
            schedules.follow(suite, document, by=by)
    except IntegrityError as exc:
        raise Conflict(f"there is a suite '{document.slug}' already", code="taken") from exc
    return suite


def change(suite: Suite, text: str, *, by: Principal) -> Suite:
    """Store a new version; the same text again is none. Raises BadDocument, Forbidden, or Conflict for another slug."""
    roles.require(by, "suites", "update")
    document = read_suite(text)
    if document.slug != suite.slug:
        raise Conflict(f"the document is suite '{document.slug}', not '{suite.slug}'", code="other_suite")
    with transaction.atomic():
        held = Suite.objects.select_for_update().get(pk=suite.pk)
        if held.text == text:
            return held
        before, held.version = held.version, held.version + 1
        _fill(held, document, text)
        held.save()
        _keep(held, text, by)
        audit.record(by, "update", held, {"version": [before, held.version]})
        schedules.follow(held, document, by=by)
    return held


def delete(suite: Suite, *, by: Principal) -> None:
    """Delete a suite; its runs and the documents they ran are kept, those of its schedule that wait are cancelled."""
    roles.require(by, "suites", "destroy")
    with transaction.atomic():
        audit.record(by, "delete", suite, {"version": [suite.version, None]})
        schedules.cancel_waiting(suite)
        suite.delete()


def _fill(suite: Suite, document: Document, text: str) -> None:
    suite.title, suite.type, suite.labels, suite.text = document.title, document.type, list(document.labels), text
    suite.systems = dict(document.systems)


def _keep(suite: Suite, text: str, by: Principal) -> None:
    SuiteVersion.objects.create(
        suite=suite, number=suite.version, digest=digest(text), text=text, created_by=by.label[:200]
    )


def owners(by: Principal) -> QuerySet[Group]:
    """Return the teams that a new suite of the caller's may belong to."""
    rows = Group.objects.order_by("name")
    return rows if by.team_ids is None else rows.filter(pk__in=by.team_ids)


def owner_of(owner: Group | None, by: Principal) -> Group | None:
    """Return whose it is to be: a new row of a caller with teams goes to one of them. Raises Forbidden or Malformed."""
    if by.team_ids is None:
        return owner
    if owner is not None and owner.pk not in by.team_ids:
        raise Forbidden("the owner must be one of your teams")
    if owner is None:
        teams: list[Any] = list(Group.objects.filter(pk__in=by.team_ids)[:2])
        if len(teams) != 1:
            detail = "name one of your teams"
            raise Malformed(f"owner: {detail}", errors=[{"field": "owner", "code": "required", "detail": detail}])
        return teams[0]
    return owner
