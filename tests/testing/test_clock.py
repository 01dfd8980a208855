"""What begins by itself, one look at a time: the clock is told what time it is, and rows say what came of it."""

from datetime import UTC, datetime, timedelta
from typing import Any

from testing.models import Run, Schedule
from testing.services import clock
from tests.endpoints.conftest import Caller
from tests.servers.http import HttpReceiver

TEXT = """\
suite: SLUG
systems: {api: orders}
MORE
cases:
  - case: asked
    steps: [{http: {system: api, path: /ok}, assert: [{status: {eq: 200}}]}]
"""
MONDAYS = 'schedule: {cron: "0 8 * * 1", overlap: allow, missed: run}'


def store(admin: Caller, slug: str, more: str, method: str = "POST") -> Schedule:
    path = "suites/" if method == "POST" else f"suites/{slug}/"
    found = admin(method, path, {"text": TEXT.replace("SLUG", slug).replace("MORE", more)})
    assert found.status in (200, 201), found.body
    return Schedule.objects.get(suite__slug=slug)


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
