"""How cases did over the runs of their suite: since when one fails, and how each run of it went.

Runs are compared with those of the same suite against the same systems; a look goes
back over a bounded number of them, and says so when it did not come to the beginning.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Q

from endpoints.access.principal import Principal
from testing.models import BAD, JUDGED, TELLING, CaseRun, Run, RunState, Verdict

LOOK = 500  # runs that are looked back over
MOST_ROWS = 10_000  # case runs that one look reads
SHOWN_RUNS = 60
GRID_RUNS = 30
GRID_CASES = 40


@dataclass(frozen=True, slots=True)
class Since:
    """The unbroken row of bad ends of a case up to one run: `first` began it, `last_passed` came before it.

    `runs` is how many it counts; `is_whole` says whether the look came to where it began.
    """

    runs: int = 0
    first: Run | None = None
    last_passed: Run | None = None
    is_whole: bool = True


@dataclass(frozen=True, slots=True)
class Point:
    """One run of a case, or of its suite, in a chart."""

    run_id: UUID
    at: datetime
    verdict: str
    took_ms: float
    number: int | None = None  # of the case run
    flaky: bool = False
    version: int | None = None

    @property
    def is_bad(self) -> bool:
        return self.verdict in BAD


@dataclass(frozen=True, slots=True)
class Trend:
    """Points, oldest first, with what they come to; times are of those that passed."""

    points: Sequence[Point]
    passed: int
    judged: int
    p50_ms: float | None
    p95_ms: float | None

    @property
    def pass_rate(self) -> float | None:
        return self.passed / self.judged if self.judged else None


@dataclass(frozen=True, slots=True)
class GridRow:
    """One case over the runs of a grid: a point for each run, None where it did not run."""

    case: str
    cells: Sequence[Point | None]
    bad: int
    flaky: int


def ended_runs(slug: str, principal: Principal) -> Any:
    """Return the runs of a suite that have ended, newest first, as the caller may see them."""
    return Run.objects.visible_to(principal).filter(slug=slug, state=RunState.ENDED).order_by("-pk")


def earlier(run: Run, principal: Principal, most: int = LOOK) -> list[UUID]:
    """Return the run and those before it against the same systems, newest first."""
    rows = ended_runs(run.slug, principal).filter(pk__lte=run.pk).values_list("pk", "systems")[:most]
    return [pk for pk, systems in rows if systems == run.systems]


def before(run: Run, principal: Principal) -> Run | None:
    """Return the run that ended before this one, to compare it with."""
    found: Run | None = ended_runs(run.slug, principal).filter(pk__lt=run.pk).slim().first()
    return found


def same_case(case: CaseRun) -> Q:
    """Select the case runs of one name, part and row; their combination is compared by who asks."""
    return Q(case=case.case, part=case.part, iteration=case.iteration)


def since(case: CaseRun, run: Run, principal: Principal) -> Since:
    """Return since when a case fails without a break; runs in which it was not judged are passed over."""
    ids = earlier(run, principal)
    rows = CaseRun.objects.filter(same_case(case), run_id__in=ids).values_list("run_id", "matrix", "verdict")
    verdicts = {id: verdict for id, matrix, verdict in rows[:MOST_ROWS] if matrix == case.matrix and verdict in JUDGED}
    bad: list[UUID] = []
    passed: UUID | None = None
    for id in ids:
        verdict = verdicts.get(id)
        if verdict == Verdict.PASSED:
            passed = id
            break
        if verdict is not None:
            bad.append(id)
    found = Run.objects.slim().in_bulk([id for id in (passed, *bad[-1:]) if id is not None])
    return Since(
        runs=len(bad),
        first=found.get(bad[-1]) if bad else None,
        last_passed=found.get(passed) if passed is not None else None,
        is_whole=passed is not None or len(ids) < LOOK,
    )


def of_suite(slug: str, principal: Principal, most: int = SHOWN_RUNS) -> Trend:
    """Return how the latest runs of a whole suite went."""
    rows = ended_runs(slug, principal).whole().slim()[:most]
    points = [
        Point(
            row.pk,
            row.created_at,
            row.verdict,
            round((row.took_s or 0.0) * 1000, 3),
            flaky=row.flaky,
            version=row.document.number,
        )
        for row in rows
    ]
    return trend(points[::-1])


def of_case(
    slug: str, case: str, principal: Principal, *, matrix: Any = None, iteration: int | None = None, most: int = LOOK
) -> Trend:
    """Return how a case did in the latest runs of its suite: of each run its worst variant, unless one is named."""
    runs = {row.pk: row for row in ended_runs(slug, principal).slim()[:most]}
    chosen = Q() if iteration is None else Q(iteration=iteration)
    rows = CaseRun.objects.filter(chosen, case=case, run_id__in=list(runs)).order_by("-run_id", "number")
    points = [_point(row, runs[row.run_id]) for row in rows[:MOST_ROWS] if matrix is None or row.matrix == matrix]
    return trend(_worst_of_each(points)[::-1])


def grid(slug: str, principal: Principal) -> tuple[list[Run], list[GridRow]]:
    """Return the latest runs of a suite, oldest first, and of its cases those that were not always well."""
    runs = list(ended_runs(slug, principal).slim()[:GRID_RUNS])[::-1]
    ids = [run.pk for run in runs]
    telling = CaseRun.objects.filter(TELLING, run_id__in=ids).order_by("-run_id", "number")
    names = list(dict.fromkeys(telling.values_list("case", flat=True)[:MOST_ROWS]))[:GRID_CASES]
    by_id = {run.pk: run for run in runs}
    rows = CaseRun.objects.filter(case__in=names, run_id__in=ids).order_by("-run_id", "number")[:MOST_ROWS]
    points: dict[str, list[Point]] = {name: [] for name in names}
    for row in rows:
        points[row.case].append(_point(row, by_id[row.run_id]))
    return runs, sorted((_grid_row(name, ids, found) for name, found in points.items()), key=_worst_row_first)


def trend(points: Sequence[Point]) -> Trend:
    """Return points with what they come to: pure."""
    judged = [point for point in points if point.verdict in JUDGED]
    times = sorted(point.took_ms for point in points if point.verdict == Verdict.PASSED)
    return Trend(
        points,
        passed=len(times),
        judged=len(judged),
        p50_ms=percentile(times, 50),
        p95_ms=percentile(times, 95),
    )


def percentile(ordered: Sequence[float], percent: int) -> float | None:
    """Return the value that `percent` of the ordered ones do not exceed (nearest rank); None of none."""
    if not ordered:
        return None
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def _grid_row(name: str, ids: Sequence[UUID], points: Iterable[Point]) -> GridRow:
    by_run = {point.run_id: point for point in _worst_of_each(points)}
    cells = [by_run.get(id) for id in ids]
    there = [cell for cell in cells if cell is not None]
    return GridRow(name, cells, sum(cell.is_bad for cell in there), sum(cell.flaky for cell in there))


def _worst_row_first(row: GridRow) -> tuple[bool, int, int]:
    last = next((cell for cell in reversed(row.cells) if cell is not None), None)
    return (not (last is not None and last.is_bad), -row.bad, -row.flaky)


# Of several variants of a case in one run, the one that speaks for them.
WORST = (Verdict.FAILED, Verdict.ERRORED, Verdict.INCONCLUSIVE, Verdict.CANCELLED, Verdict.BLOCKED, Verdict.PASSED)


def _worst_of_each(points: Iterable[Point]) -> list[Point]:
    """Return one point for each run, in the order given: its worst verdict, and among those the slowest."""
    found: dict[UUID, Point] = {}
    for point in points:
        known = found.get(point.run_id)
        if known is None or _rank(point) < _rank(known):
            found[point.run_id] = point
    return list(found.values())


def _rank(point: Point) -> tuple[int, bool, float]:
    verdict = point.verdict
    place = next((index for index, worst in enumerate(WORST) if worst == verdict), len(WORST))
    return (place, not point.flaky, -point.took_ms)


def _point(row: CaseRun, run: Run) -> Point:
    at = row.started_at or run.created_at
    return Point(run.pk, at, row.verdict, row.took_ms, row.number, row.flaky, run.document.number)
