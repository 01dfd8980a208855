"""A run with all that came of it, as one value: what every report is written from."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from django.db.models import Count, F, Q, QuerySet, Sum, TextField
from django.db.models.functions import Cast, Length

from endpoints.errors import Refused
from testing.models import Attempt, CaseRun, LoadResult, Run, StepRun, Verdict

MOST_BYTES = 32 * 1024 * 1024  # of what is read for one report, where others are served as well
AT_A_TIME = 50  # cases
ROW_BYTES = 500  # what a row comes to besides its texts
HAS_PASSED = Q(step_run__verdict=Verdict.PASSED)


def complete(run: Run) -> dict[str, Any]:
    """Return a run with its cases, steps and attempts; four queries, however many there are."""
    return _complete(run, _attempts(run))


def bounded(run: Run, *, whole: bool, in_pieces: bool) -> dict[str, Any]:
    """Return the same for a process that serves others as well, which should not hold a large one.

    Unless it is to be `whole`, it lacks what was answered to steps that passed. The cases of a large run are read
    as they are asked for, if that can be `in_pieces`: then they are no list. Raises Refused where it cannot.
    """
    attempts = _attempts(run)
    size = _size(run, attempts, whole=whole)
    if size > MOST_BYTES and in_pieces:
        return {**_above(run), "cases": Cases(run, whole=whole)}
    if size > MOST_BYTES:
        told = f"this report would be made of {size / 1024**2:,.0f} MiB, and at most {MOST_BYTES // 1024**2} are read"
        raise Refused(
            f"{told}; the other formats are written piece by piece, runs/{{id}}/failure/ has the first failure",
            code="report_too_large",
        )
    return _complete(run, attempts if whole else _told(attempts))


class Cases:
    """The cases of a run, read a few at a time each time they are gone through."""

    def __init__(self, run: Run, *, whole: bool) -> None:
        self._run, self._whole = run, whole

    def __iter__(self) -> Iterator[dict[str, Any]]:
        last = -1
        rows = CaseRun.objects.filter(run=self._run).order_by("number")
        while found := list(rows.filter(number__gt=last)[:AT_A_TIME]):
            last = found[-1].number
            attempts = Attempt.objects.filter(step_run__case_run__in=found).order_by("number")
            yield from _cases(found, attempts if self._whole else _told(attempts))

    def in_brief(self) -> Iterator[Mapping[str, Any]]:
        """Yield of each what can be counted."""
        rows = CaseRun.objects.filter(run=self._run).order_by("number").values("part", "verdict", "flaky")
        yield from rows.iterator()


def _told(attempts: QuerySet[Attempt]) -> Iterable[Attempt]:
    """Return attempts without what was answered to steps that passed, which is not even read."""
    passed = attempts.filter(HAS_PASSED).defer("response")
    return chain(attempts.exclude(HAS_PASSED), map(_unanswered, passed))


def _attempts(run: Run) -> QuerySet[Attempt]:
    return Attempt.objects.filter(step_run__case_run__run=run).order_by("number")


def _unanswered(attempt: Attempt) -> Attempt:
    attempt.response = {}
    return attempt


def _size(run: Run, attempts: QuerySet[Attempt], *, whole: bool) -> int:
    """Return about how much is to be read, asked of the database, which keeps it there."""
    read = Q() if whole else ~HAS_PASSED
    asked = attempts.order_by().aggregate(
        rows=Count("pk"),
        kept=Sum(_length("request") + _length("checks")),
        answered=Sum(_length("response"), filter=read),
    )
    steps = StepRun.objects.filter(case_run__run=run).aggregate(rows=Count("pk"), kept=Sum(_length("captures")))
    loads = LoadResult.objects.filter(case_run__run=run).aggregate(kept=Sum(_length("chart") + _length("histograms")))
    rows = asked["rows"] + steps["rows"] + CaseRun.objects.filter(run=run).count()
    texts = (asked["kept"], asked["answered"], steps["kept"], loads["kept"])
    return int(rows * ROW_BYTES + sum(found or 0 for found in texts))


def _length(name: str) -> Length:
    return Length(Cast(F(name), TextField()))


def _complete(run: Run, kept: Iterable[Attempt]) -> dict[str, Any]:
    return {**_above(run), "cases": _cases(CaseRun.objects.filter(run=run).order_by("number"), kept)}


def _above(run: Run) -> dict[str, Any]:
    document = {"version": run.document.number, "digest": run.document.digest}
    return {**summary(run), "systems": run.systems, "document": document}


def _cases(cases: QuerySet[CaseRun] | list[CaseRun], kept: Iterable[Attempt]) -> list[dict[str, Any]]:
    """Return cases with all below them, which are asked for by the query that finds the cases, if they are one."""
    found = list(cases)
    steps: dict[Any, list[StepRun]] = defaultdict(list)
    for step in StepRun.objects.filter(case_run__in=cases).order_by("number"):
        steps[step.case_run_id].append(step)
    attempts: dict[Any, list[Attempt]] = defaultdict(list)
    for attempt in kept:
        attempts[attempt.step_run_id].append(attempt)
    loads = {load.case_run_id: _load(load) for load in LoadResult.objects.filter(case_run__in=cases)}
    return [
        {
            **_case(case),
            "load": loads.get(case.pk),
            "steps": [_step(step, attempts[step.pk]) for step in steps[case.pk]],
        }
        for case in found
    ]


def summary(run: Run) -> dict[str, Any]:
    """Return what is said of a run without its cases."""
    ended = run.finished_at
    took = (ended - run.started_at).total_seconds() if ended and run.started_at else None
    return {
        "id": str(run.pk),
        "suite": run.slug,
        "title": run.title,
        "state": str(run.state),
        "verdict": run.verdict or None,
        "reason": run.reason,
        "flaky": run.flaky,
        "dirty": run.dirty,
        "only": run.only,
        "counts": run.counts,
        "total": run.total,
        "rerun_of": str(run.rerun_of_id) if run.rerun_of_id else None,
        "is_part": run.is_part,
        "bodies_removed_at": _time(run.bodies_removed_at),
        "imported_as": run.imported_as or None,
        "created_by": run.created_by,
        "created_at": _time(run.created_at),
        "started_at": _time(run.started_at),
        "finished_at": _time(ended),
        "took_s": None if took is None else round(took, 3),
    }


def _case(case: CaseRun) -> dict[str, Any]:
    return {
        "number": case.number,
        "part": str(case.part),
        "case": case.case,
        "matrix": case.matrix,
        "iteration": case.iteration,
        "verdict": str(case.verdict),
        "reason": case.reason,
        "error_class": case.error_class,
        "blocked_by": case.blocked_by or None,
        "flaky": case.flaky,
        "dirty": case.dirty,
        "rounds": case.rounds,
        "started_at": _time(case.started_at),
        "took_ms": case.took_ms,
    }


def _load(load: LoadResult) -> dict[str, Any]:
    """Return what was measured of a load, in the shape of `testing.load.figures`."""
    names = ("model", "figures", "generator", "thresholds", "chart", "histograms")
    return {name: getattr(load, name) for name in names}


def _step(step: StepRun, attempts: list[Attempt]) -> dict[str, Any]:
    return {
        "path": step.path,
        "id": step.step or None,
        "kind": step.kind,
        "phase": str(step.phase),
        "round": step.round,
        "line": step.line,
        "verdict": str(step.verdict),
        "reason": step.reason,
        "captures": step.captures,
        "took_ms": step.took_ms,
        "tries": attempts[-1].number if attempts else 0,  # of which not all may be kept
        "attempts": [_attempt(attempt) for attempt in attempts],
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "intended_at": _time(attempt.intended_at),
        "started_at": _time(attempt.started_at),
        "took_ms": attempt.took_ms,
        "phases_ms": attempt.phases_ms,
        "verdict": str(attempt.verdict),
        "error_class": attempt.error_class or None,
        "error": attempt.error or None,
        "checks": attempt.checks,
        "request": attempt.request,
        "response": attempt.response,
    }


def _time(moment: Any) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
