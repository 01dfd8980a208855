"""What was different between two runs of a suite: its document, what was replaced, its systems, and what broke."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q

from endpoints.access.principal import Principal
from endpoints.models import AuditEntry, Endpoint, Incident, Maintenance, System
from testing.document import secret_names
from testing.models import Run, SuiteVersion
from testing.services.documents import difference

MOST_LINES = 200
MOST_EACH = 30
LOOK = 1_000  # audit entries that are read to find what was deleted
SHOWN_VALUE = 120
# What is done to a system, an endpoint or a credential, as it is read; other actions stand as they are.
DONE = {
    "create": "was added",
    "update": "was changed",
    "delete": "was deleted",
    "set_secret": "got another secret",
    "rotate": "was encrypted anew",
    "pause": "was paused",
    "resume": "was resumed",
    "disable": "was disabled",
    "enable": "was enabled",
    "retire": "was retired",
    "unretire": "came back from retirement",
}
LOOKS_ONLY = ("probe", "test", "read_payload", "download")  # changes nothing
OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that was different: `kind` is document, replaced, registry, incident or maintenance.

    `detail` says what of it; `lines` are those of a document that differ, with `+`, `-`, a space
    or, for a gap, `@` in front.
    """

    kind: str
    text: str
    at: datetime | None = None
    by: str = ""
    detail: str = ""
    lines: tuple[str, ...] = ()
    link: tuple[str, str] | None = None  # what it leads to: a kind of page, and which one


@dataclass(frozen=True, slots=True)
class _Parties:
    """The rows of the registry that runs used: what the audit calls them."""

    systems: list[System]
    endpoints: list[Endpoint]

    def audited(self) -> Q:
        """Select the audit's entries about them; a credential also by the endpoints that name it."""
        credentials = {str(row.credential_id) for row in self.endpoints if row.credential_id is not None}
        return (
            Q(object_type="system", object_id__in=[str(row.pk) for row in self.systems])
            | Q(object_type="endpoint", object_id__in=[str(row.pk) for row in self.endpoints])
            | Q(object_type="credential", object_id__in=sorted(credentials))
        )


def between(before: Run, after: Run, principal: Principal) -> list[Change]:
    """Return what was different in `after` from what it was in `before`, as the caller may see it; oldest first."""
    parties = _parties(before, after, principal)
    since, until = before.started_at or before.created_at, after.finished_at or after.started_at or after.created_at
    dated = [
        *_registry(parties, since, until, principal),
        *_deleted(parties, since, until),
        *_incidents(parties, since, after, principal),
        *_maintenances(parties, after, until),
    ]
    undated = [*_document(before, after), *_replaced(before, after, with_values=principal.may(OPERATOR))]
    return [*undated, *sorted(dated, key=lambda change: change.at or until)]


def _parties(before: Run, after: Run, principal: Principal) -> _Parties:
    slugs = {name.partition("/")[0] for run in (before, after) for name in run.systems.values()}
    systems = list(System.objects.visible_to(principal).filter(slug__in=slugs).order_by("slug"))
    return _Parties(systems, list(Endpoint.objects.filter(system__in=systems)))


def _document(before: Run, after: Run) -> Iterator[Change]:
    if before.document_id == after.document_id or before.document.digest == after.document.digest:
        return
    texts = dict(SuiteVersion.objects.filter(pk__in=(before.document_id, after.document_id)).values_list("pk", "text"))
    lines = tuple(differing(texts.get(before.document_id, ""), texts.get(after.document_id, "")))
    named = f"from {_named(before)} to {_named(after)}"
    yield Change(
        "document", f"The suite changed {named}", after.document.created_at, after.document.created_by, lines=lines
    )


def differing(before: str, after: str) -> list[str]:
    """Return the lines of two texts that differ, each with its sign in front, and one around them."""
    found = [line if sign == "@" else f"{sign}{line}" for sign, line in difference(before, after, around=1)]
    more = len(found) - MOST_LINES
    return found[:MOST_LINES] + ([f"@@ {more} more lines @@"] if more > 0 else [])


def _named(run: Run) -> str:
    number = run.document.number
    return f"version {number}" if number is not None else f"the file {run.document.digest[:8]}"


def _replaced(before: Run, after: Run, *, with_values: bool) -> Iterator[Change]:
    """What whoever started them gave otherwise; of a variable whose name promises a secret, only that it is another."""
    given = {row.pk: row.vars for row in Run.objects.filter(pk__in=(before.pk, after.pk)).only("vars")}
    for text, old, new in (
        ("variable", given.get(before.pk, {}), given.get(after.pk, {})),
        ("system", before.systems, after.systems),
    ):
        shown = [secret_names.shown(values) if text == "variable" else values for values in (old, new)]
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                told = " → ".join(_shown(values.get(name, "(as written)")) for values in shown)
                detail = told if with_values or text == "system" else ""
                yield Change(
                    "replaced", f"Another {text} was given: {name}", after.created_at, after.created_by, detail
                )
    if before.parallel != after.parallel:
        detail = f"{before.parallel or '(as written)'} → {after.parallel or '(as written)'}"
        yield Change("replaced", "Another number of cases at once", after.created_at, after.created_by, detail)


def _registry(parties: _Parties, since: datetime, until: datetime, principal: Principal) -> Iterator[Change]:
    rows = AuditEntry.objects.filter(parties.audited(), at__gt=since, at__lte=until).exclude(action__in=LOOKS_ONLY)
    for row in rows.order_by("-at")[:MOST_EACH]:
        yield _audited(row, with_values=principal.may(OPERATOR))


def _deleted(parties: _Parties, since: datetime, until: datetime) -> Iterator[Change]:
    """What is there no more has no row to be found by: the last entries are looked through by its name."""
    begins = tuple(f"{row.slug}/" for row in parties.systems)
    rows = AuditEntry.objects.filter(at__gt=since, at__lte=until).order_by("-at")
    for row in rows[:LOOK]:
        if row.action == "delete" and row.object_type == "endpoint" and begins and row.object_label.startswith(begins):
            yield _audited(row, with_values=False)


def _audited(row: AuditEntry, *, with_values: bool) -> Change:
    done = DONE.get(row.action, row.action.replace("_", " "))
    return Change(
        "registry",
        f"{row.object_type.capitalize()} {row.object_label} {done}",
        row.at,
        row.actor,
        "" if row.action in ("create", "delete") else _fields(row.changes, with_values=with_values),
        link=(row.object_type, row.object_id),
    )


def _fields(changes: Mapping[str, Any], *, with_values: bool) -> str:
    if not with_values:
        return ", ".join(sorted(changes))
    pairs = ((name, change) for name, change in sorted(changes.items()) if isinstance(change, list))
    return "; ".join(f"{name}: {_shown(change[0])} → {_shown(change[-1])}" for name, change in pairs)


def _shown(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= SHOWN_VALUE else f"{text[:SHOWN_VALUE]}..."


def _incidents(parties: _Parties, since: datetime, after: Run, principal: Principal) -> Iterator[Change]:
    """What opened since the first of them, and what was open in the second."""
    begun, ended = after.started_at or after.created_at, after.finished_at or after.created_at
    rows = Incident.objects.visible_to(principal).filter(system__in=parties.systems, opened_at__lte=ended)
    there = Q(opened_at__gt=since) | Q(resolved_at__isnull=True) | Q(resolved_at__gte=begun)
    for row in rows.filter(there).order_by("-opened_at")[:MOST_EACH]:
        over = "" if row.resolved_at is None or row.resolved_at > ended else ", over by then"
        yield Change(
            "incident", f"Incident: {row.label}{over}", row.opened_at, "", row.summary, (), ("incident", str(row.pk))
        )


def _maintenances(parties: _Parties, after: Run, until: datetime) -> Iterator[Change]:
    begun = after.started_at or after.created_at
    rows = Maintenance.objects.filter(system__in=parties.systems, starts_at__lte=until, ends_at__gt=begun)
    for row in rows.select_related("system").order_by("-starts_at")[:MOST_EACH]:
        text = f"{row.system.slug} was under maintenance"
        yield Change("maintenance", text, row.starts_at, row.created_by, row.reason, (), ("system", row.system.slug))
