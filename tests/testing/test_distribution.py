"""Runs spread over real workers: shares, locations, locks, and what becomes of work whose worker is killed."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from tests.servers.answers import HANG
from tests.servers.fixtures import http_receiver
from tests.servers.http import HttpReceiver
from tests.stack import Stack
from tests.testing.test_schedules import ONE_ENGINE
from tests.testing.test_suites_api import ended, started

__all__ = ["http_receiver"]

SPREAD = """\
suite: spread
systems: {api: crm}
vars: {token: "${{ uuid }}"}
execution: {mode: distributed, max: 2}
setup:
  - http: {system: api, method: POST, path: /begin, json: {token: "${{ vars.token }}"}}
    assert: [{status: {eq: 200}}]
    capture: {said: status}
teardown: [{http: {system: api, method: POST, path: /end}, assert: [{status: {eq: 200}}]}]
cases:
"""
LOST = """\
suite: lost
systems: {api: crm}
cases:
  - case: reads
    steps: [{http: {system: api, path: /read}, assert: [{status: {eq: 200}}]}]
  - case: writes
    steps: [{http: {system: api, method: POST, path: /write}, assert: [{status: {eq: 200}}], timeout: 60s}]
  - case: reads-again
    steps: [{http: {system: api, path: /again}, assert: [{status: {eq: 200}}]}]
  - case: writes-later
    steps: [{http: {system: api, method: POST, path: /later}, assert: [{status: {eq: 200}}]}]
teardown: [{http: {system: api, path: /end}, assert: [{status: {eq: 200}}]}]
"""
LOCKED = """\
suite: SLUG
systems: {api: crm}
execution: {mode: parallel, max: 4}
cases:
  - {case: one, locks: till, steps: [{wait: 250ms}]}
  - {case: two, locks: [till, other], steps: [{wait: 250ms}]}
"""
MANY = """\
suite: many
systems: {api: crm}
execution: {mode: parallel, max: 32}
cases:
"""


def begun(make_stack: Callable[..., Stack], receiver: HttpReceiver, *workers: str, **settings: str) -> Stack:
    stack = make_stack(**settings)
    stack.start("web")
    stack.register("crm", receiver.url)
    for name in workers:
        stack.start("worker", name=name)
    return stack


def store(stack: Stack, text: str) -> str:
    answer = stack.api("POST", "suites/", json={"text": text})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["slug"])


def verdicts(run: dict[str, Any]) -> dict[str, str]:
    return {case["case"]: case["verdict"] for case in run["cases"]}


def test_a_distributed_run_is_worked_by_several(make_stack: Callable[..., Stack], http_receiver: HttpReceiver) -> None:
    """Cases go to several workers, those that need each other to one; setup and teardown run once."""
    stack = begun(make_stack, http_receiver, "one", "two")
    step = "{http: {system: api, path: '/${{ vars.token }}/${{ captures.said }}'}, assert: [{status: {eq: 200}}]}"
    cases = "".join(f"  - {{case: c{n}, steps: [{{wait: 150ms}}, {step}]}}\n" for n in range(40))
    cases += f"  - {{case: after, needs: [c0], steps: [{step}]}}\n"
    run = ended(stack, started(stack, store(stack, SPREAD + cases)))

    assert (run["verdict"], run["counts"], run["reason"]) == ("passed", {"passed": 41}, "")
    asked = [request.path for request in http_receiver.received]
    assert (asked.count("/begin"), asked.count("/end"), asked[-1]) == (1, 1, "/end")
    assert len(set(asked[1:-1])) == 1
    assert asked[1].endswith("/200")
    workers = stack.sql("SELECT DISTINCT worker FROM testing_share")
    assert len(workers) == 2, workers
    [alone] = stack.sql("SELECT count(*) FROM testing_share WHERE state <> 'ended'")
    assert alone == (0,)


def test_a_killed_worker_loses_what_cannot_run_twice_and_nothing_else(
    make_stack: Callable[..., Stack], http_receiver: HttpReceiver
) -> None:
    """The next worker goes on: what stands stands, a case that had begun to write is lost, others run, teardown too."""
    stack = begun(make_stack, http_receiver, "one", CONTROLPLANE_LEASE_S="2")
    http_receiver.answer_at("/write", HANG)
    run = started(stack, store(stack, LOST))
    stack.wait_for(lambda: "/write" in [request.path for request in http_receiver.received], 30, "the write")
    stack.wait_for(lambda: stack.sql("SELECT count(*) FROM testing_caserun") == [(1,)], 10, "what passed, stored")
    stack.kill("one")
    stack.start("worker", name="two")
    found = ended(stack, run)

    assert (found["verdict"], found["reason"]) == ("errored", "writes: worker lost")
    assert {name for name, verdict in verdicts(found).items() if verdict == "passed"} == {
        "reads",
        "reads-again",
        "writes-later",
        "teardown",
    }
    assert [request.path for request in http_receiver.received] == ["/read", "/write", "/again", "/later", "/end"]
    assert found["counts"] == {"passed": 3, "errored": 1}
    assert stack.sql("SELECT count(*) FROM testing_begun") == [(0,)]


def test_a_lost_share_is_worked_by_another(make_stack: Callable[..., Stack], http_receiver: HttpReceiver) -> None:
    """A worker killed within a share costs nothing but time if no case that writes had begun, whoever leads the run."""
    stack = begun(make_stack, http_receiver, "one", "two", CONTROLPLANE_LEASE_S="2")
    text = SPREAD[: SPREAD.index("setup:")] + "cases:\n"
    step = "{http: {system: api, path: /slow}, assert: [{status: {eq: 200}}], timeout: 60s}"
    cases = "".join(f"  - {{case: c{n}, steps: [{step}]}}\n" for n in range(8))
    write = "{http: {system: api, method: POST, path: /write}, assert: [{status: {eq: 200}}]}"
    cases += "".join(f"  - {{case: w{n}, needs: [c{n}], steps: [{write}]}}\n" for n in range(8))
    http_receiver.answer(HANG)
    run = started(stack, store(stack, text + cases))
    http_receiver.wait_for(2)
    http_receiver.answer(200)
    stack.kill("one")
    stack.kill("two")
    stack.start("worker", name="three")
    found = ended(stack, run)

    assert (found["verdict"], found["counts"]) == ("passed", {"passed": 16})
    assert sum(request.path == "/write" for request in http_receiver.received) == 8


def test_a_lock_is_held_by_one_case_of_all_runs(make_stack: Callable[..., Stack], http_receiver: HttpReceiver) -> None:
    """Two runs in two workers want the same lock: no two of their cases overlap."""
    stack = begun(make_stack, http_receiver, "one", "two")
    slugs = [store(stack, LOCKED.replace("SLUG", slug)) for slug in ("left", "right")]
    found = [ended(stack, run) for run in [started(stack, slug) for slug in slugs]]
    cases = [case for run in found for case in run["cases"]]
    spans = sorted((datetime.fromisoformat(case["started_at"]), case["took_ms"]) for case in cases)

    assert [run["verdict"] for run in found] == ["passed", "passed"]
    for (began, took_ms), (after, _) in pairwise(spans):
        assert began + timedelta(milliseconds=took_ms) <= after + timedelta(milliseconds=1), spans
    assert stack.sql("SELECT count(*) FROM testing_lock") == [(0,)]


@ONE_ENGINE
def test_shares_that_wait_for_a_lock_leave_room_for_who_holds_it(
    make_stack: Callable[..., Stack], http_receiver: HttpReceiver
) -> None:
    """Shares of four runs wait in every worker for what a fifth run holds: its own shares are taken all the same."""
    stack = begun(make_stack, http_receiver, "one", "two")
    http_receiver.answer_at("/gate", 503)
    top = SPREAD[: SPREAD.index("setup:")]
    gate = "{http: {system: api, path: /gate}, assert: [{status: {eq: 200}}], poll: {within: 3m, every: 50ms}}"
    mine = top.replace("max: 2", "max: 2, locks: till").replace("spread", "holder") + f"setup: [{gate}]\ncases:\n"
    mine += "".join(f"  - {{case: c{n}, steps: [{{wait: 10ms}}]}}\n" for n in range(4))
    locked = "".join(f"  - {{case: c{n}, locks: till, steps: [{{wait: 10ms}}]}}\n" for n in range(2))
    holder = started(stack, store(stack, mine))
    stack.wait_for(lambda: http_receiver.received, 30, "the setup of the run that holds the lock")
    others = [started(stack, store(stack, f"{top.replace('spread', f'waits-{n}')}cases:\n{locked}")) for n in range(4)]
    taken = "SELECT count(*) FROM testing_share WHERE state = 'running'"
    stack.wait_for(lambda: stack.sql(taken) == [(8,)], 60, "the shares of the others in both workers")
    http_receiver.answer_at("/gate", 200)

    assert [ended(stack, run)["verdict"] for run in (holder, *others)] == ["passed"] * 5


def test_a_run_that_lost_a_lock_stops(make_stack: Callable[..., Stack], http_receiver: HttpReceiver) -> None:
    """Another may work under it by now: what runs is cut off, and the verdict says why."""
    stack = begun(make_stack, http_receiver, "one")
    http_receiver.answer(HANG)
    run = started(stack, store(stack, LOST.replace("systems:", "execution: {locks: till}\nsystems:")))
    http_receiver.wait_for(1)
    stack.sql("UPDATE testing_lock SET holder = ?", "0" * 32)
    http_receiver.answer(200)
    found = ended(stack, run)

    assert (found["verdict"], found["reason"]) == ("errored", "a lock that it held was lost to another run")
    assert stack.sql("SELECT count(*) FROM testing_lock") == [(1,)]


@ONE_ENGINE
def test_a_run_goes_to_workers_of_its_location(make_stack: Callable[..., Stack], http_receiver: HttpReceiver) -> None:
    """A worker takes the runs of its locations alone; the command leaves such a run to them and waits."""
    stack = begun(make_stack, http_receiver, "here")
    slug = store(stack, LOST.replace("method: POST, ", ""))
    there = started(stack, slug, location="eu")
    assert ended(stack, started(stack, slug))["verdict"] == "passed"
    assert stack.api("GET", f"runs/{there['id']}/").json()["state"] == "waiting"
    stack.start("worker", "--location", "eu", name="eu")
    assert ended(stack, there)["location"] == "eu"
    done = stack.command("run_suite", slug, "--location", "eu")
    assert done.returncode == 0, done.stderr
    assert stack.command("worker", "--location", "E U").returncode == 1


def test_a_thousand_cases_take_ten_seconds_and_a_cancel_takes_one(
    make_stack: Callable[..., Stack], http_receiver: HttpReceiver
) -> None:
    """All rows are stored; a cancel ends a run of hanging cases within a moment, each with its verdict."""
    stack = begun(make_stack, http_receiver, "one")
    step = "{http: {system: api, path: /ok}, assert: [{status: {eq: 200}}]}"
    text = MANY + "".join(f"  - {{case: c{n}, steps: [{step}]}}\n" for n in range(1000))
    slug = store(stack, text)
    run = ended(stack, started(stack, slug), 60)
    took_s = (datetime.fromisoformat(run["finished_at"]) - datetime.fromisoformat(run["started_at"])).total_seconds()
    print(f"1,000 cases in {took_s:.2f} s")
    assert (run["verdict"], run["counts"]) == ("passed", {"passed": 1000})
    assert took_s < 30  # of ten; beside other tests
    assert stack.sql("SELECT count(*) FROM testing_attempt") == [(1000,)]

    http_receiver.answer(HANG)
    hanging = started(stack, slug)
    http_receiver.wait_for(1016)
    began = time.monotonic()
    assert stack.api("POST", f"runs/{hanging['id']}/cancel/").status_code == 200
    found = ended(stack, hanging)
    print(f"cancelled in {time.monotonic() - began:.2f} s")
    assert (found["verdict"], found["counts"]) == ("cancelled", {"cancelled": 1000})
    assert time.monotonic() - began < 5


def test_nobody_begins_a_share_of_what_is_over(make_stack: Callable[..., Stack], http_receiver: HttpReceiver) -> None:
    """Neither one that a run left which ended without it, nor one whose worker was lost once it was to stop."""
    stack = begun(make_stack, http_receiver, "one")
    http_receiver.answer(HANG)
    step = "{http: {system: api, method: POST, path: /write}, assert: [{status: {eq: 200}}], timeout: 60s}"
    text = SPREAD[: SPREAD.index("setup:")] + "cases:\n"
    text += "".join(f"  - {{case: c{n}, steps: [{step}]}}\n" for n in range(4))
    for slug in ("left", "stopped"):
        started(stack, store(stack, text.replace("spread", slug)))
    http_receiver.wait_for(2)  # each in its first share
    stack.kill("one")
    for change in (
        "UPDATE testing_run SET state = 'ended', verdict = 'errored' WHERE slug = 'left'",
        "UPDATE testing_run SET lease_until = '2100-01-01 00:00:00+00:00' WHERE slug = 'stopped'",
        "UPDATE testing_share SET stop_verdict = 'cancelled' WHERE run_id IN "
        "(SELECT id FROM testing_run WHERE slug = 'stopped')",
        "UPDATE testing_share SET lease_until = '2000-01-01 00:00:00+00:00' WHERE state = 'running'",
    ):
        stack.sql(change)
    http_receiver.answer(200)
    asked = len(http_receiver.received)
    stack.start("worker", name="two")
    over = "SELECT DISTINCT state FROM testing_share"
    stack.wait_for(lambda: stack.sql(over) == [("ended",)], 30, "the end of the shares")

    assert len(http_receiver.received) == asked
