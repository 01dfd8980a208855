"""Load: paced as asked, measured from the intended start, judged as a whole."""

import json
import os
import threading
import time
from collections.abc import Callable
from typing import Any
from xml.etree.ElementTree import fromstring

import jsonschema_rs
import pytest
import yaml

from testing.document.reader import read_suite
from testing.document.schema import suite_schema
from testing.errors import BadDocument
from tests.endpoints.conftest import Caller
from tests.messaging.factories import make_team
from tests.servers.answers import HANG
from tests.servers.http import Answer, HttpReceiver, Received
from tests.testing.conftest import Outcome, register

Run = Callable[..., Outcome]
STEP = "{http: {system: api}, assert: [{status: {eq: 200}}]}"


def load(more: str, step: str = STEP, top: str = "", case: str = "") -> str:
    return (
        f"suite: orders-load\nsystems: {{api: orders}}\n{top}\n"
        f"cases:\n  - {{case: one, load: {{{more}}}, steps: [{step}]{case}}}\n"
    )


def of(done: Outcome) -> dict[str, Any]:
    assert done.report, done.out
    found: dict[str, Any] = done.cases["one"]["load"]
    return found


def test_an_open_load_starts_as_many_as_its_stages_say(run: Run, orders: HttpReceiver) -> None:
    """A ramp from 0 to 100/s over a second is 50 arrivals, half a second at 100/s is 50; each holds what is asked."""
    held = (
        "{metric: latency.response, p: 99, lt: 10s}, {metric: throughput, value: {gte: 10/s}}, "
        "{metric: errors, rate: {lt: 0.01}}, {metric: latency.service, max: {lt: 10s}}"
    )
    more = f"stages: [{{for: 1s, to: 100/s}}, {{for: 500ms, at: 100/s}}], thresholds: [{held}]"
    done = run(load(more))

    assert (done.code, done.verdict) == (0, "passed"), done.out
    figures, chart = of(done)["figures"], of(done)["chart"]
    assert (figures["iterations"], figures["dropped"], len(orders.received)) == (100, 0, 100)
    assert sum(chart["series"]["done"]) == sum(chart["series"]["arrivals"]) == 100
    assert len({len(values) for values in chart["series"].values()}) == 1
    assert [threshold["ok"] for threshold in of(done)["thresholds"]] == [True] * 4
    for said in ("ok  latency.response p99 < 10s: ", "ok  throughput value >= 10/s: ", "100 iterations in"):
        assert said in done.out
        assert said.partition(">")[0].partition("<")[0] in done.junit


def stalled(run: Run, target: HttpReceiver, *, rate: int, for_s: int, stall_s: float, at_once: int) -> dict[str, Any]:
    """Return the latencies of a load whose target stands still for a while, a third into it."""
    lock, begun = threading.Lock(), [0.0]

    def answer(_: Received) -> Answer:
        with lock:
            begun[0] = begun[0] or time.monotonic()
        since = time.monotonic() - begun[0] - for_s / 3
        return Answer(200, delay_s=stall_s - since if 0.0 <= since < stall_s else 0.0)

    target.answer(answer)
    target.is_keeping = False
    more = f"stages: [{{for: {for_s}s, at: {rate}/s}}], at_once: {at_once}, max_in_flight: 20000"
    found: dict[str, Any] = of(run(load(more)))["figures"]["latency"]
    assert found["response"]["count"] == found["service"]["count"] == rate * for_s
    print({name: {p: found[name][f"{p}_ms"] for p in ("p50", "p99", "max")} for name in ("response", "service")})
    return found


def test_a_stall_shows_in_the_response_and_not_in_the_service(run: Run, orders: HttpReceiver) -> None:
    """What could not be sent while the target stood still is late all the same: nothing is omitted.

    900 arrivals, two at a time; the target stands still for a second. Two of them feel that
    in their service, a third of them in their response.
    """
    found = stalled(run, orders, rate=300, for_s=3, stall_s=1.0, at_once=2)

    assert found["response"]["p99_ms"] > 700
    assert found["service"]["p99_ms"] < 400
    assert found["service"]["max_ms"] > 700


@pytest.mark.long
def test_a_stall_of_five_seconds_at_a_thousand_a_second_shows_in_the_response(run: Run, orders: HttpReceiver) -> None:
    """The same at size; LONG_LOAD_RATE a second."""
    rate = int(os.environ.get("LONG_LOAD_RATE", "1000"))
    found = stalled(run, orders, rate=rate, for_s=30, stall_s=5.0, at_once=rate // 20)

    assert found["response"]["p99_ms"] > 4000
    assert found["service"]["p99_ms"] < 1000
    assert found["service"]["max_ms"] > 4000


def test_arrivals_beyond_the_cap_are_dropped_and_counted(run: Run, orders: HttpReceiver) -> None:
    """A load that was not made as asked has shown nothing, unless the suite says how much may be dropped."""
    orders.answer(Answer(200, delay_s=0.3))
    more = "stages: [{for: 600ms, at: 100/s}], max_in_flight: 5"
    done = run(load(more))

    figures = of(done)["figures"]
    assert (done.code, done.verdict) == (2, "inconclusive")
    assert "arrivals were dropped" in done.cases["one"]["reason"]
    assert figures["arrivals"] == 60 == figures["iterations"] + figures["dropped"]
    assert figures["dropped"] > 30
    assert run(load(more + ", thresholds: [{metric: dropped, rate: {lt: 1}}]")).verdict == "passed"


def test_a_closed_load_is_so_many_users(run: Run, orders: HttpReceiver) -> None:
    """Each asks again once it is answered, past the cap that deliveries to this endpoint keep."""
    busy, most, lock = [0], [0], threading.Lock()

    def count(_: Received) -> Answer:
        with lock:
            busy[0] += 1
            most[0] = max(most[0], busy[0])
        threading.Timer(0.05, leave).start()
        return Answer(200, delay_s=0.05)

    def leave() -> None:
        with lock:
            busy[0] -= 1

    orders.answer(count)
    done = run(load("model: closed, stages: [{for: 300ms, at: 30}, {for: 300ms, at: 2}], think: 10ms"))

    assert done.verdict == "passed", done.out
    assert 20 <= most[0] <= 40  # deliveries: 16
    assert of(done)["figures"]["iterations"] == len(orders.received)
    assert of(done)["chart"]["unit"] == "users"


def test_what_starts_in_the_warm_up_is_not_judged(run: Run, orders: HttpReceiver) -> None:
    orders.answer(*[500] * 40, 200)
    done = run(load("stages: [{for: 1s, at: 100/s}], warmup: 600ms"))

    figures = of(done)["figures"]
    assert (done.verdict, figures["iterations"] + figures["warmup_iterations"]) == ("passed", 100), done.out
    assert figures["warmup_iterations"] in (59, 60)
    assert sum(of(done)["chart"]["series"]["errors"]) == 40


def test_errors_fail_a_load_that_says_nothing_of_them(run: Run, orders: HttpReceiver) -> None:
    """They are counted by class, and the first of each is kept whole."""
    orders.answer(*[200, 503, 404, 429] * 9, 200)
    more = "stages: [{for: 400ms, at: 100/s}]"
    done = run(load(more))

    assert (done.code, done.verdict) == (1, "failed")
    assert "errors rate = 0, but it was" in done.cases["one"]["reason"]
    assert of(done)["figures"]["errors_by_class"] == {"server_error": 9, "client_error": 9, "throttled": 9}
    kept = {step["attempts"][0]["response"]["status"] for step in done.cases["one"]["steps"]}
    assert kept == {503, 404, 429}
    orders.answer(*[200, 503, 404, 429] * 9, 200)
    loose = "[{metric: errors, rate: {lt: 0.9}}, {metric: errors.server_error, value: {eq: 9}}]"
    assert run(load(f"{more}, thresholds: {loose}")).verdict == "passed"


def test_a_threshold_on_one_class_of_errors_allows_no_others(run: Run, orders: HttpReceiver) -> None:
    """Who bounds timeouts has said nothing of a target that refuses everything."""
    more = "stages: [{for: 200ms, at: 50/s}], thresholds: [{metric: errors.%s, rate: {lte: 1}}%s]"
    orders.answer(401)
    done = run(load(more % ("timeout", "")))
    assert (done.code, done.verdict) == (1, "failed"), done.out
    assert "errors rate = 0, but it was 100 %" in done.cases["one"]["reason"]

    assert run(load(more % ("client_error", ""))).verdict == "passed"
    orders.answer(401, 503)
    done = run(load(more % ("client_error", "")))
    assert (done.code, done.verdict) == (1, "failed"), done.out
    assert "errors rate of the other classes = 0, but it was 90 %" in done.cases["one"]["reason"]
    assert run(load(more % ("client_error", ", {metric: errors, rate: {lte: 1}}"))).verdict == "passed"


def test_a_threshold_that_does_not_hold_fails_with_its_figure(run: Run, orders: HttpReceiver) -> None:
    orders.answer(Answer(200, delay_s=0.05))
    done = run(load("stages: [{for: 300ms, at: 50/s}], thresholds: [{metric: latency.service, p: 50, lt: 20ms}]"))

    assert (done.code, done.verdict) == (1, "failed")
    assert "BAD latency.service p50 < 20ms: " in done.out
    failure = next(fromstring(done.junit).iter("failure"))
    assert "latency.service p50 < 20ms, but it was" in (failure.get("message") or "")


def test_too_few_samples_are_inconclusive(run: Run, orders: HttpReceiver) -> None:
    done = run(load("stages: [{for: 200ms, at: 50/s}], min_samples: 1000"))

    assert (done.code, done.verdict) == (2, "inconclusive")
    assert "10 samples, 1000 are needed" in done.cases["one"]["reason"]


def test_a_load_that_goes_wrong_is_aborted(run: Run, orders: HttpReceiver) -> None:
    """Not a minute is spent on a target that is broken."""
    orders.answer(500)
    done = run(load("stages: [{for: 1m, at: 50/s}], abort_if: [{metric: errors, rate: {gt: 0.2}, over: 1s}]"))

    assert (done.code, done.verdict) == (1, "failed")
    assert "aborted: errors rate > 0.2, 100 %" in done.cases["one"]["reason"]
    assert done.report["took_s"] < 20


def test_a_generator_that_cannot_keep_up_has_shown_nothing(run: Run, orders: HttpReceiver) -> None:
    """Whatever the thresholds say: this is not the load that was asked for. Here its assertions cost too much."""
    orders.answer(Answer(200, json.dumps(list(range(20_000))).encode(), {"Content-Type": "application/json"}))
    done = run(
        load(
            "stages: [{for: 1s, at: 300/s}], at_once: 4, thresholds: [{metric: errors, rate: {lte: 1}}]",
            step="{http: {system: api}, assert: [{'body.$[*]': {each: {gte: 0}}}]}",
            case=", timeout: 300ms",
        )
    )

    assert (done.code, done.verdict) == (2, "inconclusive")
    assert "the generator was saturated" in done.cases["one"]["reason"]
    assert of(done)["generator"]["late_share"] > 0.05


def test_requests_that_hang_are_timeouts(run: Run, orders: HttpReceiver) -> None:
    """The load ends although nobody answers."""
    orders.answer(HANG)
    done = run(load("stages: [{for: 200ms, at: 50/s}]", case=", timeout: 500ms"))

    assert done.verdict == "failed"
    assert of(done)["figures"]["errors_by_class"] == {"timeout": 10}
    assert of(done)["figures"]["latency"]["response"]["min_ms"] >= 490


def test_load_needs_leave(run: Run, admin: Caller, http_receiver: HttpReceiver) -> None:
    """Of the system, and in production of whoever runs it, even where nothing is written; else nothing is sent."""
    register(admin, "orders", http_receiver.url, allow_load=False)
    text = load("stages: [{for: 100ms, at: 50/s}]")
    done = run(text)
    assert (done.code, done.verdict, http_receiver.received) == (2, "errored", [])
    assert "does not allow load" in done.cases["one"]["reason"]

    assert admin("PATCH", "systems/orders/", {"allow_load": True, "environment": "production"}).status == 200
    done = run(text)
    assert (done.verdict, http_receiver.received) == ("errored", [])
    assert "--allow-production" in done.cases["one"]["reason"]
    assert run(text, "--allow-production").verdict == "passed"


@pytest.mark.parametrize(
    "step", ["message: {from: api}, assert: [{status: {eq: unrouted}}]", "python: {module: hooks, with: {host: shop}}"]
)
def test_load_reaches_only_what_it_names(run: Run, admin: Caller, orders: HttpReceiver, step: str) -> None:
    """What is not named cannot be asked whether it allows load; leave for production is no leave for that."""
    done = run(load("stages: [{for: 100ms, at: 20/s}]", step=f"{{{step}}}"), "--allow-production")

    assert done.verdict == "errored"
    assert "has to name what it reaches" in done.cases["one"]["reason"]
    assert admin("GET", "messages/").json["results"] == []


def test_only_development_allows_load_by_itself(admin: Caller) -> None:
    for stage, allowed in (("development", True), ("staging", False), ("production", False)):
        made = admin("POST", "systems/", {"slug": f"in-{stage}", "name": stage, "environment": stage})
        assert (made.status, made.json["allow_load"]) == (201, allowed)


def test_load_counts_in_no_health_and_no_breaker(run: Run, admin: Caller, orders: HttpReceiver) -> None:
    """A target that is broken by load on purpose is not held to be down for deliveries."""
    before = admin("GET", "endpoints/").json["results"][0]
    orders.answer(500)
    assert run(load("stages: [{for: 300ms, at: 100/s}]")).verdict == "failed"

    after = admin("GET", "endpoints/").json["results"][0]
    assert (after["health"], after["state"], after["breaker"]) == (before["health"], before["state"], before["breaker"])
    assert admin("GET", "incidents/").json["results"] == []


def test_each_iteration_reads_its_own_row_and_number(run: Run, orders: HttpReceiver) -> None:
    """A load is one case run; its iterations take the rows in turn, as one step or as several."""
    one = '{http: {system: api, path: "/${{ data.name }}/${{ iteration }}/${{ vars.tag }}"}, assert: [%s]}'
    top = 'data: {rows: [{name: a}, {name: b}, {name: c}]}\nvars: {tag: "t${{ iteration }}-${{ data.name }}"}'
    wanted = [f"/{'abc'[n % 3]}/{n}/t{n}-{'abc'[n % 3]}" for n in range(10)]
    for step in (one % "{status: {eq: 200}}", f"{one % '{status: {eq: 200}}'}, {{wait: 1ms}}"):
        orders.clear()
        done = run(load("stages: [{for: 200ms, at: 50/s}]", step=step, top=top))
        assert (done.verdict, done.report["counts"]) == ("passed", {"passed": 1}), done.out
        assert sorted(found.path for found in orders.received) == sorted(wanted)


def test_an_iteration_is_the_whole_case(run: Run, orders: HttpReceiver) -> None:
    """Captures, cleanups and every step's time are each iteration's own."""
    orders.answer(Answer(200, b'{"id": 7}', {"Content-Type": "application/json"}))
    steps = (
        "{id: make, http: {system: api, method: POST}, assert: none, capture: {id: body.$.id},"
        ' cleanup: {http: {system: api, method: DELETE, path: "/x/${{ captures.id }}"}}},'
        '{id: look, http: {system: api, path: "/x/${{ captures.id }}"}, assert: [{body.$.id: {eq: 7}}]}'
    )
    done = run(load("stages: [{for: 200ms, at: 50/s}]", step=steps))

    assert (done.verdict, of(done)["figures"]["iterations"]) == ("passed", 10), done.out
    assert [sum(found.method == method for found in orders.received) for method in ("POST", "GET", "DELETE")] == [
        10
    ] * 3
    assert {name: latency["count"] for name, latency in of(done)["figures"]["steps"].items()} == {
        "make": 10,
        "look": 10,
    }


def test_a_load_is_held_against_those_before_it(run: Run, orders: HttpReceiver) -> None:
    """The first has nothing to be compared with; one that is slower than the tolerance allows fails."""
    orders.answer(Answer(200, delay_s=0.02))
    text = load("stages: [{for: 300ms, at: 50/s}], baseline: {against: last 3 passed, tolerance: 100%}")
    assert run(text).verdict == "passed"
    orders.answer(Answer(200, delay_s=0.4))
    done = run(text)

    assert (done.code, done.verdict) == (1, "failed")
    assert "latency.response p95 against" in done.cases["one"]["reason"]


def test_a_load_is_held_against_those_before_it_when_its_system_changes_hands(
    run: Run, admin: Caller, orders: HttpReceiver
) -> None:
    """It is the same system, whoever owns it by now."""
    text = load("stages: [{for: 300ms, at: 50/s}], baseline: {against: last 3 passed, tolerance: 100%}")
    assert run(text).verdict == "passed"
    make_team("red")
    assert admin("PATCH", "systems/orders/", {"owner": "red"}).status == 200
    orders.answer(Answer(200, delay_s=0.4))

    assert run(text).verdict == "failed"


def test_a_load_of_messages_names_the_caps_that_bound_it(run: Run, admin: Caller, orders: HttpReceiver) -> None:
    """They are delivered as any message is: whoever reads that it was too slow has to know at what."""
    endpoint = admin("GET", "endpoints/?system=orders").json["results"][0]["id"]
    assert admin("PATCH", f"endpoints/{endpoint}/", {"max_in_flight": 7, "rate_per_s": 5}).status == 200
    step = "{message: {from: api, to: api, within: 100ms}, assert: [{status: {eq: delivered}}]}"
    done = run(load("stages: [{for: 200ms, at: 20/s}]", step=step))

    assert done.verdict == "failed"
    assert "its messages kept to the caps of deliveries: orders 7 at once, 5/s" in done.cases["one"]["reason"]


def test_a_load_whose_receiver_is_not_written_out_is_judged_all_the_same(run: Run, orders: HttpReceiver) -> None:
    """Whose caps bound it cannot be said beforehand; what it measured stands."""
    step = '{message: {from: api, to: "${{ vars.where }}", within: 100ms}, assert: [{status: {eq: delivered}}]}'
    done = run(load("stages: [{for: 200ms, at: 20/s}]", step=step, top="vars: {where: api}"))

    assert (done.verdict, of(done)["figures"]["iterations"]) == ("failed", 4), done.out
    assert "caps" not in done.cases["one"]["reason"]


def test_what_cannot_run_at_all_is_errored_at_once(run: Run, admin: Caller) -> None:
    register(admin, "orders", "http://169.254.169.254:80")
    done = run(load("stages: [{for: 1m, at: 20/s}]"))

    assert (done.code, done.verdict) == (2, "errored")
    assert done.report["took_s"] < 20


def test_what_the_format_takes_its_schema_takes() -> None:
    """Editors and the runner agree on what a load is."""
    schema = jsonschema_rs.validator_for(suite_schema())
    full = (
        "model: open, stages: [{for: 10s, to: 200/s}, {for: 1m, at: 200/s}], max_in_flight: 400, at_once: 64,"
        " warmup: 5s, abort_if: [{metric: errors, rate: {gt: 0.2}, over: 10s}], min_samples: 1000,"
        " thresholds: [{metric: latency.response, p: 99, lt: 400ms}, {metric: throughput, value: {gte: 190/s}}],"
        " baseline: {against: last 5 passed, tolerance: 15%}"
    )
    for more in (full, "model: closed, stages: [{for: 1s, at: 5}], think: 10ms"):
        assert read_suite(load(more)).cases[0].load is not None
        assert schema.is_valid(yaml.safe_load(load(more)))
    for more in (
        "stages: []",
        "stages: [{for: 1s, at: 2/x}]",
        "stages: [{for: 1s, at: 2/s}], thresholds: [{metric: a}]",
    ):
        assert not schema.is_valid(yaml.safe_load(load(more)))


@pytest.mark.parametrize(
    ("more", "case", "said"),
    [
        ("stages: [{for: 1s, at: 20}]", "", "the open model needs arrivals at a rate"),
        ("model: closed, stages: [{for: 1s, at: 20/s}]", "", "the closed model needs a number of users"),
        ("model: closed, stages: [{for: 1s, at: 2}], max_in_flight: 9", "", "max_in_flight is of the open model"),
        ("stages: [{for: 1s, at: 2/s}], think: 1s", "", "think is of the closed model"),
        ("stages: [{for: 1s}]", "", "needs exactly one of to, at"),
        ("stages: [{for: 1, at: 2/s}]", "", "must be a duration with its unit"),
        ("stages: [{for: 1s, at: 2/s}], warmup: 1s", "", "must be shorter than the stages"),
        ("stages: [{for: 1s, at: 2/s}]", ", retry: {max: 1}", "a case with load is not retried"),
        ("stages: [{for: 1s, at: 2/s}], thresholds: [{metric: latncy, p: 9, lt: 1s}]", "", "unknown metric 'latncy'"),
        ("stages: [{for: 1s, at: 2/s}], thresholds: [{metric: errors, p: 9, lt: 1}]", "", "errors has no p"),
        (
            "stages: [{for: 1s, at: 2/s}], thresholds: [{metric: latency.service, p: 9, lt: 1}]",
            "",
            "must be a duration with its unit",
        ),
        ("stages: [{for: 1s, at: 2/s}], abort_if: [{metric: errors, rate: {gt: 1}}]", "", "must be a duration"),
        ("stages: [{for: 1s, at: 2/s}], baseline: {against: last, tolerance: 5%}", "", "last 5 passed"),
    ],
)
def test_what_does_not_fit_together_is_refused(more: str, case: str, said: str) -> None:
    with pytest.raises(BadDocument) as refused:
        read_suite(load(more, case=case))

    assert said in str(refused.value)
    assert {fault.line for fault in refused.value.faults} == {5}
