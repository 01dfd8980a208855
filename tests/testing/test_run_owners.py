"""Whose a run is: of every team whose systems it touches; what they answered is for who sees all of them."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from testing.runner.worker import running
from tests.admin.conftest import sign_in
from tests.endpoints.conftest import Caller
from tests.messaging.factories import make_key, make_team
from tests.servers.http import HttpReceiver, Received
from tests.stack import wait_for
from tests.testing.conftest import register, until_ended

__all__ = ["sign_in"]

Signed = Callable[..., Client]
SMOKE = """\
suite: smoke
systems: {api: orders}
cases:
  - case: c
    steps: [{http: {system: api, path: /}, assert: [{status: {eq: 200}}]}]
"""
TWO = SMOKE.replace("smoke", "pair").replace("{api: orders}", "{api: red-shop, to: blue-shop}")
CALLER = "suite: calls\ncases:\n  - {case: c, steps: [{call: {suite: theirs, case: c}}]}\n"


@pytest.fixture
def teams(admin: Caller, orders: HttpReceiver) -> dict[str, Caller]:
    """Return an operator of each team; each team has a system, and `orders` is everyone's."""
    found = {}
    for name in ("red", "blue"):
        team = make_team(name)
        register(admin, f"{name}-shop", orders.url, owner=name)
        found[name] = Caller(make_key("operator", team=team))
    return found


def started(caller: Caller, suite: str, **wish: Any) -> str:
    answer = caller("POST", f"suites/{suite}/run/", wish)
    assert answer.status == 202, answer.body
    return str(answer.json["id"])


def stored(admin: Caller, text: str, **more: str) -> None:
    assert admin("POST", "suites/", {"text": text, **more}).status == 201


def seen(caller: Caller, run: str) -> bool:
    """Say whether a caller has a run; by its address, its report and its list alike."""
    is_listed = run in [row["id"] for row in caller("GET", "runs/?page_size=500").json["results"]]
    found = {caller("GET", f"runs/{run}/{path}").status for path in ("", "cases/", "report.json", "report.html")}
    assert found == ({200} if is_listed else {404})
    return is_listed


def test_a_run_is_of_the_team_whose_system_it_asks(admin: Caller, teams: dict[str, Caller]) -> None:
    """Whoever the suite is of: one that is everyone's shows no other team what red's system answered."""
    stored(admin, SMOKE)
    theirs = started(teams["red"], "smoke", systems={"api": "red-shop"})
    everyones = started(teams["red"], "smoke")

    assert [seen(teams[name], theirs) for name in ("red", "blue")] == [True, False]
    assert [seen(teams[name], everyones) for name in ("red", "blue")] == [True, True]


def test_a_run_on_systems_of_two_teams_is_for_who_sees_both(
    admin: Caller, teams: dict[str, Caller], sign_in: Signed
) -> None:
    """Neither team alone has it; nor is a suite's own team shown what another team's system answered."""
    stored(admin, TWO)
    stored(admin, SMOKE, owner="blue")
    pair, lent = started(admin, "pair"), started(admin, "smoke", systems={"api": "red-shop"})
    member, stranger = sign_in("operator", "red", "blue"), sign_in("operator", "red")

    for run in (pair, lent):
        assert [seen(teams[name], run) for name in ("red", "blue")] == [False, False]
        assert seen(admin, run)
        assert (member.get(f"/admin/runs/{run}/").status_code, stranger.get(f"/admin/runs/{run}/").status_code) == (
            200,
            404,
        )


def test_a_run_on_systems_of_two_teams_holds_its_locks_in_both(
    admin: Caller, teams: dict[str, Caller], orders: HttpReceiver
) -> None:
    """Whichever team comes first: a run of either waits for it, and it for them."""
    begun, let_go = threading.Semaphore(0), threading.Event()

    def answer(_: Received) -> int:
        begun.release()
        return 200 if let_go.is_set() else 503

    orders.answer_at("/gate", answer)
    locked = "execution: {locks: till}\ncases:"
    gate = "path: /gate}, poll: {within: 60s, every: 20ms}"
    stored(admin, TWO.replace("cases:", locked).replace("path: /}", gate))
    stored(admin, SMOKE.replace("smoke", "alone").replace("cases:", locked))
    with running():
        pair = started(admin, "pair")
        assert begun.acquire(timeout=30)
        others = [started(teams[name], "alone", systems={"api": f"{name}-shop"}) for name in ("red", "blue")]
        wait_for(
            lambda: {admin("GET", f"runs/{run}/").json["state"] for run in others} == {"running"},
            30,
            "workers on the other runs",
        )
        for _ in range(20):  # time enough for them to begin
            assert begun.acquire(timeout=30)
        let_go.set()
        assert [run["verdict"] for run in until_ended(admin, pair, *others)] == ["passed"] * 3
    paths = [found.path for found in orders.received]
    assert (paths.count("/gate"), paths[-2:]) == (len(paths) - 2, ["/", "/"])


def test_what_a_called_suite_asks_counts_as_well(admin: Caller, teams: dict[str, Caller]) -> None:
    """Known once the run begins, before anything was asked."""
    stored(admin, SMOKE.replace("smoke", "theirs").replace("orders", "red-shop"), owner="red")
    stored(admin, CALLER)
    run = started(teams["red"], "calls")
    with running():
        assert until_ended(admin, run)[0]["verdict"] == "passed"
    assert [seen(teams[name], run) for name in ("red", "blue")] == [True, False]
