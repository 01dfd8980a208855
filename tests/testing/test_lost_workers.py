"""Two clocks, three workers, workers killed at random: every tick has its run, every run a verdict, none is stuck."""

import os
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.servers.brokers import broker_settings
from tests.servers.fixtures import http_receiver
from tests.servers.http import HttpReceiver
from tests.stack import Stack
from tests.testing.test_schedules import ONE_ENGINE, moments, runs_of, set_next

__all__ = ["http_receiver"]

LONG_RUNS = int(os.environ.get("LONG_RUNS", "200"))
LEASE_S = "2"
WORKERS = {"one": (), "two": (), "three": ("--no-beat",)}
TEXT = """\
suite: nightly
systems: {api: crm}
schedule: {cron: "* * * * *", overlap: allow, missed: run}
execution: {mode: MODE, max: 4}
cases:
  - case: reads
    steps: [{wait: 100ms}, {http: {system: api}, assert: [{status: {eq: 200}}]}]
  - case: writes
    steps: [{http: {system: api, method: POST}, assert: [{status: {eq: 200}}]}, {wait: 100ms}]
  - case: after
    needs: [reads]
    steps: [{http: {system: api}, assert: [{status: {eq: 200}}]}]
"""
VERDICTS = {"passed", "errored"}  # errored: a worker was lost in what cannot run twice


def through(stack: Stack, ticks: int, mode: str, kills: int) -> dict[str, Any]:
    """Let so many ticks come due while workers are killed and started again; return what came of it."""
    stack.api("POST", "suites/", json={"text": TEXT.replace("MODE", mode)})
    last = datetime.now(UTC).replace(second=0, microsecond=0)
    due = [last - timedelta(minutes=number) for number in range(ticks)][::-1]
    dice = random.Random(ticks)
    set_next(stack, due[0])
    killed, next_kill = 0, time.monotonic() + 1.0
    until = time.monotonic() + 60 + ticks * 3

    def ended() -> list[dict[str, Any]]:
        found = runs_of(stack)
        assert time.monotonic() < until, [run for run in found if run["state"] != "ended"][:5]
        return found if len(found) >= ticks and all(run["state"] == "ended" for run in found) else []

    while not (found := ended()):
        if time.monotonic() >= next_kill and killed < kills:
            name = dice.choice(list(WORKERS))
            stack.kill(name)
            stack.start("worker", *WORKERS[name], name=name)
            killed, next_kill = killed + 1, time.monotonic() + dice.uniform(1.0, 6.0)
        time.sleep(0.5)
    return {"due": due, "runs": sorted(found, key=lambda run: run["due_at"]), "killed": killed}


def proven(stack: Stack, ticks: int, mode: str, kills: int) -> None:
    came = through(stack, ticks, mode, kills)
    runs = came["runs"]
    lost = sum(run["verdict"] == "errored" for run in runs)
    retaken = stack.sql("SELECT count(*) FROM testing_run WHERE losses > 0")[0][0]
    print(
        f"{len(runs)} runs, {came['killed']} workers killed, {retaken} taken over, {lost} ended errored (worker lost)"
    )
    assert moments(runs)[:ticks] == came["due"]
    assert len(set(moments(runs))) == len(runs)
    assert {run["verdict"] for run in runs} <= VERDICTS
    assert all("worker lost" in run["reason"] for run in runs if run["verdict"] == "errored"), runs
    assert stack.sql("SELECT count(*) FROM testing_caserun") == [(3 * len(runs),)]
    assert stack.sql("SELECT count(*) FROM testing_share WHERE state <> 'ended'") == [(0,)]


def begun(make_stack: Callable[..., Stack], receiver: HttpReceiver, broker: str) -> Stack:
    stack = make_stack(CONTROLPLANE_LEASE_S=LEASE_S, **broker_settings(broker))
    stack.start("web")
    stack.register("crm", receiver.url)
    for name, options in WORKERS.items():
        stack.start("worker", *options, name=name)
    return stack


@pytest.mark.parametrize("broker", ["embedded"])
def test_killed_workers_lose_no_tick_and_no_run(
    make_stack: Callable[..., Stack], http_receiver: HttpReceiver, broker: str
) -> None:
    """A dozen ticks, three kills; the long test below does it in the large."""
    proven(begun(make_stack, http_receiver, broker), 12, "distributed", kills=3)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("broker", ["embedded", "rabbitmq", "redis"])
@pytest.mark.parametrize("mode", ["sequential", "distributed"])
def test_killed_workers_lose_nothing_in_the_large(
    make_stack: Callable[..., Stack], http_receiver: HttpReceiver, broker: str, mode: str
) -> None:
    """As many runs as LONG_RUNS says, workers killed at random all the while."""
    proven(begun(make_stack, http_receiver, broker), LONG_RUNS, mode, kills=LONG_RUNS)


@ONE_ENGINE
@pytest.mark.parametrize("broker", ["rabbitmq", "redis", "gone"])
def test_runs_go_through_with_a_broker_and_without(
    make_stack: Callable[..., Stack], http_receiver: HttpReceiver, broker: str
) -> None:
    """With a broker that answers or one that is gone, runs are made at once and worked; who stops, stops."""
    stack = begun(make_stack, http_receiver, broker)
    stack.api("POST", "suites/", json={"text": TEXT.replace("MODE", "distributed")})
    began = time.monotonic()
    made = stack.api("POST", "suites/nightly/run/", json={})
    assert (made.status_code, time.monotonic() - began < 5) == (202, True)

    def ended() -> bool:
        return str(stack.api("GET", f"runs/{made.json()['id']}/").json()["verdict"]) == "passed"

    stack.wait_for(ended, 30, "the run")
    assert stack.terminate("three") == 0
