"""Results from outside become runs like any other: with cases, reasons and tries, in lists, trends and reports."""

import hashlib
import re
import tempfile
from collections import Counter
from datetime import datetime, timedelta
from typing import IO

from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.text import slugify

from endpoints.access import audit, roles, secrets
from endpoints.access.principal import Principal
from endpoints.errors import Malformed
from endpoints.models import SLUG, Credential
from testing import outside
from testing.models import Attempt, CaseRun, Run, RunState, StepRun, SuiteVersion, Verdict
from testing.outside.shape import MAX_BYTES, Result, Results, too_large
from testing.services.suites import digest, owner_of

BATCH = 500
PART, IN_MEMORY = 256 * 1024, 1024 * 1024
MAX_SLUG = 63
NO_WORD = re.compile(r"[\W_]+")


def import_results(
    stream: IO[bytes], *, suite: str = "", owner: Group | None = None, by: Principal
) -> tuple[Run, bool]:
    """Keep a report as a run that has ended; return it and whether it is new: the same bytes again are the same run.

    It is put into a file first, and read from there piece by piece. `suite` names what it is a run of; the report's
    own title does if it is "". Raises Forbidden, Malformed, TooLarge, or NotResults.
    """
    roles.require(by, "runs", "import_results")
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as file:
        _fetch(stream, file)
        form, found = outside.read(file)
        slug = _slug(suite, found)
        team = owner_of(owner, by)
        mark = _mark(team, slug, file)
    if (there := _there(mark)) is not None:
        return there, False
    found = outside.masked(found, (secrets.decrypt(row.data) for row in Credential.objects.visible_to(by)))
    try:
        with transaction.atomic():
            run = _run(found, form, slug, by, team, mark)
            _cases(run, found, form)
            audit.record(by, "import", run, {"imported_as": [None, form]})
    except IntegrityError:
        if (there := _there(mark)) is not None:  # somebody brought it in the same moment
            return there, False
        raise
    return run, True


def _fetch(stream: IO[bytes], file: IO[bytes]) -> None:
    """Put what comes into a file; raises TooLarge once it is more than is read."""
    size = 0
    while part := stream.read(PART):
        size += len(part)
        if size > MAX_BYTES:
            raise too_large()
        file.write(part)
    file.seek(0)


def _mark(team: Group | None, slug: str, file: IO[bytes]) -> str:
    """Return what the report is told by."""
    mark = hashlib.sha256(b"%d\n%s\n" % (team.pk if team else 0, slug.encode()))
    file.seek(0)
    while part := file.read(PART):
        mark.update(part)
    return mark.hexdigest()


def _there(mark: str) -> Run | None:
    return Run.objects.select_related("document").filter(import_digest=mark).first()


def _slug(suite: str, found: Results) -> str:
    named = slugify(NO_WORD.sub("-", found.title))[:MAX_SLUG].strip("-")
    slug = suite or named or "imported"
    try:
        SLUG(slug)
    except ValidationError as exc:
        detail = str(SLUG.message)
        raise Malformed(f"suite: {detail}", errors=[{"field": "suite", "code": "invalid", "detail": detail}]) from exc
    return slug


def _run(found: Results, form: str, slug: str, by: Principal, owner: Group | None, mark: str) -> Run:
    now = timezone.now()
    verdict, reason = outside.verdict_of(found)
    started, ended = _times(found, now)
    run = Run(
        document=_no_document(),
        slug=slug,
        title=found.title or slug,
        state=RunState.ENDED,
        verdict=verdict,
        reason=reason[:1000],
        flaky=any(case.is_flaky for case in found.cases),
        counts=dict(Counter(str(case.verdict) for case in found.cases)),
        total=len(found.cases),
        created_by=by.label[:200],
        role=by.role,
        team_ids=None if by.team_ids is None else sorted(by.team_ids),
        owner=owner,
        started_at=started,
        finished_at=ended,
        imported_as=form,
        import_digest=mark,
    )
    run.save(force_insert=True)
    return run


def _times(found: Results, now: datetime) -> tuple[datetime, datetime]:
    """Return when it ran: as the report says, or just now; nothing that came has yet to happen."""
    took = found.took_ms or sum(case.took_ms for case in found.cases)
    length = timedelta(milliseconds=min(took, 30 * 86_400_000))
    started = min(found.started_at or now - length, now)
    return started, min(started + length, now)


def _no_document() -> SuiteVersion:
    """Return the document of runs that ran none of ours."""
    mark = digest("")
    row = SuiteVersion.objects.filter(suite=None, digest=mark).first()
    return row or SuiteVersion.objects.create(digest=mark, text="", created_by="import")


def _cases(run: Run, found: Results, form: str) -> None:
    for start in range(0, len(found.cases), BATCH):
        part = list(enumerate(found.cases, start=1))[start : start + BATCH]
        cases = [_case(run, number, case) for number, case in part]
        steps = [_step(row, case, form) for row, (_, case) in zip(cases, part, strict=True)]
        CaseRun.objects.bulk_create(cases)
        StepRun.objects.bulk_create(steps)
        Attempt.objects.bulk_create(
            attempt for step, (_, case) in zip(steps, part, strict=True) for attempt in _attempts(run, step, case)
        )


def _case(run: Run, number: int, case: Result) -> CaseRun:
    return CaseRun(
        run=run,
        number=number,
        case=case.name,
        verdict=case.verdict,
        reason=case.tries[-1].message,
        flaky=case.is_flaky,
        rounds=min(len(case.tries), 1000),
        started_at=case.started_at or run.started_at,
        took_ms=case.took_ms,
    )


def _step(row: CaseRun, case: Result, form: str) -> StepRun:
    return StepRun(
        case_run=row,
        number=0,
        path="1",
        round=row.rounds,
        kind=form,
        line=case.line,
        verdict=case.verdict,
        reason=row.reason,
        took_ms=case.took_ms,
    )


def _attempts(run: Run, step: StepRun, case: Result) -> list[Attempt]:
    at = case.started_at or run.started_at or run.created_at
    return [
        Attempt(
            step_run=step,
            number=number,
            intended_at=at,
            started_at=at,
            took_ms=tried.took_ms,
            verdict=tried.verdict,
            error=tried.message if tried.verdict != Verdict.PASSED else "",
            response={"text": tried.text} if tried.text else {},
        )
        for number, tried in enumerate(case.tries, start=1)
    ]
