"""Every rule of verdicts: what may pass, what may rescue, what may turn a run, and that nothing passes by itself."""

from collections.abc import Sequence
from typing import Any

import pytest

from testing.assertions.judge import compile_assertion, judge
from testing.assertions.observation import Observation
from testing.document.reader import read_suite
from testing.document.suite import Case, Gate, Retry
from testing.errors import BadDocument
from testing.models import Part, Verdict
from testing.runner.judging import judge_run
from testing.runner.plan import Instance
from testing.runner.results import CaseResult
from tests.endpoints.conftest import Caller
from tests.servers.answers import HANG
from tests.servers.http import HttpReceiver
from tests.servers.ports import free_port
from tests.testing.conftest import answer, register
from tests.testing.test_runs import CLEANUP, Run, ask, case, suite

P, F, E, I = "passed", "failed", "errored", "inconclusive"  # noqa: E741
B, S, C = "blocked", "skipped", "cancelled"


def ended(*verdicts: str, part: Part = Part.CASE, **flags: bool) -> list[CaseResult]:
    return [
        CaseResult(Instance(number, Case(f"c{number}", (), 1.0, Retry(), ()), part), Verdict(verdict), verdict, **flags)
        for number, verdict in enumerate(verdicts, start=1)
    ]


@pytest.mark.parametrize(
    ("cases", "verdict"),
    [
        ([P, P], P),
        ([P, F], F),
        ([E, F], F),  # what was judged wrong speaks before what could not be judged
        ([P, E], E),
        ([P, B], B),
        ([P, I], I),
        ([I, B], I),
        ([P, S], P),
        ([C, F, P], C),  # whoever ended it knows; the rest of it was never seen
        ([S, S], I),  # nothing was looked at
        ([], I),
    ],
)
def test_a_run_ends_as_the_worst_of_its_cases(cases: Sequence[str], verdict: str) -> None:
    """And as passed only when something was judged."""
    assert judge_run(ended(*cases), Gate()).verdict == verdict


@pytest.mark.parametrize("part", [Part.SETUP, Part.TEARDOWN])
def test_setup_and_teardown_count_only_when_they_go_wrong(part: Part) -> None:
    """They make nothing green, and their failure is one of the run."""
    assert judge_run([*ended(P), *ended(F, part=part)], Gate()).verdict == F
    assert judge_run([*ended(F), *ended(P, part=part)], Gate()).verdict == F
    assert judge_run(ended(P, part=part), Gate()).verdict == I


def test_a_flag_never_makes_a_run_better() -> None:
    """Flaky may make it worse, dirty changes nothing."""
    for gate, verdict in (("pass", P), ("warn", P), ("fail", F)):
        found = judge_run(ended(P, flaky=True, dirty=True), Gate(flaky=gate))
        assert (found.verdict, found.flaky, found.dirty) == (verdict, True, True)
    assert judge_run(ended(F, flaky=True, dirty=True), Gate(flaky="pass")).verdict == F


# What was answered, what a retry must cover to help, and what does not cover it.
REASONS: dict[str, tuple[Any, str, str, str]] = {
    "429": (429, "throttled", "timeout", "{status: {eq: 200}}"),
    "404": (404, "client_error", "server_error", "{status: {eq: 200}}"),
    "503": (503, "server_error", "client_error", "{status: {eq: 200}}"),
    "wrong body": (answer(200, {"n": 1}), "assertion", "server_error", "{body.$.n: {eq: 2}}"),
    "no answer in time": (HANG, "timeout", "assertion", "{status: {eq: 200}}"),
}


@pytest.mark.parametrize("name", REASONS)
def test_a_retry_covers_what_it_names_and_nothing_else(run: Run, orders: HttpReceiver, name: str) -> None:
    """`any` covers all; every try is kept, and the case is marked."""
    wrong, covers, other, asserted = REASONS[name]
    step = f"{{http: {{system: api}}, timeout: 250ms, assert: [{asserted}]}}"
    good = answer(200, {"n": 2})
    for reasons, verdict, rounds in ((other, F, 1), (covers, P, 2), ("any", P, 2)):
        orders.answer(wrong, good)
        done = run(suite(case("one", step, more=f", retry: {{max: 1, every: 1ms, if: [{reasons}]}}")))
        found = done.cases["one"]
        assert (found["verdict"], found["rounds"], found["flaky"]) == (verdict, rounds, rounds == 2), reasons
        assert len(found["steps"]) == rounds


def test_a_connection_refused_can_be_tried_again(run: Run, admin: Caller) -> None:
    register(admin, "orders", f"http://127.0.0.1:{free_port()}")
    for reason, rounds in (("timeout", 1), ("connect", 3)):
        done = run(suite(case("one", ask(), more=f", retry: {{max: 2, every: 1ms, if: [{reason}]}}")))
        assert (done.code, done.cases["one"]["rounds"]) == (1, rounds)


def test_a_poll_and_a_retry_are_two_things(run: Run, orders: HttpReceiver) -> None:
    """Waiting within a round marks nothing; a round that was waited out in vain and tried again does."""
    orders.answer(*[503] * 40, 200)
    step = ask(more=", poll: {within: 150ms, every: 20ms}")
    done = run(suite(case("one", step, more=", retry: {max: 9, every: 1ms}")))

    found = done.cases["one"]
    assert (done.code, found["flaky"], found["rounds"] > 1) == (0, True, True)
    tries = [len(tried["attempts"]) for tried in found["steps"]]
    assert (sum(tries), min(tries[:-1]) > 1) == (41, True)  # every one of both is kept


def test_a_poll_does_not_ask_again_what_cannot_be_asked(run: Run, orders: HttpReceiver) -> None:
    """What is our own fault does not heal by waiting."""
    broken = "{http: {system: api, body: x, json: 1}, poll: {within: 20s, every: 10ms}, assert: [{status: {eq: 200}}]}"
    done = run(suite(case("one", broken)))

    assert (done.verdicts, len(done.cases["one"]["steps"][0]["attempts"])) == ({"one": "errored"}, 1)
    assert orders.received == []


def test_a_green_teardown_and_cleanup_leave_red_red(run: Run, orders: HttpReceiver) -> None:
    orders.answer_at("/bad", 500)
    done = run(suite(case("one", ask(path="/bad", more=CLEANUP % "ok")), top=f"teardown: [{ask()}]"))

    assert (done.code, done.verdicts) == (1, {"one": "failed", "teardown": "passed"})
    assert [step["verdict"] for step in done.cases["one"]["steps"]] == ["failed", "passed"]


def test_a_failed_teardown_fails_the_run_and_no_case(run: Run, orders: HttpReceiver) -> None:
    orders.answer_at("/bad", 500)
    done = run(suite(case("one", ask()), top=f"teardown: [{ask(path='/bad')}]"))

    assert (done.code, done.verdicts) == (1, {"one": "passed", "teardown": "failed"})
    assert "teardown" in done.junit


def test_every_attempt_keeps_what_was_meant_and_what_was_seen(run: Run, orders: HttpReceiver) -> None:
    """Intended and actual start, phases, expected and actual and where, the answer, of each one."""
    orders.answer(answer(200, {"n": 1}), answer(200, {"n": 2}))
    step = "{http: {system: api}, poll: {within: 9s, every: 10ms}, assert: [{body.$.n: {eq: 2}}, {status: {eq: 200}}]}"
    first, second = run(suite(case("one", step))).cases["one"]["steps"][0]["attempts"]

    assert (first["verdict"], second["verdict"]) == ("failed", "passed")
    wrong, right = first["checks"]
    assert (wrong["where"], wrong["expected"], wrong["actual"], right["ok"]) == ("body.$.n", 2, 1, True)
    assert [found["response"]["body"] for found in (first, second)] == ['{"n": 1}', '{"n": 2}']
    assert first["intended_at"] <= first["started_at"] <= second["started_at"]
    assert {"connect", "first_byte"} <= first["phases_ms"].keys()


def step_of(assertion: str) -> str:
    return (
        f"suite: a\nsystems: {{api: orders}}\ncases: [{{case: c, steps: [{{http: {{system: api}}, {assertion}}}]}}]\n"
    )


STEP = "{http: {system: api}, assert: [{status: {eq: 200}}]}"
VACUOUS = {
    "no case": "suite: a\ncases: []\n",
    "no step": "suite: a\ncases: [{case: c, steps: []}]\n",
    "no step in a group": "suite: a\ncases: [{case: c, steps: [{group: []}]}]\n",
    "no row": f"suite: a\nsystems: {{api: orders}}\ndata: {{rows: []}}\ncases: [{{case: c, steps: [{STEP}]}}]\n",
    "no value": f"suite: a\nsystems: {{api: orders}}\nmatrix: {{r: []}}\ncases: [{{case: c, steps: [{STEP}]}}]\n",
    "nothing said": step_of("timeout: 1s"),
    "empty list": step_of("assert: []"),
    "empty assertion": step_of("assert: [{}]"),
    "no operator": step_of("assert: [{status: {}}]"),
    "empty alone": step_of("assert: [{body.$: {allow_empty: true}}]"),
    "all of nothing": step_of("assert: [{status: {all: []}}]"),
    "not nothing": step_of("assert: [{status: {not: {}}}]"),
    "each of nothing said": step_of("assert: [{'body.$[*]': {each: {}}}]"),
    "not in nothing": step_of("assert: [{status: {not_in: []}}]"),
    "contains nothing": step_of("assert: [{text: {contains: ''}}]"),
    "starts with nothing": step_of("assert: [{text: {starts_with: ''}}]"),
    "ends with nothing": step_of("assert: [{text: {ends_with: ''}}]"),
    "search nothing": step_of("assert: [{text: {search: ''}}]"),
    "any schema": step_of("assert: [{body.$: {schema: {}}}]"),
    "schema true": step_of("assert: [{body.$: {schema: true}}]"),
    "subset of nothing": step_of("assert: [{body.$: {json: {value: {}, mode: subset}}}]"),
}


@pytest.mark.parametrize("name", VACUOUS)
def test_what_would_hold_of_anything_is_refused(name: str) -> None:
    """Whoever writes it means something else, and would read green."""
    with pytest.raises(BadDocument):
        read_suite(VACUOUS[name])


@pytest.mark.parametrize("operator", ["each", "none", "any", "not each", "not none", "not any"])
def test_a_statement_about_the_items_of_nothing_is_none(operator: str) -> None:
    """Neither it nor its opposite has been shown; with `allow_empty` somebody says that it may be so."""
    negated, _, name = operator.rpartition(" ")
    operators: Any = {name: {"eq": 1}}
    found = judge(compile_assertion("rows", {"not": operators} if negated else operators), Observation(rows=[]), {})

    assert not found.ok
    if name == "each":
        assert judge(compile_assertion("rows", {**operators, "allow_empty": True}), Observation(rows=[]), {}).ok


def test_references_are_held_to_the_same(run: Run, orders: HttpReceiver) -> None:
    """An operand that turns out to be nothing when it is read could not be judged."""
    orders.answer(answer(200, {"word": ""}))
    later = "{http: {system: api}, assert: [{text: {contains: '${{ captures.word }}'}}]}"
    done = run(suite(case("one", ask(more=", capture: {word: body.$.word}"), later)))

    assert (done.code, done.verdicts) == (2, {"one": "errored"})


def test_an_answer_that_is_cut_off_or_empty_passes_nothing_about_its_body(run: Run, orders: HttpReceiver) -> None:
    """What is not there fails whatever the operator, and says what was there instead."""
    tests = (
        "{body.$.n: {ne: 1}}",
        "{body.$.n: {not_in: [1]}}",
        "{body.$.n: {empty: false}}",
        "{headers.x: {not: {eq: a}}}",
    )
    done = run(suite(*(case(f"c{n}", f"{{http: {{system: api}}, assert: [{text}]}}") for n, text in enumerate(tests))))

    assert set(done.verdicts.values()) == {"failed"}
    assert all("is not there" in found["reason"] for found in done.cases.values()), done.raw
