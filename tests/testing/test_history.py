"""The history of runs: why one failed, what changed, and what needs care, by REST and on the pages alike."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client

from testing.models import Run, Underway
from testing.runner.worker import running
from testing.services.flaky import Seen, flips_in
from tests.admin.conftest import MARKUP, sign_in
from tests.endpoints.conftest import Caller
from tests.messaging.factories import make_key, make_team
from tests.servers.answers import Answer
from tests.servers.http import HttpReceiver
from tests.testing.conftest import answer, register

__all__ = ["sign_in"]

Signed = Callable[..., Client]
SUITE = """\
suite: orders
title: Orders, end to end
systems: {api: orders}
cases:
  - case: created
    steps:
      - id: create
        http: {system: api, method: POST, path: /orders, json: {n: 1}}
        assert: [{status: {eq: 201}}]
  - case: total
    steps:
      - id: total
        http: {system: api, path: /total}
        poll: {within: 300ms, every: 50ms}
        assert:
          - {status: {eq: 200}}
          - {body.$.total: {eq: 12.5}}
  - case: billed
    needs: [total]
    steps: [{http: {system: api, path: /total}, assert: [{status: {eq: 200}}]}]
"""


class History:
    """A stored suite that is run again and again; `run` returns the id of what ran."""

    def __init__(self, admin: Caller, receiver: HttpReceiver) -> None:
        self.admin, self.receiver = admin, receiver
        self.say(12.5)

    def say(self, total: Any, status: int = 200) -> None:
        self.receiver.answer_at("/total", answer(status, {"total": total, "note": "the answer's own words"}))
        self.receiver.answer_at("/orders", answer(201, {"id": 1}))

    def store(self, text: str = SUITE, method: str = "POST") -> None:
        path = "suites/" if method == "POST" else "suites/orders/"
        found = self.admin(method, path, {"text": text})
        assert found.status in (200, 201), found.body

    def run(self, slug: str = "orders") -> str:
        with pytest.raises(SystemExit):
            call_command("run_suite", slug)
        return str(Run.objects.order_by("-pk").values_list("pk", flat=True)[0])


@pytest.fixture
def history(admin: Caller, orders: HttpReceiver) -> History:
    found = History(admin, orders)
    found.store()
    return found


def page(client: Client, path: str) -> str:
    found = client.get(path)
    assert found.status_code == 200, found.status_code
    return found.content.decode()


def test_a_failure_is_understood_from_its_page_and_over_rest(history: History, admin: Caller, sign_in: Signed) -> None:
    """Expected, actual, where, asked and answered first and last, since which run, and what changed before it."""
    good = history.run()
    [endpoint] = admin("GET", "endpoints/").json["results"]
    assert admin("PATCH", f"endpoints/{endpoint['id']}/", {"timeout_s": 7}).status == 200
    history.store(SUITE.replace("{n: 1}", "{n: 2}"), "PUT")
    history.say("12.50")
    first, last = history.run(), history.run()

    found = admin("GET", f"runs/{last}/failure/").json
    assert (found["case"]["case"], found["step"]["id"], found["step"]["line"]) == ("total", "total", 12)
    [wrong] = found["step"]["wrong"]
    assert (wrong["where"], wrong["expected"], wrong["actual"], wrong["line"]) == ("body.$.total", 12.5, "12.50", 17)
    assert found["step"]["attempts"] > 1
    assert [found["step"][name]["number"] for name in ("first", "last")] == [1, found["step"]["attempts"]]
    assert found["step"]["last"]["request"]["url"].endswith("/total")
    since = found["since"]
    assert (since["runs"], since["first"]["id"], since["last_passed"]["id"]) == (2, first, good)
    kinds = {change["kind"]: change for change in found["changes"]}
    assert "version 1 to version 2" in kinds["document"]["text"]
    assert any(line.startswith("+") and "{n: 2}" in line for line in kinds["document"]["lines"])
    assert kinds["registry"]["detail"] == "timeout_s: 15.0 → 7.0"

    html = page(sign_in("superuser"), f"/admin/runs/{last}/")
    for told in ("Failing for 2 runs", "12.5", "&quot;12.50&quot;", "own words", "The first attempt", "version 1 to"):
        assert told in html, told
    assert f"/admin/runs/{good}/" in html
    assert "1</b> case waited for <b" in html.replace('class="cp-strong cp-num">', ">")
    assert "New: it passed in" in page(sign_in("superuser"), f"/admin/runs/{first}/")
    assert "Nothing that is kept here" not in html


def test_what_was_asked_and_answered_is_for_operators(history: History, sign_in: Signed) -> None:
    """A viewer learns what was expected and what came, not the bodies around it."""
    history.say(1)
    run = history.run()
    viewer = Caller(make_key("viewer"))

    found = viewer("GET", f"runs/{run}/failure/").json
    assert (found["step"]["first"], found["step"]["last"]) == (None, None)
    assert found["step"]["wrong"][0]["actual"] == 1
    for path in (f"/admin/runs/{run}/", f"/admin/runs/{run}/cases/2/"):
        html = page(sign_in("viewer"), path)
        assert "own words" not in html
        assert "for operators" in html
    assert "own words" in page(sign_in("operator"), f"/admin/runs/{run}/cases/2/")


def test_a_run_that_passed_has_no_failure(history: History, admin: Caller, sign_in: Signed) -> None:
    run = history.run()

    assert (admin("GET", f"runs/{run}/failure/").status, admin("GET", f"runs/{run}/failure/").json["code"]) == (
        404,
        "all_passed",
    )
    html = page(sign_in("superuser"), f"/admin/runs/{run}/")
    assert "All 3 cases passed" in html
    assert "What went wrong" not in html


def test_an_incident_and_a_deleted_endpoint_count_as_changes(history: History, admin: Caller) -> None:
    """What is there no more is found by its name."""
    history.run()
    more = {"system": "orders", "protocol": "http", "host": "127.0.0.1", "port": 9, "interface": "spare"}
    made = admin("POST", "endpoints/", more)
    assert admin("DELETE", f"endpoints/{made.json['id']}/").status == 204
    assert admin("POST", "systems/orders/pause/", {"reason": "moving"}).status == 200
    run = history.run()

    texts = [change["text"] for change in admin("GET", f"runs/{run}/failure/").json["changes"]]
    assert "Endpoint orders/spare:main was deleted" in texts
    assert "System orders was paused" in texts


def test_runs_against_other_systems_are_another_history(history: History, admin: Caller) -> None:
    """Staging that passes does not say that production was well."""
    register(admin, "staging", history.receiver.url)
    history.say(1)
    with pytest.raises(SystemExit):
        call_command("run_suite", "orders", "--system", "api=staging")
    history.say(12.5)
    history.run()
    history.say(1)
    with pytest.raises(SystemExit):
        call_command("run_suite", "orders", "--system", "api=staging")
    last = str(Run.objects.order_by("-pk").values_list("pk", flat=True)[0])

    since = admin("GET", f"runs/{last}/failure/").json["since"]
    assert (since["runs"], since["last_passed"]) == (2, None)


def test_cases_of_a_run_come_in_pages(history: History, admin: Caller) -> None:
    history.say(1)
    run = history.run()

    first = admin("GET", f"runs/{run}/cases/?page_size=2").json
    assert [row["case"] for row in first["results"]] == ["created", "total"]
    rest = admin("GET", first["next"].partition("/api/v1/")[2]).json
    assert [row["verdict"] for row in rest["results"]] == ["blocked"]
    assert len(admin("GET", f"runs/{run}/cases/?verdict=failed,blocked").json["results"]) == 2
    assert admin("GET", f"runs/{run}/cases/?verdikt=failed").status == 400


def test_two_runs_are_compared(history: History, admin: Caller, sign_in: Signed) -> None:
    """What broke comes first; what is the same is only counted."""
    before = history.run()
    history.say(1)
    history.store(SUITE.replace("case: created", "case: made"), "PUT")
    after = history.run()

    found = admin("GET", f"history/compare/?after={after}").json
    assert (found["before"]["id"], found["is_whole"]) == (before, True)
    assert [(pair["kind"], pair["label"]) for pair in found["pairs"]] == [
        ("broke", "total"),
        ("other", "billed"),
        ("gone", "created"),
        ("new", "made"),
    ]
    back = admin("GET", f"history/compare/?before={after}&after={before}").json
    assert back["pairs"][0]["kind"] == "healed"
    assert "broke" in page(sign_in("superuser"), f"/admin/runs/compare/?after={after}")
    assert admin("GET", f"history/compare/?after={before}").json["code"] == "no_run_before"
    assert admin("GET", "history/compare/").status == 400


def test_a_trend_tells_how_often_and_how_long(history: History, admin: Caller, sign_in: Signed) -> None:
    for total in (12.5, 12.5, 1):
        history.say(total)
        history.run()

    found = admin("GET", "history/trend/?suite=orders").json
    assert [point["verdict"] for point in found["points"]] == ["passed", "passed", "failed"]
    assert found["pass_rate"] == pytest.approx(2 / 3)
    case = admin("GET", "history/trend/?suite=orders&case=billed").json
    assert [point["verdict"] for point in case["points"]] == ["passed", "passed", "blocked"]
    assert (case["judged"], case["pass_rate"]) == (2, 1.0)
    for path in ("", "&case=total"):
        assert "cp-run--failed" in page(sign_in("superuser"), f"/admin/runs/trend/?suite=orders{path}")
    assert admin("GET", "history/trend/?suite=other").status == 404


def test_flaky_cases_are_named_by_their_rule(history: History, admin: Caller, sign_in: Signed) -> None:
    """Rescued by a retry is one rule; changing its mind while nothing else changed is the other."""
    rescued = SUITE.replace("  - case: created\n", "  - case: created\n    retry: {max: 2, every: 1ms}\n")
    history.store(rescued, "PUT")
    replies = iter([answer(503), *[answer(201)] * 20])
    history.receiver.answer_at("/orders", lambda request: next(replies))
    for total in (12.5, 1, 12.5):
        history.receiver.answer_at("/total", answer(200, {"total": total}))
        history.run()

    found = admin("GET", "history/flaky/").json
    rules = {row["label"]: (row["rules"], row["rescued"], row["flips"]) for row in found["results"]}
    assert rules == {"created": (["rescued"], 1, 0), "total": (["flipping"], 0, 2)}
    assert set(found["rules"]) == {"rescued", "flipping"}
    assert admin("GET", "history/flaky/?suite=orders").json == found
    html = page(sign_in("superuser"), "/admin/suite-health/")
    assert found["rules"]["flipping"] in html.replace("&#x27;", "'")


def test_a_flip_beside_another_version_is_no_flip() -> None:
    """Who changes the suite changes what it says: only what changes by itself is flaky."""

    def seen(verdict: str, version: int) -> Seen:
        return Seen(None, 1, None, verdict, False, (version,))  # type: ignore[arg-type]

    assert flips_in([seen("passed", 1), seen("failed", 2), seen("passed", 3)]) == 0
    assert flips_in([seen("passed", 1), seen("failed", 1), seen("errored", 1), seen("passed", 1)]) == 2


def test_endpoints_that_no_suite_names_are_listed(history: History, admin: Caller, sign_in: Signed) -> None:
    """By their interface: `orders` is tested, its other door is not."""
    register(admin, "lonely", "http://127.0.0.1:9")
    more = {"system": "orders", "protocol": "http", "host": "127.0.0.1", "port": 9, "interface": "other"}
    assert admin("POST", "endpoints/", more).status == 201

    found = admin("GET", "history/uncovered/").json
    assert [(row["system"], row["interface"]) for row in found["results"]] == [("lonely", "main"), ("orders", "other")]
    assert "lonely/main:main" in page(sign_in("superuser"), "/admin/suite-health/")
    history.store(SUITE.replace("suite: orders", "suite: doors").replace("api: orders", "api: orders/other"))
    assert [row["system"] for row in admin("GET", "history/uncovered/").json["results"]] == ["lonely"]


def test_the_slowest_cases_are_those_of_the_latest_runs(history: History, admin: Caller) -> None:
    history.receiver.answer_at("/orders", Answer(201, b"{}", delay_s=0.15))
    history.run()

    found = admin("GET", "history/slowest/?suite=orders").json["results"]
    assert found[0]["case"] == "created"
    assert found[0]["p95_ms"] >= 150
    assert admin("GET", "history/slowest/").json["results"] == found


def test_another_teams_runs_are_in_no_figure(history: History, sign_in: Signed) -> None:
    """404 by their address, and in no list, no figure and no panel."""
    red, blue = make_team("red"), make_team("blue")
    Run.objects.all().delete()
    history.say(1)
    run = history.run()
    Run.objects.filter(pk=run).update(owner=red)
    other = Caller(make_key("admin", team=blue))

    for path in (
        f"runs/{run}/failure/",
        f"runs/{run}/cases/",
        f"history/compare/?after={run}",
        "history/trend/?suite=orders",
    ):
        assert other("GET", path).status == 404, path
    assert other("GET", "history/flaky/").json["results"] == []
    assert other("GET", "history/slowest/").json["results"] == []
    stranger = sign_in("admin", "blue")
    for path in ("", "panel/", "cases/2/"):
        assert stranger.get(f"/admin/runs/{run}/{path}").status_code == 404
    assert stranger.get("/admin/runs/trend/?suite=orders").status_code == 404
    assert run not in page(stranger, "/admin/") + page(stranger, "/admin/runs/") + page(
        stranger, "/admin/suite-health/"
    )
    assert run in page(sign_in("viewer", "red"), "/admin/runs/")


def test_what_peers_say_is_shown_as_text(history: History, sign_in: Signed) -> None:
    """Markup in an answer, a title, a case's reason stays text on every page."""
    history.store(SUITE.replace("Orders, end to end", "'" + MARKUP.replace("'", "''") + "'"), "PUT")
    history.say(MARKUP)
    run = history.run()
    client = sign_in("superuser")

    paths = ("/admin/", "/admin/runs/", f"/admin/runs/{run}/", f"/admin/runs/{run}/cases/2/", "/admin/suite-health/")
    for path in (*paths, "/admin/runs/trend/?suite=orders", "/admin/runs/trend/?suite=orders&case=total"):
        html = page(client, path)
        assert "<script>alert" not in html, path
        assert "<img src=x" not in html, path


def test_the_page_moves_while_the_run_does(history: History, admin: Caller, sign_in: Signed) -> None:
    """How far it is and what is in hand, from another process; its end ends the telling."""
    let_go = threading.Event()

    def hold(request: Any) -> Answer:
        let_go.wait(30)
        return answer(201)

    history.receiver.answer_at("/orders", hold)
    client = sign_in("operator")
    with running():
        run = admin("POST", "suites/orders/run/", {}).json["id"]
        assert "data-refresh" in page(client, f"/admin/runs/{run}/")
        panel = _until(lambda: page(client, f"/admin/runs/{run}/panel/"), lambda html: "Under way" in html)
        assert ("created" in panel, "create" in panel, "line 7" in panel) == (True, True, True)
        assert "0 of 3" in panel
        assert "Running now" in page(client, "/admin/")
        let_go.set()
        _until(lambda: page(client, f"/admin/runs/{run}/panel/"), lambda html: 'data-version="ended"' in html)
    assert not Underway.objects.exists()
    assert "data-refresh" not in page(client, f"/admin/runs/{run}/")


def test_a_page_asks_as_much_of_one_case_as_of_many(
    history: History, sign_in: Signed, django_assert_max_num_queries: Any
) -> None:
    """However many cases failed, the page reads what it shows, not each of them."""
    cases = "".join(
        f"  - case: c{number}\n    steps: [{{http: {{system: api, path: /}}, assert: [{{status: {{eq: 201}}}}]}}]\n"
        for number in range(40)
    )
    history.store(f"suite: many\nsystems: {{api: orders}}\ncases:\n{cases}")
    run = history.run("many")
    client = sign_in("superuser")
    with django_assert_max_num_queries(40):
        html = page(client, f"/admin/runs/{run}/")
    assert "39 other cases ended for the very same reason" in html


def test_a_load_shows_its_thresholds_and_charts(history: History, sign_in: Signed) -> None:
    """What was asked and what it was, done a second and latencies over time, on the run's page and the case's."""
    load = (
        "load: {model: closed, stages: [{for: 500ms, at: 2}], thresholds: [{metric: throughput, value: {gte: 9999/s}}]}"
    )
    step = "steps: [{http: {system: api, path: /total}, assert: [{status: {eq: 200}}]}]"
    history.store(f"suite: rush\nsystems: {{api: orders}}\ncases:\n  - case: busy\n    {step}\n    {load}\n")
    run = history.run("rush")

    for path in (f"/admin/runs/{run}/", f"/admin/runs/{run}/cases/1/"):
        html = page(sign_in("superuser"), path)
        for told in ("Done a second", "throughput", "9999", "cp-line--p99", "closed model"):
            assert told in html, (path, told)


def test_a_run_of_one_case_does_not_speak_for_its_suite(history: History, admin: Caller, sign_in: Signed) -> None:
    """Its verdict stands in no trend and on no dashboard; the case's own history has it."""
    history.run()
    history.say(1)
    with running():
        run = admin("POST", "suites/orders/run/", {"cases": ["total"]}).json["id"]
        _until(lambda: str(admin("GET", f"runs/{run}/").json["state"]), lambda state: state == "ended")

    assert "a part of the suite" in page(sign_in("viewer"), f"/admin/runs/{run}/")
    assert [point["verdict"] for point in admin("GET", "history/trend/?suite=orders").json["points"]] == ["passed"]
    assert len(admin("GET", "history/trend/?suite=orders&case=total").json["points"]) == 2
    assert "All pass" in page(sign_in("viewer"), "/admin/")


def test_a_run_is_cancelled_from_its_page(history: History, admin: Caller, sign_in: Signed) -> None:
    run = admin("POST", "suites/orders/run/", {}).json["id"]

    assert sign_in("viewer").post(f"/admin/runs/{run}/cancel/").status_code == 403
    assert sign_in("operator").post(f"/admin/runs/{run}/cancel/").status_code == 302
    assert Run.objects.get(pk=run).cancelled_at is not None


def test_the_pages_are_empty_before_anything_ran(db: None, sign_in: Signed) -> None:
    """Each says what would stand there, and how to begin."""
    client = sign_in("viewer")

    assert "No runs yet" in page(client, "/admin/runs/")
    assert "No case has passed yet" in page(client, "/admin/suite-health/")
    assert client.get("/admin/runs/trend/?suite=none").status_code == 404
    assert client.get("/admin/runs/compare/?after=none").status_code == 404
    assert Client().get("/admin/runs/").status_code == 302


def test_runs_are_found_by_what_they_used(history: History, admin: Caller) -> None:
    run = history.run()

    assert [row["id"] for row in admin("GET", "runs/?system=orders").json["results"]] == [run]
    assert admin("GET", "runs/?system=api").json["results"] == []
    assert admin("GET", "runs/?system=Not a slug").status == 400
    assert admin("GET", "runs/?created_after=2999-01-01T00:00:00Z").json["results"] == []
    assert [row["id"] for row in admin("GET", "runs/?verdict=passed&flaky=false").json["results"]] == [run]


def _until(read: Callable[[], str], holds: Callable[[str], bool], timeout_s: float = 60.0) -> str:
    deadline = time.monotonic() + timeout_s
    while not holds(found := read()):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found
