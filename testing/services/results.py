"""A run with all that came of it, as one value: what every report is written from."""

from collections import defaultdict
from typing import Any

from testing.models import Attempt, CaseRun, LoadResult, Run, StepRun


def complete(run: Run) -> dict[str, Any]:
    """Return a run with its cases, steps and attempts; four queries, however many there are."""
    cases = list(CaseRun.objects.filter(run=run).order_by("number"))
    steps: dict[Any, list[StepRun]] = defaultdict(list)
    for step in StepRun.objects.filter(case_run__run=run).order_by("number"):
        steps[step.case_run_id].append(step)
    attempts: dict[Any, list[Attempt]] = defaultdict(list)
    for attempt in Attempt.objects.filter(step_run__case_run__run=run).order_by("number"):
        attempts[attempt.step_run_id].append(attempt)
    loads = {load.case_run_id: _load(load) for load in LoadResult.objects.filter(case_run__run=run)}
    return {
        **summary(run),
        "systems": run.systems,
        "document": {"version": run.document.number, "digest": run.document.digest},
        "cases": [
            {
                **_case(case),
                "load": loads.get(case.pk),
                "steps": [_step(step, attempts[step.pk]) for step in steps[case.pk]],
            }
            for case in cases
        ],
    }


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
