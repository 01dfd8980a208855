"""A long history of runs, made in bulk: suites of three teams that ran for months, one run of very many cases."""

import random
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import Group

from endpoints.ids import id_at
from endpoints.models import Endpoint, System
from testing.models import Attempt, CaseRun, Part, Run, RunState, StepRun, Suite, SuiteVersion, Verdict

SUITES, CASES, BATCH = 50, 10, 5_000
TEXT = "suite: {slug}\ncases:\n  - case: case-0\n    steps:\n      - wait: 5ms\n"


def seed(now: datetime, runs: int, *, wide: int = 20_000) -> dict[str, Any]:
    """Make `runs` runs of ten cases each, and one of `wide` cases; returns what there is to look at."""
    chance = random.Random(11)
    teams = [Group.objects.create(name=name) for name in ("north", "south", "west")]
    systems = System.objects.bulk_create(
        System(slug=f"system-{number}", name=f"System {number}", owner=teams[number % 3]) for number in range(200)
    )
    Endpoint.objects.bulk_create(
        Endpoint(system=system, protocol="http", host="127.0.0.1", port=9000, interface=interface)
        for system in systems
        for interface in ("main", "orders")
    )
    suites = [_suite(number, teams[number % 3], systems[number].slug) for number in range(SUITES)]
    versions = {suite.pk: _version(suite) for suite in suites}
    step = timedelta(days=90) / runs
    made: list[Run] = []
    for number in range(runs):
        suite = suites[number % SUITES]
        run = _run(suite, versions[suite.pk], now - step * (runs - number), chance)
        made.append(run)
        if len(made) >= BATCH or number == runs - 1:
            Run.objects.bulk_create(made)
            CaseRun.objects.bulk_create([row for one in made for row in _cases(one, CASES, chance)], batch_size=BATCH)
            last, made = made[-1], []
    failed = _failing(suites[0], versions[suites[0].pk], now, wide)
    return {"suites": suites, "last": last, "failed": failed, "teams": teams}


def _suite(number: int, team: Group, system: str) -> Suite:
    slug = f"suite-{number:02d}"
    return Suite.objects.create(
        slug=slug, title=slug, type="e2e", owner=team, text=TEXT.format(slug=slug), systems={"api": system}
    )


def _version(suite: Suite) -> SuiteVersion:
    return SuiteVersion.objects.create(suite=suite, number=1, digest=suite.slug, text=suite.text, created_by="seed")


def _run(suite: Suite, version: SuiteVersion, at: datetime, chance: random.Random) -> Run:
    verdict = chance.choices((Verdict.PASSED, Verdict.FAILED, Verdict.ERRORED), (94, 5, 1))[0]
    bad = {} if verdict == Verdict.PASSED else {str(verdict): 1}
    return Run(
        id=id_at(at),
        suite=suite,
        document=version,
        slug=suite.slug,
        title=suite.title,
        state=RunState.ENDED,
        verdict=verdict,
        flaky=chance.random() < 0.03,
        systems=dict(suite.systems),
        counts={"passed": CASES - len(bad), **bad},
        total=CASES,
        created_by="seed",
        role="operator",
        owner=suite.owner,
        created_at=at,
        started_at=at,
        finished_at=at + timedelta(seconds=chance.uniform(1, 9)),
    )


def _cases(run: Run, count: int, chance: random.Random) -> list[CaseRun]:
    bad = 0 if run.verdict == Verdict.PASSED else 1
    return [
        CaseRun(
            id=id_at(run.created_at),
            run=run,
            number=number + 1,
            case=f"case-{number}",
            verdict=run.verdict if number < bad else Verdict.PASSED,
            reason="status: expected 200, got 500" if number < bad else "",
            flaky=number == CASES - 1 and run.flaky,
            started_at=run.created_at,
            took_ms=chance.lognormvariate(3 + number % 10 / 3, 0.6),
            part=Part.CASE,
        )
        for number in range(count)
    ]


def _failing(suite: Suite, version: SuiteVersion, now: datetime, wide: int) -> Run:
    """Make the last run: of very many cases, a tenth of which failed, the first after a long poll."""
    run = _run(suite, version, now, random.Random(3))
    run.verdict, run.total = Verdict.FAILED, wide
    run.counts = {"passed": wide - wide // 10, "failed": wide // 10}
    Run.objects.bulk_create([run])
    rows = _cases(run, wide, random.Random(5))
    for row in rows:
        row.verdict = Verdict.FAILED if row.number % 10 == 0 else Verdict.PASSED
    CaseRun.objects.bulk_create(rows, batch_size=BATCH)
    bad = rows[9]
    step = StepRun.objects.create(
        case_run=bad, number=0, path="1", kind="http", line=4, verdict=Verdict.FAILED, reason="status: expected 200"
    )
    check = {"ok": False, "subject": "status", "where": "status", "expected": 200, "actual": 500, "line": 5}
    Attempt.objects.bulk_create(
        Attempt(
            step_run=step,
            number=number,
            intended_at=now,
            started_at=now,
            took_ms=3.0,
            verdict=Verdict.FAILED,
            checks=[check],
            response={"status": 500, "body": "x" * 1000},
        )
        for number in range(1, 2401)
    )
    return run
