"""Runs: started and cancelled by a change of their row; whoever works them meets it in the table."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from endpoints.access import audit, roles
from endpoints.access.principal import Principal
from endpoints.access.standing import reference
from endpoints.errors import Conflict, ControlPlaneError, Forbidden, Refused, Unauthenticated
from endpoints.models import System
from testing import owning, wakeups
from testing.document.nodes import unknown
from testing.document.reader import read_suite
from testing.document.references import has_references
from testing.document.suite import Suite as Document
from testing.models import Cause, Overlap, Run, RunState, Schedule, Suite, SuiteVersion, Verdict
from testing.services import authors, obstacles
from testing.services.digests import digest

MOST_PARALLEL = 256


@dataclass(frozen=True, slots=True)
class Wish:
    """What of a run is to be different from what the document says."""

    systems: Mapping[str, str] = field(default_factory=dict)
    vars: Mapping[str, Any] = field(default_factory=dict)
    parallel: int | None = None
    allow_production: bool = False
    rows: Sequence[Mapping[str, Any]] = ()  # of a file beside the suite's
    cases: Sequence[str] = ()  # these only, and what they need
    numbers: Sequence[int] | None = None  # of those, the ones with these places in the run, and what they need
    rerun_of: Run | None = None
    location: str | None = None
    during_maintenance: bool = False
    is_quiet: bool = False  # whoever asks works it: no worker is told


@dataclass(frozen=True, slots=True)
class Origin:
    """Why there is a run, unless somebody asked for it."""

    cause: Cause = Cause.HAND
    schedule: Schedule | None = None
    due_at: datetime | None = None

    @property
    def is_queued(self) -> bool:
        """Say whether it waits for those before it; a change is not skipped for them, as a tick may be."""
        overlap = self.schedule.overlap if self.schedule is not None else Overlap.ALLOW
        return overlap == Overlap.QUEUE or (overlap == Overlap.SKIP and self.cause != Cause.SCHEDULE)


BY_HAND = Origin()


def start(suite: Suite, wish: Wish, *, by: Principal) -> Run:
    """Make a run of a stored suite, for a worker to take; raises Forbidden, or Refused naming what does not fit."""
    return _make(suite.text, suite, wish, by)


def start_due(schedule: Schedule, origin: Origin) -> Run:
    """Make the run that a schedule asks for, on behalf of whoever stored it; one that cannot be made ends errored.

    When they may no longer run it, the schedule is paused. Call it in a transaction.
    """
    suite = schedule.suite
    try:
        by = authors.acting_for(schedule)
    except (Unauthenticated, Forbidden) as exc:
        return _not_made(suite, authors.acted_for(schedule), origin, authors.pause(schedule, exc.detail))
    try:
        return _make(suite.text, suite, Wish(), by, origin)
    except ControlPlaneError as exc:
        return _not_made(suite, by, origin, exc.detail)


def start_text(text: str, wish: Wish, *, by: Principal) -> Run:
    """Make a run of a document that is not stored: it takes the role that may store one, which reads secrets."""
    roles.require(by, "suites", "create")
    return _make(text, None, wish, by)


def start_ready(text: str, wish: Wish, *, by: Principal) -> Run:
    """Make a run of a document that comes with the product: whoever may run suites may run it."""
    return _make(text, None, wish, by)


def repeat(run: Run, wish: Wish, *, by: Principal) -> Run:
    """Make a run of the very document that another one ran."""
    return _make(run.document.text, run.suite, wish, by)


def check_systems(document: Document, *, by: Principal) -> None:
    """Raise Refused for a system that the document names and the caller does not see."""
    _systems(document, Wish(), by)


def cancel(run: Run, *, by: Principal) -> Run:
    """Ask a run to end; its cleanups still run. Raises Forbidden, or Conflict when it has ended."""
    roles.require(by, "runs", "cancel")
    with transaction.atomic():
        held = Run.objects.select_for_update().get(pk=run.pk)
        if held.state == RunState.ENDED:
            raise Conflict("the run has ended", code="ended")
        if held.cancelled_at is None:
            held.cancelled_at = timezone.now()
            held.save(update_fields=["cancelled_at"])
            audit.record(by, "cancel", held)
    return held


def _make(text: str, suite: Suite | None, wish: Wish, by: Principal, origin: Origin = BY_HAND) -> Run:
    roles.require(by, "suites", "run")
    if by.system_slug:
        raise Forbidden(f"this key speaks only as {by.system_slug}; a run speaks to several", code="bound_key")
    document = read_suite(text)
    systems = _systems(document, wish, by)
    _check(document, wish, by)
    run = _row(suite, document.slug, document.title, systems, wish, by, origin)
    run.location = document.execution.location if wish.location is None else wish.location
    obstacle = None if wish.during_maintenance else obstacles.maintenance(document, systems.values(), by)
    if obstacle is None and origin.schedule is not None and origin.cause == Cause.SCHEDULE:
        obstacle = obstacles.overlap(origin.schedule, origin.due_at or timezone.now())
    obstacle = obstacle or obstacles.unmet_need(document, by)
    with transaction.atomic():
        run.document = _version(text, suite, by)
        if wish.rerun_of is not None:
            run.order = wish.rerun_of.order or wish.rerun_of.pk
        if obstacle is not None:
            _ended(run, *obstacle)
        run.save(force_insert=True)
        owning.own(run, systems.values())
        if origin.cause == Cause.HAND:
            changes = {"systems": [None, systems], "allow_production": [None, wish.allow_production]}
            audit.record(by, "run", run, changes)
        if obstacle is None and (run.location or not wish.is_quiet):
            wakeups.hint_on_commit(run.location)
    return run


def _not_made(suite: Suite, by: Principal, origin: Origin, reason: str) -> Run:
    run = _row(suite, suite.slug, suite.title, {}, Wish(), by, origin)
    run.document = _version(suite.text, suite, by)
    _ended(run, Verdict.ERRORED, reason)
    run.save(force_insert=True)
    return run


def _row(
    suite: Suite | None, slug: str, title: str, systems: dict[str, str], wish: Wish, by: Principal, origin: Origin
) -> Run:
    return Run(
        suite=suite,
        slug=slug,
        title=title,
        systems=systems,
        vars=dict(wish.vars),
        rows=[dict(row) for row in wish.rows],
        only=list(wish.cases),
        parallel=wish.parallel,
        allow_production=wish.allow_production,
        numbers=None if wish.numbers is None else list(wish.numbers),
        rerun_of=wish.rerun_of,
        created_by=by.label[:200],
        author=reference(by),
        role=by.role,
        team_ids=None if by.team_ids is None else sorted(by.team_ids),
        owner_id=next(iter(owning.teams_of(systems.values(), suite.owner_id if suite else None)), None),
        cause=origin.cause,
        schedule=origin.schedule,
        due_at=origin.due_at,
        is_queued=origin.is_queued,
    )


def _ended(run: Run, verdict: Verdict, reason: str) -> None:
    """Let a run end before it began."""
    run.state, run.verdict, run.reason, run.finished_at = RunState.ENDED, verdict, reason[:1000], timezone.now()


def _systems(document: Document, wish: Wish, by: Principal) -> dict[str, str]:
    """Return what each alias stands for; raises Refused for one that is not there, or not the caller's to see."""
    for alias in wish.systems:
        if alias not in document.systems:
            raise Refused(unknown("system", alias, list(document.systems)), code="unknown_system")
    found = {**document.systems, **wish.systems}
    wanted = {name.partition("/")[0] for name in found.values()}
    there = set(System.objects.visible_to(by).filter(slug__in=wanted).values_list("slug", flat=True))
    missing = sorted(wanted - there)
    if missing:
        names = ", ".join(f"{alias}: {name}" for alias, name in found.items() if name.partition("/")[0] in missing)
        raise Refused(f"there is no such system ({names})", code="unknown_system")
    return found


def _check(document: Document, wish: Wish, by: Principal) -> None:
    for name, value in wish.vars.items():
        if name not in document.vars:
            raise Refused(unknown("variable", name, list(document.vars)), code="unknown_variable")
        if has_references(value):
            raise Refused(f"variable '{name}' holds a reference; only the document may", code="bad_variable")
    names = [case.name for case in document.cases]
    if missing := next((name for name in wish.cases if name not in names), None):
        raise Refused(unknown("case", missing, names), code="unknown_case")
    if wish.parallel is not None and not 1 <= wish.parallel <= MOST_PARALLEL:
        raise Refused(f"parallel must be 1 to {MOST_PARALLEL}", code="bad_parallel")
    if document.data is not None and document.data.csv and not wish.rows:
        raise Refused(
            "the suite reads a csv file, which only a run from a file can; write data.rows", code="needs_file"
        )
    if wish.systems and "secret." in document.text and not by.may("editor"):
        raise Refused("a suite that reads secrets may be sent elsewhere by an editor only", code="needs_editor")


def _version(text: str, suite: Suite | None, by: Principal) -> SuiteVersion:
    """Return the document a run remembers: the suite's, or a loose one kept once."""
    mark = digest(text)
    found = SuiteVersion.objects.filter(suite=suite, digest=mark).order_by("-created_at").first()
    return found or SuiteVersion.objects.create(digest=mark, text=text, created_by=by.label[:200])


def by_id(pk: uuid.UUID) -> Run:
    """Return a run as it stands now."""
    return Run.objects.select_related("document").get(pk=pk)
