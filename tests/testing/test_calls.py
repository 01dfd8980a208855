"""The step `call`: another case's steps stand here, with variables and aliases of their own, and never in a circle."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import Group

from endpoints import services
from endpoints.access.principal import COMMAND
from testing.document.reader import read_suite
from testing.runner.resuming import is_safe
from testing.runner.worker import running
from tests.endpoints.conftest import Caller
from tests.servers.http import HttpReceiver
from tests.testing.conftest import Outcome, answer, register, until_ended

Run = Callable[..., Outcome]
LOGIN = """
suite: login
systems: {auth: orders}
vars: {user: nobody}
cases:
  - case: sign-in
    steps:
      - http: {system: auth, method: POST, path: /login, json: {user: "${{ vars.user }}"}}
        assert: [{status: {eq: 200}}]
        capture: {token: body.$.token}
        cleanup: {http: {system: auth, method: DELETE, path: "/login/${{ captures.token }}"}}
"""


def test_a_called_case_runs_here_as_itself(run: Run, admin: Caller, orders: HttpReceiver) -> None:
    """Its variables and aliases are its own, its captures come back as the body, its cleanup runs at our end."""
    assert admin("POST", "suites/", {"text": LOGIN}).status == 201
    orders.answer_at("/login", answer(200, {"token": "t-1"}))
    done = run(
        """
suite: shop
systems: {api: orders}
vars: {user: ours}
cases:
  - case: buy
    steps:
      - call: {suite: login, case: sign-in, vars: {user: ada}}
        capture: {token: body.$.token}
      - http: {system: api, path: "/${{ captures.token }}/${{ vars.user }}"}
        assert: [{status: {eq: 200}}]
"""
    )

    assert done.code == 0, done.out
    asked = [(found.method, found.path) for found in orders.received]
    assert asked == [("POST", "/login"), ("GET", "/t-1/ours"), ("DELETE", "/login/t-1")]
    assert b'"ada"' in orders.received[0].body
    steps = done.cases["buy"]["steps"]
    assert [step["kind"] for step in steps] == ["call", "http", "http", "http"]
    assert steps[0]["attempts"][0]["request"] == {"suite": "login", "case": "sign-in", "version": 1}


def test_an_alias_of_the_called_suite_can_stand_for_one_of_ours(run: Run, admin: Caller, orders: HttpReceiver) -> None:
    """Without that it stands for what its own document says, whatever the alias means here."""
    assert admin("POST", "suites/", {"text": LOGIN}).status == 201
    orders.answer_at("/login", answer(200, {"token": "t-1"}))
    with HttpReceiver() as ours:
        ours.answer_at("/login", answer(200, {"token": "t-2"}))
        register(admin, "ours", ours.url)
        call = "{call: {suite: login, case: sign-in%s}}"
        text = f"suite: shop\nsystems: {{auth: ours}}\ncases:\n  - {{case: c, steps: [{call}]}}"
        assert run(text % "").code == 0
        assert (len(orders.received), len(ours.received)) == (2, 0)
        assert run(text % ", systems: {auth: auth}").code == 0
        assert (len(orders.received), len(ours.received)) == (2, 2)


def test_the_maintenance_of_what_is_called_is_kept(run: Run, admin: Caller, orders: HttpReceiver) -> None:
    """Through however many calls a system is reached, its window holds; not where one of ours stands in for it."""
    assert admin("POST", "suites/", {"text": LOGIN}).status == 201
    via = "suite: via\nsystems: {mine: ours}\ncases: [{case: on, steps: [%s]}]"
    call = "{call: {suite: login, case: sign-in%s}}"
    orders.answer_at("/login", answer(200, {"token": "t-1"}))
    with HttpReceiver() as ours:
        ours.answer_at("/login", answer(200, {"token": "t-2"}))
        register(admin, "ours", ours.url)
        assert admin("POST", "suites/", {"text": via % (call % "")}).status == 201
        until = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
        assert admin("POST", "systems/orders/maintenance/", {"until": until}).status == 201
        text = "suite: shop\nsystems: {auth: ours}\ncases:\n  - {case: c, steps: [%s]}"
        through = text % "{group: [{call: {suite: via, case: on}}]}"
        done = [run(text % (call % "")), run(through), run(text % (call % ", systems: {auth: auth}"))]
        insisted = run(through, "--during-maintenance")

    assert [found.verdict for found in (*done, insisted)] == ["skipped", "skipped", "passed", "passed"]
    assert "'orders' is in maintenance" in done[0].report["reason"]
    assert len(ours.received) == 2


def test_what_fails_in_a_called_case_fails_the_one_that_calls(run: Run, orders: HttpReceiver) -> None:
    """A case of the same document is called by its name alone, and its step tells what was wrong."""
    orders.answer_at("/bad", 500)
    done = run(
        """
suite: shop
systems: {api: orders}
cases:
  - {case: one, steps: [{call: two}]}
  - {case: two, steps: [{http: {system: api, path: /bad}, assert: [{status: {eq: 200}}]}]}
"""
    )

    assert (done.code, done.verdicts) == (1, {"one": "failed", "two": "failed"})
    assert "expected 200, got 500" in done.cases["one"]["reason"]


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ({"a": "call: b", "b": "call: a"}, "a cycle: shop/a -> shop/b -> shop/a"),
        ({"a": "call: a"}, "a cycle: shop/a -> shop/a"),
        ({"a": "call: gone"}, "suite 'shop' has no case 'gone'"),
        ({chr(97 + n): f"call: {chr(98 + n)}" for n in range(6)} | {"g": "wait: 1ms"}, "more than 5 deep"),
        ({"a": "group: [{group: [{call: a}]}]"}, "a cycle"),
    ],
)
def test_calls_in_a_circle_or_too_deep_are_refused_unread(admin: Caller, steps: dict[str, str], told: str) -> None:
    """That is told when a document is checked, before anything runs."""
    cases = "".join(f"  - {{case: {name}, steps: [{{{step}}}]}}\n" for name, step in steps.items())
    found = admin("POST", "suites/check/", {"text": f"suite: shop\ncases:\n{cases}"})

    assert told in str(found.json)


def test_calls_between_stored_suites_go_in_no_circle(run: Run, admin: Caller) -> None:
    """A stored suite may change after it was checked, so each run looks again before it begins."""
    one = "suite: one\ncases:\n  - {case: c, steps: [{call: {suite: two, case: c}}]}"
    two = "suite: two\ncases:\n  - {case: c, steps: [{call: {suite: one, case: c}}]}"
    assert admin("POST", "suites/", {"text": one}).status == 201
    assert admin("POST", "suites/", {"text": two}).status == 201
    done = run("suite: shop\ncases:\n  - {case: c, steps: [{call: {suite: one, case: c}}]}")

    assert done.code == 2
    assert "a cycle: one/c -> two/c -> one/c" in str(done.report.get("reason", "")) + done.out


def test_a_suite_of_another_team_cannot_be_called(admin: Caller) -> None:
    """It is as if it were not there."""
    red, blue = Group.objects.create(name="Red"), Group.objects.create(name="Blue")
    theirs, ours = (
        Caller(services.create_api_key(f"editor-{team.name}", "editor", by=COMMAND, team=team)[1])
        for team in (red, blue)
    )
    text = "suite: theirs\ncases:\n  - {case: c, steps: [{wait: 1ms}]}"
    assert theirs("POST", "suites/", {"text": text}).status == 201
    text = "suite: ours\ncases:\n  - {case: c, steps: [{call: {suite: theirs, case: c}}]}"
    assert ours("POST", "suites/", {"text": text}).status == 201
    started = ours("POST", "suites/ours/run/", {})
    assert started.status == 202, started.json
    with running():
        (found,) = until_ended(ours, started.json["id"])

    assert found["verdict"] == "errored"
    assert "there is no suite 'theirs'" in found["reason"]


def test_a_case_that_calls_is_not_run_twice() -> None:
    """What its worker was lost in may have written something: that stands in another document."""
    text = "suite: s\ncases:\n  - {case: calls, steps: [{call: reads}]}\n  - {case: reads, steps: [{dns: a.example}]}"
    calls, reads = read_suite(text.replace("{dns: a.example}", "{dns: a.example, assert: none}")).cases

    assert (is_safe(calls), is_safe(reads)) == (False, True)
