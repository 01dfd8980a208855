"""What begins by itself, one look at a time: the clock is told what time it is, and rows say what came of it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from controlplane.management.commands.worker import begin
from endpoints.models import AuditEntry, Maintenance
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


def changed(admin: Caller, **system: Any) -> datetime:
    """Change the system, and let the clock look once the change has settled; return that time."""
    Clock.objects.get_or_create(defaults={"changes_until": timezone.now()})
    assert admin("PATCH", "systems/orders/", system).status == 200
    now = timezone.now() + timedelta(seconds=3)
    clock.begin(now, due=False, changed=True)
    return now


def test_changes_that_come_together_have_one_run(admin: Caller, orders: HttpReceiver) -> None:
    """One look that finds three changes of a system makes one run, and the next look none."""
    store(admin, "checked", "triggers: [version_changed]")
    Clock.objects.get_or_create(defaults={"changes_until": timezone.now()})
    for version in ("1", "2"):
        assert admin("PATCH", "systems/orders/", {"version": version}).status == 200
    settled = changed(admin, version="3")
    clock.begin(settled + timedelta(seconds=1), due=False, changed=True)

    assert len(runs_of("checked", cause="version_changed")) == 1


def test_a_change_is_not_forgotten_for_a_run_that_goes_on(admin: Caller, orders: HttpReceiver) -> None:
    """Its run waits for those of its schedule, where a tick would be skipped; queued ticks wait for it, too."""
    store(admin, "both", 'schedule: {cron: "0 8 * * 1"}\ntriggers: [version_changed]')
    changed(admin, version="2")
    assert leases.take_next(uuid4()) is not None
    changed(admin, version="3")
    first, second = runs_of("both")
    assert (first.state, second.state) == ("running", "waiting")
    assert not look(("",)).runs
    changed(admin, version="4")  # the one that waits will see it
    store(admin, "both", 'schedule: {cron: "0 8 * * 1", overlap: queue}\ntriggers: [version_changed]', "PUT")
    tick = datetime(2026, 11, 16, 8, tzinfo=UTC)
    Schedule.objects.update(next_at=tick)
    clock.begin(tick, due=True, changed=False)
    for run in runs_of("both")[:2]:
        assert leases.take_next(uuid4()) is None
        Run.objects.filter(pk=run.pk).update(state="ended", verdict="passed")
        assert leases.take_next(uuid4()) is not None
    assert [run.state for run in runs_of("both")] == ["ended", "ended", "running"]


def test_a_change_during_maintenance_has_its_run_after_it(admin: Caller, orders: HttpReceiver) -> None:
    """It is looked at again until the window has ended; a schedule that was paused meanwhile forgets it."""
    for slug in ("after", "paused"):
        store(admin, slug, "triggers: [version_changed]")
    window = {"until": (timezone.now() + timedelta(hours=2)).isoformat(), "reason": "new disks"}
    assert admin("POST", "systems/orders/maintenance/", window).status == 201
    now = changed(admin, version="2")
    clock.begin(now + timedelta(minutes=1), due=False, changed=True)
    assert Run.objects.count() == 0
    held = Schedule.objects.get(suite__slug="paused")
    assert admin("POST", f"schedules/{held.pk}/pause/", {}).status == 200
    Maintenance.objects.all().delete()
    Schedule.objects.update(ask_again_at=timezone.now() - timedelta(seconds=5))
    assert look(("",)).changed
    clock.begin(timezone.now(), due=False, changed=True)
    assert [(run.slug, run.cause, run.state) for run in Run.objects.all()] == [("after", "version_changed", "waiting")]
    assert not look(("",)).changed


def test_a_change_that_is_committed_late_is_seen(admin: Caller, orders: HttpReceiver) -> None:
    """An entry older than the last one that was looked through has its run, and each has no more than one."""
    store(admin, "late", "triggers: [version_changed, endpoint_changed]")
    Schedule.objects.update(updated_at=timezone.now() - timedelta(hours=1))
    now = changed(admin, version="2")
    assert admin("PATCH", "systems/orders/", {"version": "3"}).status == 200
    entry = AuditEntry.objects.order_by("id").last()
    assert entry is not None
    AuditEntry.objects.filter(pk=entry.pk).update(at=now - timedelta(seconds=33))
    Run.objects.update(state="ended", verdict="passed")
    for _ in range(3):
        assert look(("",)).changed == (Run.objects.count() == 1)
        clock.begin(now, due=False, changed=True)
    assert [run.cause for run in runs_of("late")] == ["version_changed"] * 2


@pytest.mark.parametrize("way", ["suite", "schedule"])
def test_what_waits_of_a_schedule_that_goes_is_cancelled(admin: Caller, orders: HttpReceiver, way: str) -> None:
    """Deleting the suite, or storing it without its schedule, lets no queued runs loose; the one that runs goes on."""
    store(admin, "gone", 'schedule: {cron: "* * * * *", overlap: queue}')
    now = timezone.now().replace(second=0, microsecond=0)
    for minutes in (3, 2, 1):
        Schedule.objects.update(next_at=now - timedelta(minutes=minutes))
        clock.begin(now - timedelta(minutes=minutes), due=True, changed=False)
    first = leases.take_next(uuid4())
    if way == "suite":
        assert admin("DELETE", "suites/gone/").status == 204
    else:
        store(admin, "gone", "", "PUT")
    assert leases.take_next(uuid4()) is None
    assert [run.verdict for run in runs_of("gone")] == ["", "cancelled", "cancelled"]
    assert first is not None
    assert Run.objects.get(pk=first.pk).cancelled_at is None


def test_runs_of_before_there_was_an_order_are_shuffled_by_their_id(admin: Caller, orders: HttpReceiver) -> None:
    """What they shared is taken from them, and a rerun of one has its rows in the same order."""
    store(admin, "old", "")
    old, new = (admin("POST", "suites/old/run/", {}).json["id"] for _ in range(2))
    Run.objects.filter(pk=old).update(created_at=timezone.now() - timedelta(days=9))
    executor = MigrationExecutor(connection)
    before = executor.loader.project_state([("testing", "0011_changes_seen")]).apps
    module = import_module("testing.migrations.0011_changes_seen")
    module.forget_shared_order(before, connection.schema_editor())
    assert Run.objects.get(pk=old).order is None
    assert Run.objects.get(pk=new).order is not None
    Run.objects.update(state="ended", verdict="passed")
    again = admin("POST", f"runs/{old}/rerun/", {})
    assert again.status == 202, again.body
    assert str(Run.objects.get(pk=again.json["id"]).order) == old
