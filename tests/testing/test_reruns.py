"""Once more: what runs again, on what, and who may ask for it."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command

from endpoints import services
from endpoints.access.principal import COMMAND
from tests.endpoints.conftest import Caller
from tests.servers.http import HttpReceiver
from tests.testing.conftest import Outcome
from tests.testing.test_runs import Run, ask, case, suite

Again = Callable[..., Outcome]


@pytest.fixture
def again(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> Again:
    """Return a function that runs a run again by the command, and returns what came of it."""

    def go(first: Outcome, *args: str) -> Outcome:
        path = tmp_path / "again.json"
        path.unlink(missing_ok=True)
        with pytest.raises((SystemExit, CommandError)) as ended:
            call_command("rerun", first.report["id"], f"--report=json={path}", *args)
        raw = path.read_text() if path.exists() else "{}"
        said = capsys.readouterr()
        return Outcome(getattr(ended.value, "code", 2), json.loads(raw), raw, "", f"{said.out}{said.err}", "", "")

    return go


def test_how_the_id_of_a_run_begins_is_enough(run: Run, again: Again, orders: HttpReceiver) -> None:
    """As long as one run alone begins so; else each of them is named."""
    first = run(suite(case("base", ask())))
    other = run(suite(case("base", ask())))
    length = next(n for n in range(37) if first.report["id"][:n] != other.report["id"][:n])

    short = Outcome(**{**vars(first), "report": {"id": first.report["id"][:length]}})
    assert again(short).report["rerun_of"] == first.report["id"]
    with pytest.raises(CommandError) as refused:
        call_command("rerun", first.report["id"][:2])
    assert first.report["id"] in str(refused.value)
    assert other.report["id"] in str(refused.value)


def test_only_what_did_not_pass_runs_again_with_what_it_needs(run: Run, again: Again, orders: HttpReceiver) -> None:
    """In its own combination; a part that passed is marked as a part, and is not held to the whole's least number."""
    orders.answer_at("/bad/eu", 500)
    first = run(
        suite(
            case("base", ask()),
            case("other", ask(path="/other")),
            case("bad", ask(path='"/bad/${{ matrix.region }}"'), more=", needs: [base]"),
            case("behind", ask(path="/behind"), more=", needs: [bad]"),
            top="matrix: {region: [eu, us]}\ngate: {min_cases: 8}",
        )
    )
    assert (first.code, first.report["counts"]) == (1, {"passed": 6, "failed": 1, "blocked": 1})
    orders.clear()
    orders.answer_at("/bad/eu", 200)
    second = again(first, "--failed")

    assert (second.code, second.report["counts"]) == (0, {"passed": 3})
    assert [(found["case"], found["matrix"], found["number"]) for found in second.report["cases"]] == [
        ("base", {"region": "eu"}, 1),
        ("bad", {"region": "eu"}, 3),
        ("behind", {"region": "eu"}, 4),
    ]
    assert (second.report["rerun_of"], second.report["is_part"]) == (first.report["id"], True)
    assert [found.path for found in orders.received] == ["/", "/bad/eu", "/behind"]


def test_all_of_it_runs_on_the_systems_and_variables_of_the_first(
    run: Run, again: Again, orders: HttpReceiver, admin: Caller
) -> None:
    """What was replaced stays replaced, and setup and teardown belong to every run."""
    assert admin("POST", "systems/", {"slug": "unused", "name": "unused"}).status == 201
    steps = f"setup: [{ask(path='/setup')}]\nteardown: [{ask(path='/teardown')}]\nvars: {{n: 1}}"
    text = suite(case("one", ask(path='"/${{ vars.n }}"')), top=steps).replace("{api: orders}", "{api: unused}")
    first = run(text, "--system", "api=orders", "--var", "n=5")
    second = again(first)

    assert (first.code, second.code, second.report["is_part"]) == (0, 0, False)
    assert [found.path for found in orders.received] == ["/setup", "/5", "/teardown"] * 2


def test_rows_picked_at_random_come_in_the_same_order_again(run: Run, again: Again, orders: HttpReceiver) -> None:
    """Otherwise the row that failed would hide behind another number."""
    rows = ", ".join(f"{{n: {n}}}" for n in range(20))
    orders.answer_at("/7", 500)
    first = run(suite(case("one", ask(path='"/${{ data.n }}"')), top=f"data: {{pick: random, rows: [{rows}]}}"))
    asked = [found.path for found in orders.received]
    orders.clear()
    second = again(first, "--failed")

    assert asked != sorted(asked)
    assert [found.path for found in orders.received] == ["/7"]
    assert (second.code, second.report["counts"]) == (1, {"failed": 1})


def test_there_is_nothing_to_run_again_where_all_passed(run: Run, again: Again, orders: HttpReceiver) -> None:
    done = again(run(suite(case("one", ask()))), "--failed")

    assert (done.code, "every case passed" in done.out) == (2, True)
    assert len(orders.received) == 1


def test_a_part_that_passed_satisfies_no_need(run: Run, again: Again, orders: HttpReceiver) -> None:
    """Another suite needs the whole one."""
    orders.answer_at("/bad", 500)
    first = run(suite(case("good", ask()), case("bad", ask(path="/bad"))))
    orders.answer_at("/bad", 200)
    assert again(first, "--failed").code == 0
    behind = "suite: behind\nsystems: {api: orders}\nneeds: [{suite: orders-suite, if: passed}]\ncases:\n  - "
    done = run(f"{behind}{case('one', ask())}\n")
    assert (done.code, done.verdict) == (2, "blocked")

    assert again(first).code == 0
    assert run(f"{behind}{case('one', ask())}\n").code == 0


def test_it_acts_for_who_asks_for_it(run: Run, orders: HttpReceiver, admin: Caller) -> None:
    """Roles and teams hold for the second run as for the first; a run under way cannot run again."""
    first = run(suite(case("one", ask()))).report["id"]
    viewer, team = services.create_api_key("v", "viewer", by=COMMAND)[1], Group.objects.create(name="red")
    red = Caller(services.create_api_key("r", "operator", by=COMMAND, team=team)[1])
    assert Caller(viewer)("POST", f"runs/{first}/rerun/", {}).status == 403

    made = red("POST", f"runs/{first}/rerun/", {})
    assert (made.status, made.json["rerun_of"], made.json["created_by"]) == (202, first, "key:r"), made.body
    assert red("POST", f"runs/{made.json['id']}/rerun/", {}).json["code"] == "not_ended"
    assert red("POST", f"runs/{first}/rerun/", {"only_failed": True}).json["code"] == "nothing_failed"
    assert red("POST", f"runs/{first}/rerun/", {"only_failed": "x"}).status == 400
    assert red("POST", f"runs/{first}/rerun/", {"failed": True}).status == 400
    assert [entry["action"] for entry in admin("GET", "audit/?object_type=run").json["results"]] == ["run", "run"]

    team_system = {"slug": "blue", "name": "blue", "owner": Group.objects.create(name="blue").name}
    assert admin("POST", "systems/", team_system).status == 201
    theirs = run(suite(case("one", "{wait: 1ms}")).replace("{api: orders}", "{api: blue}")).report["id"]
    assert red("POST", f"runs/{theirs}/rerun/", {}).status == 404


def test_a_part_says_so_in_its_report(run: Run, again: Again, orders: HttpReceiver, admin: Caller) -> None:
    """Green over a part is not green over the whole."""
    orders.answer_at("/bad", 500)
    first = run(suite(case("good", ask()), case("bad", ask(path="/bad"))))
    second = again(first, "--failed")
    part = b"this is not the verdict of the whole suite"

    assert part in admin("GET", f"runs/{second.report['id']}/report.html").body
    assert part not in admin("GET", f"runs/{first.report['id']}/report.html").body
