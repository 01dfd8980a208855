"""Suites over REST, worked by real worker processes, on both databases."""

import time
from collections.abc import Callable
from typing import Any

from tests.servers.answers import HANG
from tests.servers.fixtures import http_receiver
from tests.servers.http import HttpReceiver
from tests.stack import Stack

__all__ = ["http_receiver"]

TEXT = """\
# kept as it is
suite: shop-orders
title: Orders
labels: [nightly]
systems: {api: crm, from: shop}
vars: {path: /ok}
cases:
  - case: asked
    steps: [{http: {system: api, path: "${{ vars.path }}"}, assert: [{status: {eq: 200}}]}]
"""
MESSAGE = """\
suite: messages
systems: {from: shop, to: crm}
cases:
  - case: arrives
    steps:
      - message: {from: from, to: to, payload: {n: 1}, event_type: order.paid}
        assert: [{status: {eq: delivered}}, {rows: {len: 1}}, {rows.0.system: {eq: crm}}, {latency: {lt: 15s}}]
  - case: dies
    steps:
      - message: {from: from, to: gone, payload: {n: 2}}
        assert: [{status: {eq: dead}}, {rows.0.error_class: {eq: client_error}}, {error.class: {eq: client_error}}]
  - case: answers
    steps:
      - message: {from: from, to: to, type: request, payload: {n: 3}}
        assert: [{status: {eq: delivered}}, {text: {eq: pong}}]
"""


def started(stack: Stack, slug: str, key: str | None = None, **wish: Any) -> dict[str, Any]:
    answer = stack.api("POST", f"suites/{slug}/run/", json=wish, key=key)
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def ended(stack: Stack, run: dict[str, Any], timeout: float = 30) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found = stack.api("GET", f"runs/{run['id']}/").json()
        return found if found["state"] == "ended" else None

    return dict(stack.wait_for(look, timeout, "the end of the run"))  # type: ignore[arg-type]


def test_a_suite_lives_over_rest(make_stack: Callable[..., Stack], http_receiver: HttpReceiver) -> None:
    """Stored byte for byte, versions kept; a run remembers the one it ran; reports in both formats."""
    stack = make_stack()
    stack.start("web")
    stack.start("worker")
    stack.register("shop")
    stack.register("crm", http_receiver.url)
    made = stack.api("POST", "suites/", json={"text": TEXT})
    assert (made.status_code, made.json()["version"]) == (201, 1), made.text
    assert stack.api("POST", "suites/", json={"text": TEXT}).status_code == 409

    first = started(stack, "shop-orders")
    changed = TEXT.replace("eq: 200", "eq: 201")
    assert stack.api("PUT", "suites/shop-orders/", json={"text": changed}).json()["version"] == 2
    assert stack.api("PUT", "suites/shop-orders/", json={"text": changed}).json()["version"] == 2
    second = started(stack, "shop-orders", vars={"path": "/other"}, parallel=2)
    found = [ended(stack, run) for run in (first, second)]

    assert [(run["verdict"], run["version"]) for run in found] == [("passed", 1), ("failed", 2)]
    assert found[1]["cases"][0]["reason"] == "http in line 9: status: expected 201, got 200"
    assert {request.path for request in http_receiver.received} == {"/ok", "/other"}  # they ran side by side
    assert stack.api("GET", "suites/shop-orders/").json()["text"] == changed
    report = stack.api("GET", f"runs/{second['id']}/report.json").json()
    assert report["cases"][0]["steps"][0]["attempts"][0]["checks"][0]["expected"] == 201
    junit = stack.api("GET", f"runs/{second['id']}/report.xml")
    assert (junit.headers["Content-Type"], 'failures="1"' in junit.text) == ("application/xml", True)
    assert [run["id"] for run in stack.api("GET", "runs/?verdict=failed").json()["results"]] == [second["id"]]
    assert stack.api("GET", "suites/?label=nightly").json()["results"][0]["slug"] == "shop-orders"

    done = stack.command("run_suite", "shop-orders", "--var", "path=/third")
    assert done.returncode == 1, done.stderr
    assert http_receiver.received[-1].path == "/third"
    assert stack.api("DELETE", "suites/shop-orders/").status_code == 204
    assert stack.api("GET", f"runs/{first['id']}/report.json").json()["verdict"] == "passed"


def test_faults_refusals_and_teams(make_stack: Callable[..., Stack]) -> None:
    """A fault names its line; roles and teams hold for suites and runs as for everything."""
    stack = make_stack()
    stack.start("web")
    stack.register("shop")
    stack.register("crm", "http://127.0.0.1:9")
    bad = stack.api("POST", "suites/check/", json={"text": TEXT.replace("status:", "stats:")})
    assert (bad.status_code, bad.json()["code"]) == (422, "bad_suite")
    assert bad.json()["errors"][0]["line"] == "9"
    assert stack.api("POST", "suites/check/", json={"text": TEXT}).json()["case_runs"] == 1
    assert stack.api("POST", "suites/check/", json={"text": "a: *b", "x": 1}).status_code == 400
    assert stack.api("POST", "suites/", json={"text": TEXT}, key=stack.key("operator")).status_code == 403

    for name in ("red", "blue"):
        added = ["shell", "-c", f"from django.contrib.auth.models import Group; Group.objects.create(name='{name}')"]
        assert stack.command(*added).returncode == 0
    red, blue = stack.key("editor", team="red"), stack.key("editor", team="blue")
    assert stack.api("POST", "suites/", json={"text": TEXT}, key=red).json()["owner"] == "red"
    assert stack.api("GET", "suites/shop-orders/", key=blue).status_code == 404
    assert stack.api("POST", "suites/shop-orders/run/", json={}, key=blue).status_code == 404
    run = started(stack, "shop-orders", key=red)
    assert stack.api("GET", f"runs/{run['id']}/", key=blue).status_code == 404
    assert stack.api("POST", "suites/shop-orders/run/", json={}, key=stack.key("viewer")).status_code == 403
    for wish in ({"systems": {"apo": "crm"}}, {"vars": {"x": 1}}, {"systems": {"api": "nowhere"}}):
        assert stack.api("POST", "suites/shop-orders/run/", json=wish, key=red).status_code == 422, wish
    for wish in ({"vars": {"path": {}}}, {"parallel": 0}, {"parallel": 10**9}, {"x": 1}, {"systems": []}):
        assert stack.api("POST", "suites/shop-orders/run/", json=wish, key=red).status_code == 400, wish
    assert stack.api("GET", "runs/", key=blue).json()["results"] == []
    audit = stack.api("GET", "audit/?object_type=run").json()["results"]
    assert [entry["action"] for entry in audit] == ["run"]

    stack.start("worker")
    assert ended(stack, run)["verdict"] == "failed"  # nobody listens there


def test_a_run_is_cancelled_within_a_second_and_cleans_up(
    make_stack: Callable[..., Stack], http_receiver: HttpReceiver
) -> None:
    """What runs is cut off, what waits does not begin, what was begun is cleaned up."""
    stack = make_stack()
    stack.start("web")
    stack.start("worker")
    stack.register("shop")
    stack.register("crm", http_receiver.url)
    http_receiver.answer_at("/hang", HANG)
    step = "http: {system: api, path: /hang}, cleanup: {http: {system: api, method: DELETE, path: /clean}}"
    text = TEXT.replace('http: {system: api, path: "${{ vars.path }}"}', step)
    text += "  - case: after\n    steps: [{wait: 1ms}]\n"
    assert stack.api("POST", "suites/", json={"text": text}).status_code == 201
    run = started(stack, "shop-orders")
    http_receiver.wait_for(1)

    asked = time.monotonic()
    assert stack.api("POST", f"runs/{run['id']}/cancel/").status_code == 200
    found = ended(stack, run)
    took = time.monotonic() - asked
    print(f"cancelled in {took:.2f} s")
    assert (found["verdict"], [case["verdict"] for case in found["cases"]]) == ("cancelled", ["cancelled"] * 2)
    assert took < 2
    assert http_receiver.received[-1].method == "DELETE"
    assert stack.api("POST", f"runs/{run['id']}/cancel/").status_code == 409


def test_messages_go_through_the_control_plane(stack: Stack, http_receiver: HttpReceiver) -> None:
    """The step waits for the deliveries, and for the answer to a request."""
    from tests.servers.http import Answer

    stack.start("worker")
    stack.register("shop")
    stack.register("crm", http_receiver.url)
    stack.register("void", f"{http_receiver.url}/void")
    http_receiver.answer(Answer(200, b"pong", {"Content-Type": "text/plain"}))
    http_receiver.answer_at("/void", 404)
    text = MESSAGE.replace("to: crm}", "to: crm, gone: void}")
    assert stack.api("POST", "suites/", json={"text": text}).status_code == 201
    found = ended(stack, started(stack, "messages"))

    assert {case["case"]: case["verdict"] for case in found["cases"]} == dict.fromkeys(
        ("arrives", "dies", "answers"), "passed"
    ), found
