"""Retention of runs: bodies by their time, whole runs by theirs, and never what explains today."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from endpoints.access.principal import COMMAND
from testing.models import Attempt, CaseRun, Run, StepRun, SuiteVersion
from testing.services import retention, suites
from testing.services.runs import Wish, start
from tests.endpoints.conftest import Caller
from tests.messaging.factories import make_team
from tests.servers.http import HttpReceiver
from tests.testing import test_runs
from tests.testing.conftest import Outcome, answer, register
from tests.testing.test_runs import ask, case, suite

DAY = timedelta(days=1)


@pytest.fixture
def aged(run: test_runs.Run, settings: Any) -> Callable[..., Outcome]:
    """Return a function that runs a document as it would have, so many days ago; bodies are kept 5 days, runs 20."""
    settings.ENV = replace(settings.ENV, keep_bodies_days=5, keep_runs_days=20)

    def go(text: str, days: int) -> Outcome:
        done = run(text)
        of_run = Run.objects.filter(pk=done.report["id"])
        of_run.update(created_at=timezone.now() - days * DAY)
        SuiteVersion.objects.filter(runs__in=of_run).update(created_at=timezone.now() - days * DAY)
        return done

    return go


def there(*runs: Outcome) -> list[bool]:
    return [Run.objects.filter(pk=done.report["id"]).exists() for done in runs]


def test_bodies_go_first_and_the_rest_still_explains(
    aged: Callable[..., Outcome], orders: HttpReceiver, admin: Caller
) -> None:
    """Expected, actual and times stay; what was sent and received is gone, and the page says so."""
    orders.answer(answer(500, {"name": "somebody"}))
    step = ask(more=", capture: {name: body.$.name}").replace("eq: 200", "gte: 200")
    old, young = (aged(suite(case("one", step, ask())), days) for days in (6, 4))
    assert retention.prune() == {"run bodies": 1, "runs": 0, "run documents": 0}

    left = {done.report["id"]: admin("GET", f"runs/{done.report['id']}/report.json").json for done in (old, young)}
    steps = left[old.report["id"]]["cases"][0]["steps"]
    attempt = steps[1]["attempts"][0]
    assert (steps[0]["captures"], attempt["request"], attempt["response"]) == ({}, {}, {})
    assert (attempt["checks"][0]["expected"], attempt["checks"][0]["actual"]) == (200, 500)
    assert left[young.report["id"]]["cases"] == young.report["cases"]
    assert b"It was removed by retention." in admin("GET", f"runs/{old.report['id']}/report.html").body
    assert retention.prune()["run bodies"] == 0


def test_old_runs_go_but_the_last_and_the_last_that_passed(
    aged: Callable[..., Outcome], orders: HttpReceiver, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of every suite: a suite that is seldom run must not lose its past."""
    text = suite(case("one", ask()))
    first, passed = (aged(text, days) for days in (60, 50))
    orders.answer(500)
    failed, last = (aged(text, days) for days in (40, 30))
    other = aged(text.replace("suite: orders-suite", "suite: seldom"), 400)
    again = aged(f"# changed\n{text}", 25)
    call_command("prune")

    assert there(first, passed, failed, last, other, again) == [False, True, False, False, True, True]
    assert "runs              3" in capsys.readouterr().out
    assert [rows.objects.count() for rows in (CaseRun, StepRun, Attempt)] == [3, 3, 3]


def test_each_set_of_teams_keeps_the_last_that_it_sees(
    aged: Callable[..., Outcome], admin: Caller, orders: HttpReceiver
) -> None:
    """A run on systems of two teams, which neither alone is shown, takes the place of no team's own."""
    for name in ("red", "blue"):
        make_team(name)
        register(admin, f"{name}-shop", orders.url, owner=name)
    text = "suite: pair\nsystems: {api: red-shop, to: TO}\ncases:\n  - " + case("one", ask()) + "\n"
    alone, again = (aged(text.replace("TO", "red-shop"), days) for days in (70, 60))
    first, both = (aged(text.replace("TO", "blue-shop"), days) for days in (50, 40))
    call_command("prune")

    assert there(alone, again, first, both) == [False, True, False, True]


def test_documents_go_with_their_last_run_and_versions_stay(aged: Callable[..., Outcome], orders: HttpReceiver) -> None:
    text = suite(case("one", ask()))
    stored = suites.create(text.replace("orders-suite", "stored"), by=COMMAND)
    SuiteVersion.objects.update(created_at=timezone.now() - 99 * DAY)
    aged(f"# old\n{text}", 60)
    aged(text, 1)
    assert retention.prune() == {"run bodies": 0, "runs": 1, "run documents": 1}

    assert list(SuiteVersion.objects.values_list("text", flat=True).order_by("created_at")) == [stored.text, text]


def test_what_has_not_ended_stays(aged: Callable[..., Outcome], orders: HttpReceiver) -> None:
    """However old it is: it is somebody's to end."""
    aged(suite(case("one", ask())), 50)
    stored = suites.create(suite(case("one", ask())), by=COMMAND)
    waiting = start(stored, Wish(), by=COMMAND)
    Run.objects.filter(pk=waiting.pk).update(created_at=timezone.now() - 90 * DAY)

    assert retention.prune()["runs"] == 0
    assert Run.objects.count() == 2


def test_a_large_run_goes_in_small_steps(aged: Callable[..., Outcome], orders: HttpReceiver) -> None:
    """No transaction is longer than a batch of its cases."""
    rows = ", ".join(f"{{n: {n}}}" for n in range(450))
    text = suite(case("one", "{wait: 0ms}"), top=f"data: {{rows: [{rows}]}}\nexecution: {{mode: parallel, max: 64}}")
    aged(text, 40)
    aged(text, 1)
    told: list[tuple[str, int]] = []

    assert retention.prune(lambda kind, count: told.append((kind, count)))["runs"] == 1
    assert [kind for kind, _ in told].count("runs") == 4  # three batches of cases, and the run
    assert CaseRun.objects.count() == 450
