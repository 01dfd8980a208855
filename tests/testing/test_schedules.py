"""Suites that run by themselves: over REST, worked by real worker processes that keep as many clocks."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.servers.answers import HANG
from tests.servers.fixtures import http_receiver
from tests.servers.http import HttpReceiver
from tests.stack import Stack

__all__ = ["http_receiver"]

TEXT = """\
suite: nightly
systems: {api: crm}
schedule: {cron: "* * * * *", timezone: Europe/Amsterdam, overlap: allow, missed: run}
cases:
  - case: asked
    steps: [{http: {system: api, path: /ok}, assert: [{status: {eq: 200}}]}]
"""
# What is the same on either engine is shown on one: processes take their time.
ONE_ENGINE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
WORKERS = ("one", "two", "three")


def stored(stack: Stack, text: str = TEXT) -> dict[str, Any]:
    """Store a suite, or a new version of it, and return its schedule."""
    answer = stack.api("POST", "suites/", json={"text": text})
    if answer.status_code == 409:
        answer = stack.api("PUT", f"suites/{text.split()[1]}/", json={"text": text})
    assert answer.status_code in (200, 201), answer.text
    found: list[dict[str, Any]] = stack.api("GET", f"schedules/?suite={answer.json()['slug']}").json()["results"]
    return found[0] if found else {}


def make_due(stack: Stack, minutes: int) -> list[datetime]:
    """Put a schedule back by so many minutes, as if no worker had been there; return the ticks that are due."""
    last = datetime.now(UTC).replace(second=0, microsecond=0)
    ticks = [last - timedelta(minutes=number) for number in range(minutes)][::-1]
    set_next(stack, ticks[0])
    return ticks


def set_next(stack: Stack, tick: datetime) -> None:
    is_sqlite = stack.database_url.startswith("sqlite")
    stack.sql(
        "UPDATE testing_schedule SET next_at = ?", tick.replace(tzinfo=None).isoformat(" ") if is_sqlite else tick
    )


def next_tick(stack: Stack, state: str) -> dict[str, Any]:
    """Let a tick come now, and return its run once it is in a state."""
    before = {run["id"] for run in runs_of(stack)}
    set_next(stack, datetime.now(UTC))

    def look() -> dict[str, Any] | None:
        fresh = [run for run in runs_of(stack) if run["id"] not in before]
        return fresh[0] if fresh and fresh[0]["state"] == state else None

    return stack.wait_for(look, 30, f"a run that is {state}")  # type: ignore[return-value]


def runs_of(stack: Stack, suite: str = "nightly", cause: str = "schedule") -> list[dict[str, Any]]:
    found = stack.api("GET", f"runs/?suite={suite}&page_size=500").json()["results"]
    return [run for run in found if run["cause"] == cause]


def ended(stack: Stack, count: int, suite: str = "nightly", cause: str = "schedule") -> list[dict[str, Any]]:
    """Return the runs of a suite, the oldest tick first, once there are so many and all have ended."""

    def look() -> list[dict[str, Any]] | None:
        found = runs_of(stack, suite, cause)
        done = len(found) >= count and all(run["state"] == "ended" for run in found)
        return sorted(found, key=lambda run: run["due_at"] or run["created_at"]) if done else None

    return list(stack.wait_for(look, 60, f"{count} runs of {suite}"))  # type: ignore[arg-type]


def moments(runs: list[dict[str, Any]]) -> list[datetime]:
    return [datetime.fromisoformat(run["due_at"]) for run in runs]


def begun(make_stack: Callable[..., Stack], receiver: HttpReceiver, *workers: str) -> Stack:
    stack = make_stack()
    stack.start("web")
    stack.register("crm", receiver.url)
    for name in workers:
        stack.start("worker", name=name)
    return stack


def test_each_tick_has_exactly_one_run_with_three_clocks(
    make_stack: Callable[..., Stack], http_receiver: HttpReceiver
) -> None:
    """Three workers keep three clocks: twenty ticks have twenty runs, each of its tick and passed."""
    stack = begun(make_stack, http_receiver, *WORKERS)
    schedule = stored(stack)
    assert (schedule["cron"], schedule["timezone"], len(schedule["next_ticks"])) == ("* * * * *", "Europe/Amsterdam", 5)
    ticks = make_due(stack, 20)
    found = ended(stack, 20)

    assert moments(found)[:20] == ticks
    assert len({run["due_at"] for run in found}) == len(found)
    assert {run["verdict"] for run in found} == {"passed"}
    after = datetime.fromisoformat(stack.api("GET", f"schedules/{schedule['id']}/").json()["next_at"])
    assert after > ticks[-1]


@ONE_ENGINE
def test_a_schedule_follows_its_document(make_stack: Callable[..., Stack], http_receiver: HttpReceiver) -> None:
    """It changes and goes with the document; paused it has no tick, and a run from a file leaves it alone."""
    stack = begun(make_stack, http_receiver)
    schedule = stored(stack)
    path = f"schedules/{schedule['id']}/"
    paused = stack.api("POST", f"{path}pause/", json={"reason": "too loud"}).json()
    assert (paused["next_at"], paused["next_ticks"], paused["pause_reason"]) == (None, [], "too loud")
    assert stack.api("POST", f"{path}pause/", json={}).status_code == 409
    assert stored(stack, TEXT.replace("* * * * *", "30 4 * * *"))["next_at"] is None
    assert stack.api("POST", f"{path}resume/", json={}, key=stack.key("viewer")).status_code == 403
    resumed = stack.api("POST", f"{path}resume/", json={}).json()
    assert [tick[11:16] for tick in resumed["next_ticks"]] in (["02:30"] * 5, ["03:30"] * 5) or resumed["next_ticks"]
    file = stack.var / "other.yaml"
    file.write_text(TEXT.replace("* * * * *", "0 1 * * *"))
    assert stack.command("run_suite", str(file)).returncode == 0
    assert stack.api("GET", path).json()["cron"] == "30 4 * * *"
    bad = TEXT.replace("* * * * *", "61 * * * *")
    answer = stack.api("POST", "suites/check/", json={"text": bad})
    assert (answer.status_code, answer.json()["errors"][0]["line"]) == (422, "3")
    assert stored(stack, "\n".join(line for line in TEXT.splitlines() if "schedule" not in line)) == {}
    assert stack.api("GET", path).status_code == 404


@ONE_ENGINE
def test_missed_and_overlapping_ticks_follow_their_policies(
    make_stack: Callable[..., Stack], http_receiver: HttpReceiver
) -> None:
    """Missed ticks have one run or none; a tick during a run is skipped, or waits for it, and says so."""
    stack = begun(make_stack, http_receiver)
    text = TEXT.replace("overlap: allow, missed: run", "overlap: skip, missed: coalesce")
    stored(stack, text)
    ticks = make_due(stack, 30)
    stack.start("worker", name="one")
    assert moments(ended(stack, 1))[:1] == ticks[-1:]

    http_receiver.answer(HANG)
    first = next_tick(stack, "running")
    second = next_tick(stack, "ended")
    assert (second["verdict"], second["reason"][:19]) == ("skipped", "overlap: the run of")

    assert stored(stack, text.replace("overlap: skip", "overlap: queue"))["overlap"] == "queue"
    third = next_tick(stack, "waiting")
    http_receiver.answer(200)
    assert stack.api("POST", f"runs/{first['id']}/cancel/").status_code == 200
    found = {run["id"]: run for run in ended(stack, 4)}
    assert (found[first["id"]]["verdict"], found[third["id"]]["verdict"]) == ("cancelled", "passed")
    assert found[third["id"]]["started_at"] >= found[first["id"]]["finished_at"]


@ONE_ENGINE
def test_nothing_runs_while_a_named_system_is_in_maintenance(
    make_stack: Callable[..., Stack], http_receiver: HttpReceiver
) -> None:
    """By itself or by hand, the run is skipped and names the window; who insists says so."""
    stack = begun(make_stack, http_receiver, "one")
    stored(stack)
    until = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    window = {"until": until, "reason": "new disks"}
    assert stack.api("POST", "systems/crm/maintenance/", json=window).status_code == 201
    make_due(stack, 1)
    by_itself = ended(stack, 1)[0]
    by_hand = stack.api("POST", "suites/nightly/run/", json={}).json()
    for run in (by_itself, by_hand):
        assert (run["state"], run["verdict"]) == ("ended", "skipped")
        assert run["reason"].startswith("system 'crm' is in maintenance until ")
        assert run["reason"].endswith("UTC (new disks)")
    assert http_receiver.received == []
    insisting = stack.api("POST", "suites/nightly/run/", json={"during_maintenance": True})
    assert insisting.status_code == 202
    assert ended(stack, 2, cause="hand")[-1]["verdict"] == "passed"


@ONE_ENGINE
def test_a_suite_waits_for_the_verdict_of_another(
    make_stack: Callable[..., Stack], http_receiver: HttpReceiver
) -> None:
    """Needs hold for ticks as for runs by hand: blocked, naming the other suite, until that one passed."""
    stack = begun(make_stack, http_receiver, "one")
    smoke = TEXT.replace("nightly", "smoke").replace(
        'schedule: {cron: "* * * * *", timezone: Europe/Amsterdam, overlap: allow, missed: run}', ""
    )
    assert stored(stack, smoke) == {}
    stored(stack, TEXT.replace("cases:", "needs: [{suite: smoke, if: passed, within: 1h}]\ncases:"))
    make_due(stack, 1)
    assert [(run["verdict"], run["reason"]) for run in ended(stack, 1)] == [
        ("blocked", "needs suite 'smoke', which never ran")
    ]
    stack.api("POST", "suites/smoke/run/", json={})
    ended(stack, 1, "smoke", "hand")
    stack.api("POST", "suites/nightly/run/", json={})
    assert ended(stack, 1, cause="hand")[0]["verdict"] == "passed"


def test_a_change_of_a_named_system_runs_the_suite_once(
    make_stack: Callable[..., Stack], http_receiver: HttpReceiver
) -> None:
    """A change makes one run, by one of three clocks, however many come together; others are nothing to it."""
    stack = begun(make_stack, http_receiver, *WORKERS)
    stack.register("other", http_receiver.url)
    text = TEXT.replace(
        'schedule: {cron: "* * * * *", timezone: Europe/Amsterdam, overlap: allow, missed: run}',
        "triggers: [version_changed, endpoint_changed]",
    )
    schedule = stored(stack, text)
    assert (schedule["cron"], schedule["next_at"], schedule["triggers"]) == (
        "",
        None,
        ["version_changed", "endpoint_changed"],
    )
    stack.api("PATCH", "systems/other/", json={"version": "7"})
    for version in ("1", "2", "3"):
        assert stack.api("PATCH", "systems/crm/", json={"version": version}).status_code == 200
    runs = ended(stack, 1, cause="version_changed")
    assert {run["verdict"] for run in runs} == {"passed"}
    endpoint = stack.api("GET", "endpoints/?system=crm").json()["results"][0]
    assert stack.api("PATCH", f"endpoints/{endpoint['id']}/", json={"path": "/other"}).status_code == 200
    assert [run["verdict"] for run in ended(stack, 1, cause="endpoint_changed")] == ["passed"]
    # A clock that looks between two changes makes a run of each; three clocks that saw the same would make nine.
    assert len(runs_of(stack, cause="version_changed")) <= 3
