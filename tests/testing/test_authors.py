"""What runs by itself acts with the rights that its author has when it is time, not with those they once had."""

import faulthandler
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone

from endpoints.models import Membership
from testing.models import Clock, Run, Schedule
from testing.runner.worker import running
from testing.services import clock
from tests.admin.conftest import sign_in
from tests.endpoints.conftest import Caller
from tests.endpoints.test_access import issuer, signed, with_env
from tests.servers.http import HttpReceiver

__all__ = ["issuer", "sign_in", "with_env"]

TEXT = """\
suite: nightly
systems: {api: orders}
schedule: {cron: "* * * * *", overlap: allow}
triggers: [version_changed]
cases:
  - case: asked
    steps: [{http: {system: api, path: /}, assert: [{status: {eq: 200}}]}]
"""


def keyed(admin: Caller, name: str, role: str = "editor", **more: str) -> tuple[Caller, str]:
    made = admin("POST", "keys/", {"name": name, "role": role, **more})
    assert made.status == 201, made.body
    return Caller(made.json["key"]), made.json["id"]


def tick(count: int) -> None:
    """Let a tick come now, in a worker, and wait for its run's end; `count` are the runs that there are then."""
    Schedule.objects.update(next_at=timezone.now() - timedelta(seconds=1))
    begun(count)


def begun(count: int) -> None:
    """Work until so many runs have ended."""
    with running(clock=lambda found: clock.begin(found.now, due=found.due, changed=found.changed)):
        until = time.monotonic() + 60
        while Run.objects.filter(state="ended").count() < count:
            if time.monotonic() > until:
                faulthandler.dump_traceback(sys.__stderr__)
                pytest.fail(f"not within 60 s: {list(Run.objects.values())}, {list(Schedule.objects.values())}")
            time.sleep(0.05)


def runs(caller: Caller) -> list[dict[str, Any]]:
    return list(caller("GET", "runs/").json["results"])


def schedule(caller: Caller) -> dict[str, Any]:
    return dict(caller("GET", "schedules/").json["results"][0])


def test_a_schedule_ends_with_the_key_that_stored_it(admin: Caller, orders: HttpReceiver) -> None:
    """It is paused with the reason, nothing was asked; an editor who resumes it is who it acts for."""
    author, key = keyed(admin, "leaver")
    operator, _ = keyed(admin, "night-shift", "operator")
    assert author("POST", "suites/", {"text": TEXT}).status == 201
    tick(1)
    assert [(run["verdict"], run["created_by"]) for run in runs(admin)] == [("passed", "key:leaver")]
    asked = len(orders.received)

    assert admin("POST", f"keys/{key}/revoke/").status == 200
    tick(2)
    last, found = runs(admin)[0], schedule(admin)
    assert (last["verdict"], last["reason"][:28]) == ("errored", "the schedule was paused: 'ke")
    assert (found["next_at"], found["paused_by"]) == (None, "scheduler")
    assert found["pause_reason"] == "'key:leaver' may act no more; it goes on for the editor who resumes it"
    assert len(orders.received) == asked
    assert admin("GET", "audit/?object_type=schedule").json["results"][0]["action"] == "pause"

    assert operator("POST", f"schedules/{found['id']}/resume/").status == 403
    assert admin("POST", f"schedules/{found['id']}/resume/").json["acts_for"] == "key:test-admin"
    tick(3)
    assert runs(admin)[0]["verdict"] == "passed"


def test_a_person_who_may_no_longer_run_suites_starts_none(
    admin: Caller, orders: HttpReceiver, sign_in: Callable[..., Client]
) -> None:
    """Demoted, or out of the team whose suite it is: neither a tick nor a change begins a run that asks anything."""
    red = Group.objects.create(name="red")
    client = sign_in("editor", "red")
    made = client.post("/api/v1/suites/", {"text": TEXT}, content_type="application/json")
    assert (made.status_code, made.json()["owner"]) == (201, "red")
    user = User.objects.get(groups=red)

    Clock.objects.get_or_create(defaults={"changes_until": timezone.now()})
    Membership.objects.filter(user=user).update(role="viewer")
    assert admin("PATCH", "systems/orders/", {"version": "2"}).status == 200
    Schedule.objects.update(next_at=None)
    begun(1)
    assert "may run the suite no more" in runs(admin)[0]["reason"]

    Membership.objects.filter(user=user).update(role="editor")
    assert client.post(f"/api/v1/schedules/{schedule(admin)['id']}/resume/").status_code == 200
    tick(2)
    assert (runs(admin)[0]["verdict"], len(orders.received)) == ("passed", 1)
    user.groups.clear()
    tick(3)
    assert (schedule(admin)["paused_by"], len(orders.received)) == ("scheduler", 1)


def test_a_run_that_waits_asks_again_when_a_worker_takes_it(admin: Caller, orders: HttpReceiver) -> None:
    """A key that was revoked meanwhile runs nothing."""
    operator, key = keyed(admin, "leaver", "operator")
    assert admin("POST", "suites/", {"text": TEXT}).status == 201
    run = operator("POST", "suites/nightly/run/", {}).json["id"]
    assert admin("POST", f"keys/{key}/revoke/").status == 200
    Schedule.objects.update(next_at=None)
    begun(1)

    found = admin("GET", f"runs/{run}/").json
    assert (found["verdict"], found["reason"]) == ("errored", "'key:leaver' may act no more")
    assert orders.received == []


def test_a_schedule_from_before_authors_were_kept_goes_on(admin: Caller, orders: HttpReceiver) -> None:
    """It keeps what it has until its suite is saved again."""
    author, key = keyed(admin, "leaver")
    assert author("POST", "suites/", {"text": TEXT}).status == 201
    Schedule.objects.update(author="")
    assert admin("POST", f"keys/{key}/revoke/").status == 200
    tick(1)
    assert runs(admin)[0]["verdict"] == "passed"
    assert admin("PUT", "suites/nightly/", {"text": f"{TEXT}# new\n"}).status == 200
    assert schedule(admin)["acts_for"] == "key:test-admin"
    assert Schedule.objects.get().author.startswith("key:")


def test_a_token_stores_no_schedule(admin: Caller, orders: HttpReceiver, issuer: None) -> None:
    """What its bearer may do cannot be asked when it is time; a suite that waits to be run is theirs to store."""
    bearer = Caller(signed(roles=["editor"]))
    refused = bearer("POST", "suites/", {"text": TEXT})
    plain = "".join(line for line in TEXT.splitlines(keepends=True) if not line.startswith(("schedule", "triggers")))

    assert (refused.status, refused.json["code"]) == (422, "needs_account")
    assert admin("GET", "suites/").json["results"] == []
    assert bearer("POST", "suites/", {"text": plain}).status == 201
