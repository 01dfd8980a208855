"""Which cases cannot be relied on, each by a named rule over the latest runs of its suite.

`rescued`: it passed, but only because a retry ran it again. `flipping`: it changed between
passed and not passed at least twice although neither its suite nor the systems were others.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from endpoints.access.principal import Principal
from testing.models import BAD, JUDGED, TELLING, CaseRun, Part, Run, RunState, Verdict
from testing.services.trends import ended_runs

RUNS = 30  # of each suite
LEAST_FLIPS = 2
LATEST_RUNS = 1_000  # are looked through for those that had trouble
TELLING_RUNS = 200  # of those are looked into
LOOK = 2_000  # of their cases, those that did not pass or were rescued
OUTAGE = 100  # more bad cases in one run are no sign of unsteadiness
MOST_SUITES = 10
MOST_CASES = 20  # of each suite
MOST_ROWS = 3_000
MOST_SHOWN = 50
RULES = {
    "rescued": "a retry rescued it",
    "flipping": f"it changed its verdict {LEAST_FLIPS} times or more, with nothing else changed",
}


@dataclass(frozen=True, slots=True)
class Seen:
    """One run of a case: `same` is the document and the systems, which must not differ for a flip to count."""

    run_id: UUID
    number: int
    at: datetime | None
    verdict: str
    flaky: bool
    same: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Flaky:
    """A case with the rules that name it, and the figures they were judged by."""

    suite: str
    case: str
    label: str
    rules: tuple[str, ...]
    runs: int
    rescued: int
    flips: int
    failed: int
    last_at: datetime | None
    last_run: UUID
    last_number: int

    @property
    def share(self) -> float:
        """Say in which part of its runs it was not steady."""
        return min(1.0, (self.rescued + self.flips) / self.runs) if self.runs else 0.0


def flaky(principal: Principal, suite: str = "") -> list[Flaky]:
    """Return the cases that a rule names, the least steady first."""
    suspects = _suspects(principal, suite)
    found: list[Flaky] = []
    for slug, names in list(suspects.items())[:MOST_SUITES]:
        for key, rows in _histories(slug, names, principal).items():
            judged = judge(slug, key, rows)
            if judged is not None:
                found.append(judged)
    return sorted(found, key=lambda one: (-one.share, -one.runs, one.suite, one.label))[:MOST_SHOWN]


def judge(suite: str, key: tuple[str, str], rows: Sequence[Seen]) -> Flaky | None:
    """Return what the rules say of one case's runs, oldest first: pure; None when none names it."""
    judged = [row for row in rows if row.verdict in JUDGED]
    rescued = sum(row.flaky for row in judged)
    flips = flips_in(judged)
    rules = tuple(name for name, applies in (("rescued", rescued > 0), ("flipping", flips >= LEAST_FLIPS)) if applies)
    if not rules:
        return None
    last = next(row for row in reversed(judged) if row.flaky or row.verdict != Verdict.PASSED)
    failed = sum(row.verdict != Verdict.PASSED for row in judged)
    return Flaky(suite, *key, rules, len(judged), rescued, flips, failed, last.at, last.run_id, last.number)


def flips_in(rows: Iterable[Seen]) -> int:
    """Return how often a case went over between passed and not passed while nothing else was another: pure."""
    flips, before = 0, None
    for row in rows:
        if before is not None and before.same == row.same:
            flips += (before.verdict == Verdict.PASSED) != (row.verdict == Verdict.PASSED)
        before = row
    return flips


def _suspects(principal: Principal, suite: str) -> dict[str, list[str]]:
    """Return, by suite, the cases that lately did not pass or were rescued; those of most trouble first."""
    runs = Run.objects.visible_to(principal).filter(state=RunState.ENDED, **({"slug": suite} if suite else {}))
    told = runs.order_by("-pk").values_list("pk", "slug", "flaky", "counts")[: RUNS if suite else LATEST_RUNS]
    slugs = {pk: slug for pk, slug, is_flaky, counts in told if is_flaky or 0 < _bad(counts) <= OUTAGE}
    wanted = list(slugs)[:TELLING_RUNS]
    rows = CaseRun.objects.filter(TELLING, part=Part.CASE, verdict__in=JUDGED, run_id__in=wanted)
    counts_of: dict[str, Counter[str]] = defaultdict(Counter)
    for run_id, case in rows.order_by("-run_id", "number").values_list("run_id", "case")[:LOOK]:
        counts_of[slugs[run_id]][case] += 1
    by_trouble = sorted(counts_of, key=lambda slug: -counts_of[slug].total())
    return {slug: [case for case, _ in counts_of[slug].most_common(MOST_CASES)] for slug in by_trouble}


def _bad(counts: Mapping[str, int]) -> int:
    return sum(counts.get(verdict, 0) for verdict in BAD)


def _histories(slug: str, names: Sequence[str], principal: Principal) -> Mapping[tuple[str, str], list[Seen]]:
    """Return what each variant of these cases did in the latest runs, oldest first."""
    runs = {
        pk: (document, orjson.dumps(systems, option=orjson.OPT_SORT_KEYS))
        for pk, document, systems in ended_runs(slug, principal).values_list("pk", "document__digest", "systems")[:RUNS]
    }
    rows = CaseRun.objects.filter(part=Part.CASE, case__in=names, run_id__in=list(runs)).order_by("-run_id", "number")
    histories: dict[tuple[str, str], list[Seen]] = defaultdict(list)
    told = rows.values_list("run_id", "number", "case", "matrix", "iteration", "started_at", "verdict", "flaky")
    for run_id, number, case, matrix, iteration, at, verdict, flaky in told[:MOST_ROWS]:
        label = str(CaseRun(case=case, matrix=matrix, iteration=iteration)) if matrix or iteration else case
        histories[case, label].append(Seen(run_id, number, at, verdict, flaky, runs[run_id]))
    return {key: seen[::-1] for key, seen in histories.items()}
