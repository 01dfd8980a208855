"""What begins by itself, one look at a time: the clock is told what time it is, and rows say what came of it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from django.utils import timezone

from controlplane.management.commands.worker import begin
from endpoints.models import AuditEntry
from testing.models import Clock, Run, Schedule, Suite
from testing.runner import leases
from testing.runner.looking import look
from testing.runner.worker import running
from testing.services import clock
from tests.endpoints.conftest import Caller
from tests.servers.http import HttpReceiver
from tests.stack import Stack, wait_for
from tests.testing.test_schedules import ONE_ENGINE

TEXT = """\
suite: SLUG
systems: {api: orders}
MORE
cases:
  - case: asked
    steps: [{http: {system: api, path: /ok}, assert: [{status: {eq: 200}}]}]
"""
MONDAYS = 'schedule: {cron: "0 8 * * 1", overlap: allow, missed: run}'


def store(admin: Caller, slug: str, more: str, method: str = "POST") -> Any:
    path = "suites/" if method == "POST" else f"suites/{slug}/"
    found = admin(method, path, {"text": TEXT.replace("SLUG", slug).replace("MORE", more)})
    assert found.status in (200, 201), found.body
    return Schedule.objects.filter(suite__slug=slug).first()


def runs_of(slug: str, **wanted: Any) -> list[Run]:
    return list(Run.objects.filter(slug=slug, **wanted).order_by("id"))


def test_a_missed_tick_of_a_rare_schedule_has_its_run_and_the_next_one_too(admin: Caller, orders: HttpReceiver) -> None:
    """Over a day late, `missed: run` makes the run of the tick that was missed, never one of a tick to come."""
    store(admin, "weekly", MONDAYS)
    tick, following = datetime(2026, 11, 16, 8, tzinfo=UTC), datetime(2026, 11, 23, 8, tzinfo=UTC)
    Schedule.objects.update(next_at=tick)
    clock.begin(datetime(2026, 11, 19, 12, tzinfo=UTC), due=True, changed=False)
    assert [run.due_at for run in runs_of("weekly")] == [tick]
    assert Schedule.objects.get().next_at == following
    clock.begin(following + timedelta(seconds=1), due=True, changed=False)
    assert [run.due_at for run in runs_of("weekly")] == [tick, following]


def test_a_schedule_that_cannot_be_followed_is_set_aside(admin: Caller, orders: HttpReceiver) -> None:
    """It is paused and says why; other schedules have their runs, and it goes on once its document is right."""
    broken = store(admin, "broken", MONDAYS)
    store(admin, "sound", MONDAYS)
    tick = datetime(2026, 11, 16, 8, tzinfo=UTC)
    Schedule.objects.update(next_at=tick)
    Schedule.objects.filter(pk=broken.pk).update(timezone="Mars/Olympus", next_at=tick - timedelta(minutes=1))
    assert clock.begin(tick + timedelta(seconds=1), due=True, changed=False) == 1
    assert [run.due_at for run in runs_of("sound")] == [tick]
    found = admin("GET", f"schedules/{broken.pk}/").json
    assert (found["next_at"], found["paused_by"]) == (None, "clock")
    assert "no time zone 'Mars/Olympus'" in found["pause_reason"]
    assert admin("POST", f"schedules/{broken.pk}/resume/", {}).status == 409
    store(admin, "broken", MONDAYS.replace("0 8", "0 9"), "PUT")
    assert admin("POST", f"schedules/{broken.pk}/resume/", {}).json["next_at"]


def test_a_clock_that_fails_holds_up_no_run(admin: Caller, orders: HttpReceiver) -> None:
    """A worker whose clock meets a row that it cannot read takes the runs that wait all the same."""
    store(admin, "strange", "triggers: [version_changed]")
    Suite.objects.update(systems=["what a newer version may write"])
    store(admin, "asked-for", "")
    Clock.objects.update_or_create(defaults={"changes_until": timezone.now() - timedelta(minutes=1)})
    assert admin("PATCH", "systems/orders/", {"version": "2"}).status == 200
    AuditEntry.objects.update(at=timezone.now() - timedelta(seconds=5))
    run_id = admin("POST", "suites/asked-for/run/", {}).json["id"]
    with running(clock=begin):
        wait_for(lambda: Run.objects.get(pk=run_id).verdict == "passed", 30, "the run")


@ONE_ENGINE
def test_a_worker_that_can_work_no_runs_ends(make_stack: Callable[..., Stack]) -> None:
    """It does not stay as if all were well: the process ends with a failure, for its supervisor to see."""
    stack = make_stack()
    (stack.var / "run").mkdir(parents=True)
    (stack.var / "run" / "wake").touch()  # no folder: nobody can listen
    stack.start("worker")
    wait_for(lambda: stack.processes["worker"].poll() is not None, 60, "the end of the worker")
    assert stack.processes["worker"].returncode == 1, stack.log("worker")


def test_a_run_of_a_location_is_given_up_by_how_long_it_waits(admin: Caller, orders: HttpReceiver) -> None:
    """An hour counts from when it began to wait: not the time it ran before its worker was lost, or stood in line."""
    store(admin, "far", 'execution: {location: eu}\nschedule: {cron: "* * * * *", overlap: queue}')
    two_hours, now = timedelta(hours=2), timezone.now().replace(second=0, microsecond=0)
    for minutes in (3, 2, 1):
        Schedule.objects.update(next_at=now - timedelta(minutes=minutes))
        clock.begin(now - timedelta(minutes=minutes), due=True, changed=False)
    Run.objects.update(created_at=now - two_hours)
    first, second, third = (run.pk for run in runs_of("far"))
    assert leases.take_next(uuid4(), ("eu",)).pk == first  # type: ignore[union-attr]
    Run.objects.filter(pk=first).update(lease_until=now - timedelta(minutes=1))
    assert (leases.sweep(), leases.give_up_waiting(), look(("",)).lost) == (1, 0, False)
    assert leases.take_next(uuid4(), ("eu",)).pk == first  # type: ignore[union-attr]

    Run.objects.filter(pk=first).update(lease_until=now - two_hours)
    assert look(("",)).lost
    assert (leases.sweep(), leases.give_up_waiting()) == (1, 1)
    Run.objects.filter(pk=first).update(finished_at=now - two_hours)
    assert leases.give_up_waiting() == 2
    assert {run.pk for run in runs_of("far", verdict="errored")} == {first, second, third}
