"""The suite format: what is taken, what is refused and where, and that no input takes the reader down."""

import json
import time

import jsonschema_rs
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from testing.document.reader import MAX_BYTES, read_suite
from testing.document.schema import suite_schema
from testing.errors import BadDocument, Fault

GOOD = """\
suite: orders
title: Orders, end to end
labels: [orders, on]
systems: {api: orders, crm: crm/main}
vars: {sku: "A-${{ run.id }}", count: 3}
matrix: {region: [eu, us]}
data: {rows: [{n: 1}, {n: 2}]}
execution: {mode: parallel, max: 8, timeout: 10m}
gate: {flaky: warn, min_cases: 1}
cases:
  - case: first
    steps: [{http: {system: api, path: "/${{ matrix.region }}/${{ data.n }}"}, assert: [{status: {eq: 200}}]}]
  - case: second
    needs: [first]
    timeout: 30s
    retry: {max: 2, every: 200ms, backoff: 2, if: [timeout, assertion]}
    steps:
      - id: create
        http: {system: api, method: POST, path: /orders, json: {sku: "${{ vars.sku }}"}}
        assert: [{status: {in: [200, 201]}}, {latency: {lt: 300ms}}]
        capture: {order: body.$.id}
        cleanup: {http: {system: api, method: DELETE, path: "/orders/${{ captures.order }}"}}
      - group:
          - {message: {from: api, to: crm}, assert: none}
          - {wait: 5ms}
      - http: {system: api, path: "/orders/${{ captures.order }}"}
        poll: {within: 1s, every: 50ms}
        assert: [{body.$.state: {eq: "new"}}]
"""


def small(step: str = "{wait: 1ms}", top: str = "") -> str:
    """Return a suite of one step, which stands in line 4."""
    return f"suite: a\nsystems: {{api: orders}}\ncases:\n  - {{case: c, steps: [{step}]}}\n{top}"


def http(**keys: str) -> str:
    more = "".join(f", {key}: {value}" for key, value in keys.items())
    return small(f"{{http: {{system: api}}{more}}}")


DEEP = "[" * 100 + "]" * 100
BAD = {
    # what a reader of YAML can be fooled by
    "alias": ("suite: *a", 1, 8, "aliases are not allowed"),
    "anchor": ("suite: &a b", 1, 8, "anchors are not allowed"),
    "tag": ("suite: !!python/object:os.system b", 1, 8, "tags are not allowed"),
    "bomb": ("a: &a [x, x]\nb: [*a, *a]", 1, 4, "anchors are not allowed"),
    "merge": (small(top="<<: {title: x}"), 5, 1, "unknown key '<<'"),
    "duplicate": ("suite: a\nsuite: b", 2, 1, "duplicate key 'suite', first in line 1"),
    "duplicate in json": ('{"suite": "a",\n "suite": "b"}', 2, 2, "duplicate key 'suite'"),
    "two documents": ("suite: a\n---\nsuite: b", 2, 1, "second document"),
    "not yaml": ("suite: [", 2, 1, "not valid YAML"),
    "empty": ("", 1, 1, "empty"),
    "nul": (small('{wait: "\\0"}'), 4, 30, "NUL"),
    "not finite": (small("{wait: .inf}"), 4, 30, "finite"),
    "large": (small("{wait: 99999999999999999999}"), 4, 30, "64 bits"),
    "long": (small("{wait: " + "9" * 5000 + "}"), 4, 30, "too long"),
    "deep": (small("{wait: " + DEEP + "}"), 4, None, "nested deeper than 64"),
    "unread": ("x" * (MAX_BYTES + 1), 1, 1, "it was not read"),
    # shapes and units
    "list": ("- a", 1, 1, "must be an object"),
    "no cases": ("suite: a", 1, 1, "'cases' is missing"),
    "key": (small(top="titel: x"), 5, 1, "unknown key 'titel'; did you mean 'title'?"),
    "type": (small(top="title: 5"), 5, 8, 'must be a text, not a number; write "5"'),
    "boolean": (small(top="execution: {fail_fast: yes}"), 5, 24, "must be true or false, not 'yes'"),
    "duration": (small("{wait: 5}"), 4, 30, "must be a duration with its unit"),
    "size": (http(**{"assert": "[{size: {lt: 5}}]"}), 4, None, "must be a size with its unit"),
    "slug": ("suite: A b\ncases: []", 1, 8, "does not match"),
    "mode": (small(top="execution: {mode: spread}"), 5, 19, "unknown value 'spread'"),
    "load": (small(top="load: {}"), 5, 1, "unknown key 'load'"),
    # steps
    "kind": (small("{telnet: {}}"), 4, 24, "unknown step kind 'telnet'; known are http"),
    "two kinds": (small("{wait: 1s, http: {system: api}}"), 4, 23, "exactly one step kind"),
    "no assert": (http(), 4, 23, "asserts nothing; add assert, or say `assert: none`"),
    "nothing to assert": (small("{wait: 1s, assert: none}"), 4, 34, "nothing to look at"),
    "subject": (http(**{"assert": "[{stats: {eq: 1}}]"}), 4, None, "unknown subject 'stats'; did you mean 'status'?"),
    "other subject": (http(**{"assert": "[{rows: {len: 1}}]"}), 4, None, "a http step has no 'rows'"),
    "operator": (http(**{"assert": "[{status: {equals: 1}}]"}), 4, None, "unknown operator 'equals'"),
    "operand": (http(**{"assert": "[{status: {in: 1}}]"}), 4, None, "needs a list"),
    "pattern": (http(**{"assert": "[{text: {matches: '('}}]"}), 4, None, "needs a regular expression"),
    "path": (http(**{"assert": "[{'body.$[': {eq: 1}}]"}), 4, None, "not a JSONPath"),
    "poll": (http(**{"assert": "none", "poll": "{within: 1s}"}), 4, None, "needs assertions to wait for"),
    "system": (small("{http: {system: apo}, assert: none}"), 4, None, "unknown system 'apo'; did you mean 'api'?"),
    # references
    "reference": (small('{http: {system: api, path: "/${{ env.x }}"}, assert: none}'), 4, None, "unknown reference"),
    "variable": (small('{http: {system: api, path: "/${{ vars.x }}"}, assert: none}'), 4, None, "name in vars 'x'"),
    "capture": (small('{http: {system: api, path: "/${{ captures.x }}"}, assert: none}'), 4, None, "captures 'x'"),
    "expression": (small('{http: {system: api, path: "/${{ 1 + 1 }}"}, assert: none}'), 4, None, "not a reference"),
    "open": (small('{http: {system: api, path: "/${{ now"}, assert: none}'), 4, None, "has no '}}'"),
    "in a variable": (small(top='vars: {a: x, b: "${{ vars.a }}"}'), 5, None, "unknown reference 'vars'"),
    "in a duration": (small(top='execution: {timeout: "${{ now }}"}'), 5, None, "must be written out"),
    # graph
    "itself": ("suite: a\ncases:\n  - {case: c, needs: [c], steps: [{wait: 1s}]}", 3, None, "a cycle: c -> c"),
    "unknown need": ("suite: a\ncases:\n  - {case: c, needs: [d], steps: [{wait: 1s}]}", 3, 23, "there is no case 'd'"),
    "lock of the run": (
        small(top="execution: {locks: b}").replace("c, ", "c, locks: b, "),
        4,
        22,
        "holds the lock 'b'",
    ),
    "lock before it": (
        small(top="execution: {locks: [b, d]}").replace("c, ", "c, locks: [d, c, e], "),
        4,
        22,
        "'c' sorts before it",
    ),
    "same name": ("suite: a\ncases:\n" + "  - {case: c, steps: [{wait: 1s}]}\n" * 2, 4, 12, "already"),
    "matrix": (
        small(top="matrix: {" + ", ".join(f"{n}: {list(range(50))}" for n in "ab") + "}"),
        5,
        None,
        "combinations",
    ),
}


def refused(text: str | bytes, name: str = "") -> BadDocument:
    with pytest.raises(BadDocument) as caught:
        read_suite(text, name)
    return caught.value


def faults_of(text: str | bytes) -> list[Fault]:
    """Return what is wrong, nothing for a suite."""
    try:
        read_suite(text)
    except BadDocument as error:
        return error.faults
    return []


def test_a_good_suite_is_read_whole() -> None:
    """Everything that the format's description uses is understood, in the right units."""
    suite = read_suite(GOOD)

    assert (suite.slug, suite.labels, suite.execution.timeout_s) == ("orders", ("orders", "on"), 600.0)
    second = suite.cases[1]
    assert (second.needs, second.timeout_s, second.retry.wait_s(3)) == (("first",), 30.0, 0.8)
    assert [step.kind for step in second.steps] == ["http", "group", "http"]
    assert suite.case_runs == 8


def test_the_text_comes_back_byte_for_byte() -> None:
    """What is stored is the document itself, comments and all."""
    text = f"# kept\n{GOOD}\n# and this\n"

    assert read_suite(text).text == text


def test_json_says_the_same_as_yaml() -> None:
    """One format in two spellings; JSON has its places, too."""
    same = json.dumps(yaml.safe_load(GOOD.replace(", on]", ", 'on']")), indent=1)

    assert read_suite(same).cases[1].needs == read_suite(GOOD).cases[1].needs
    fault = refused(same.replace('"needs"', '"neds"'), "x.json").faults[0]
    assert same.splitlines()[fault.line - 1][fault.column - 1 :].startswith('"needs"')


def test_only_the_core_schema_has_booleans() -> None:
    """YAML 1.1 would make true of `on` and 80 of `1:20`."""
    suite = read_suite(small(top="vars: {a: on, b: no, c: 1:20, d: true, e: 0o17, f: ~, g: 1e3, h: 010}"))

    assert suite.vars == {"a": "on", "b": "no", "c": "1:20", "d": True, "e": 15, "f": None, "g": 1000.0, "h": 10}


@pytest.mark.parametrize("name", BAD)
def test_a_fault_is_told_with_its_place(name: str) -> None:
    """Line, column and what to do, within 200 ms however bad it is."""
    text, line, column, said = BAD[name]
    started = time.thread_time()
    error = refused(text)
    took = time.thread_time() - started

    fault = next((fault for fault in error.faults if said in fault.detail), None)
    assert fault is not None, error.detail
    assert fault.line == line
    assert column in (None, fault.column)
    assert took < 0.2
    assert error.status == 422
    assert error.errors[0].keys() == {"field", "code", "detail", "line", "column"}


def test_all_faults_are_told_at_once() -> None:
    """Whoever mends a suite does not do it one run at a time."""
    error = refused(small("{wait: 5}, {wiat: 1s}", "titel: x"))

    assert [fault.line for fault in error.faults] == [4, 4, 5]


def test_a_long_cycle_is_named_in_order() -> None:
    """A chain of 2,000 cases is no trouble; one that bites its tail is refused with the way round."""
    cases = "".join(f"  - {{case: c{n}, needs: [c{n + 1}], steps: [{{wait: 1ms}}]}}\n" for n in range(1999))
    chain = f"suite: a\ncases:\n{cases}  - {{case: c1999, %ssteps: [{{wait: 1ms}}]}}\n"

    assert len(read_suite(chain % "").cases) == 2000
    assert "c1998 -> c1999 -> c0" in refused(chain % "needs: [c0], ").detail


def test_what_is_not_utf8_is_refused_with_its_place() -> None:
    assert refused(b"suite: a\ntitle: \xff").faults[0].line == 2


def test_the_schema_takes_what_the_reader_takes() -> None:
    """Both come from the same tables."""
    schema = suite_schema()
    validator = jsonschema_rs.Draft202012Validator(schema)

    assert list(validator.iter_errors(yaml.safe_load(GOOD.replace(", on]", ", 'on']")))) == []
    for name in ("key", "type", "duration", "slug", "mode", "kind", "two kinds", "load"):
        assert not validator.is_valid(yaml.safe_load(BAD[name][0])), name


LINES = st.sampled_from(
    [line.strip() for line in GOOD.splitlines()] + ["- ", "a: b", "? x", "| ", "'", "{", "${{", "\t"]
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["${{ vars.x }}", "5s", "none"]),
    lambda below: (
        st.lists(below, max_size=4)
        | st.dictionaries(
            st.sampled_from(["suite", "cases", "case", "steps", "http", "assert", "status", "group", "needs", "x"]),
            below,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.text() | st.lists(LINES, max_size=12).map("\n".join) | JSON.map(json.dumps))
@example("\ufeffsuite: a")
@example("suite: '\ud800'")
def test_any_text_is_read_or_refused(text: str) -> None:
    """No input is our fault: there is a suite, or an error with its place."""
    assert all(fault.line >= 1 and fault.column >= 1 for fault in faults_of(text))


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.binary()
    | st.integers(0, len(GOOD) - 1).flatmap(
        lambda at: st.text(max_size=3).map(lambda put: (GOOD[:at] + put + GOOD[at + 1 :]).encode("utf-8", "replace"))
    )
)
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """Likewise for bytes, and for a good suite with one place changed."""
    assert all(fault.line >= 1 and fault.column >= 1 for fault in faults_of(body))
