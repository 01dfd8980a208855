"""Subjects and operators, each of the table, on what they hold for and what they do not."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest

from testing.assertions.judge import compile_assertion, judge
from testing.assertions.observation import Observation
from testing.assertions.operators import NAMES

NOW = datetime.now(UTC).isoformat()
ID = "0193f6a2-7d4c-7000-8000-000000000001"
ITEM = {"id": 1, "at": "x"}
# (operator, operand, what it holds for, what it does not)
CASES: list[tuple[str, Any, list[Any], list[Any]]] = [
    ("eq", 1, [1, 1.0], ["1", True, 2, None]),
    ("eq", {"a": [1, "b"]}, [{"a": [1, "b"]}], [{"a": [1]}, {"a": [1, "b"], "c": 0}, {"a": ["1", "b"]}]),
    ("ne", 1, ["1", 2, True], [1, 1.0]),
    ("lt", 5, [4, 4.9], [5, "4", None, True]),
    ("lte", 5, [5], [5.1]),
    ("gt", "b", ["c"], ["a", 5]),
    ("gte", 5, [5, 6], [4, "5"]),
    ("between", [1, 3], [1, 2.5, 3], [0, 4, "2", None]),
    ("in", [200, 201], [200], ["200", 204]),
    ("not_in", [200], [201, "200"], [200]),
    ("contains", "b", ["abc", ["a", "b"], {"b": "k"}], ["ac", 5, ["abc"]]),
    ("contains", True, [[1, True]], [[1], "true"]),
    ("contains", {}, [[{}]], [[{"a": 1}], []]),
    ("not_contains", "b", ["ac", ["abc"]], ["abc", 5, None]),
    ("starts_with", "a", ["ab"], ["ba", 5]),
    ("ends_with", "b", ["ab"], ["ba", None]),
    ("matches", "a+b", ["aab"], ["aabc", 5]),
    ("search", "a+b", ["xaabc"], ["xyz"]),
    ("null", True, [None], [0, ""]),
    ("null", False, [0], [None]),
    ("empty", True, ["", [], {}], ["a", [0], 0, None]),
    ("empty", False, ["a"], ["", 0]),
    ("type", "uuid", [ID], ["x", 5, ID[:-1]]),
    ("type", "integer", [5, 5.0], [5.5, "5", True, math.inf]),
    ("type", "timestamp", [NOW, "2026-01-02T03:04:05Z"], ["2026-01-02", 5]),
    ("type", "ip", ["::1", "127.0.0.1"], ["localhost"]),
    ("type", "url", ["http://a/b"], ["/b"]),
    ("len", 2, ["ab", [1, 2], {"a": 1, "b": 2}], ["a", 2]),
    ("len", {"gte": 1}, [[1]], [[]]),
    ("each", {"gt": 0}, [[1, 2]], [[1, 0], [], "ab", None]),
    ("any", {"eq": 1}, [[0, 1]], [[], [0], 1]),
    ("none", {"eq": 1}, [[0, 2]], [[], [0, 1], 1]),
    ("all", [{"gt": 1}, {"lt": 3}], [2], [1, 3]),
    ("any_of", [{"eq": 1}, {"eq": 2}], [1, 2], [3]),
    ("not", {"contains": "b"}, ["ac", 5], ["abc"]),
    ("json", {"value": {"a": 1}}, [{"a": 1}], [{"a": 1, "b": 2}]),
    ("json", {"value": {"a": 1}, "mode": "subset"}, [{"a": 1, "b": 2}], [{"b": 2}, {"a": "1"}]),
    ("json", {"value": [1, 2, 2], "mode": "unordered"}, [[2, 1, 2]], [[1, 2], [1, 1, 2]]),
    ("json", {"value": [ITEM], "ignore": ["at"]}, [[{"id": 1, "at": "y"}]], [[{"id": 2, "at": "x"}]]),
    ("json", {"value": [ITEM], "ignore": ["$[0].at"]}, [[{"id": 1, "at": "y"}]], [[{"id": 2, "at": "x"}]]),
    ("schema", {"type": "object", "required": ["a"]}, [{"a": 1}], [{}, 5]),
    ("approx", 1.0, [1.0000001], [1.1, "1"]),
    ("approx", {"value": 1, "tolerance": 0.5}, [1.5, 0.5], [1.6]),
    ("before", "2026-01-02T00:00:00Z", ["2026-01-01T23:59:59+00:00"], ["2026-01-02T00:00:00Z", 5, "x"]),
    ("after", "2026-01-02T00:00:00Z", ["2026-01-02T00:00:00+00:01"[:19] + "-01:00"], ["2026-01-01T00:00:00Z"]),
    ("within", "24h", [NOW], ["2020-01-01T00:00:00Z", "x"]),
    ("exists", True, [0, None], []),
    ("absent", False, [0], []),
]


def ask(subject: str, operators: Any, seen: Observation) -> Any:
    return judge(compile_assertion(subject, operators), seen, {})


def of_rows(value: Any) -> Observation:
    return Observation(rows=[value])


@pytest.mark.parametrize(("operator", "operand", "holds", "fails"), CASES)
def test_an_operator_holds_for_what_it_says_and_nothing_else(
    operator: str, operand: Any, holds: list[Any], fails: list[Any]
) -> None:
    """Types are kept: `"1"` is not `1`, and what cannot be compared does not hold."""
    for value in holds:
        assert ask("rows.0", {operator: operand}, of_rows(value)).ok, value
    for value in fails:
        found = ask("rows.0", {operator: operand}, of_rows(value))
        assert not found.ok, value
        assert found.where.startswith("rows.0")
        assert found.detail


def test_every_operator_is_tried_above() -> None:
    assert {case[0] for case in CASES} == set(NAMES)


@pytest.mark.parametrize("operators", [{"ne": 1}, {"lt": 5}, {"not": {"eq": 1}}, {"eq": math.nan}, {"type": "number"}])
def test_nan_never_passes(operators: Any) -> None:
    """It compares as nothing does, so that any operator could be fooled by it."""
    assert not ask("rows.0", operators, of_rows(math.nan)).ok


def test_each_of_nothing_fails_unless_it_may_be_empty() -> None:
    """A statement about every item of nothing is no statement."""
    assert not ask("rows", {"each": {"eq": 1}}, Observation(rows=[])).ok
    assert ask("rows", {"each": {"eq": 1}, "allow_empty": True}, Observation(rows=[])).ok
    for twice in ({"not": {"each": {"eq": 1}}}, {"all": [{"each": {"eq": 1}}]}, {"any_of": [{"none": {"eq": 1}}]}):
        assert not ask("rows", {"not": twice}, Observation(rows=[])).ok, twice
    assert ask("rows", {"not": {"all": [{"each": {"eq": 1}}]}}, Observation(rows=[2])).ok


def test_a_difference_says_where() -> None:
    """The path of the first one, with both values."""
    found = ask(
        "body.$", {"eq": {"items": [{"id": 1}, {"id": 2}]}}, Observation(body=b'{"items": [{"id": 1}, {"id": 3}]}')
    )

    assert (found.where, found.expected, found.actual) == ("body.$.items[1].id", 2, 3)


JSON = b'{"id": 7, "items": [{"n": 1}, {"n": 2}]}'
FULL = Observation(
    latency_ms=12.5,
    status=200,
    headers={"Content-Type": "application/json"},
    body=JSON,
    rows=[{"state": "new"}],
    messages=["a"],
    events=[{"type": "x"}],
    tls={"version": "TLSv1.3"},
    phases_ms={"connect": 1.0, "first_byte": 2.0},
)
SUBJECTS = {
    "status": 200,
    "headers.content-type": "application/json",
    "body.$.id": 7,
    "body.$.items[*].n": [1, 2],
    "text": JSON.decode(),
    "bytes": JSON.hex(),
    "rows.0.state": "new",
    "rows.-1.state": "new",
    "messages.0": "a",
    "events.0.type": "x",
    "tls.version": "TLSv1.3",
}


@pytest.mark.parametrize(("subject", "value"), SUBJECTS.items())
def test_a_subject_is_found(subject: str, value: Any) -> None:
    assert ask(subject, {"eq": value}, FULL).ok


def test_a_phase_that_was_not_measured_says_which_were() -> None:
    assert "there are connect, first_byte" in ask("latency.tls", {"exists": True}, FULL).detail


def test_latency_and_size_are_asked_in_units() -> None:
    """`300ms` and `1MiB`; a bare number would be anybody's guess."""
    assert ask("latency", {"between": ["12ms", "13ms"]}, FULL).ok
    assert ask("latency.connect", {"lte": "1ms"}, FULL).ok
    assert ask("size", {"eq": f"{len(JSON)}B"}, FULL).ok
    with pytest.raises(ValueError, match="unit"):
        compile_assertion("latency", {"lt": 300})


@pytest.mark.parametrize(
    ("subject", "seen", "said"),
    [
        ("body.$.name", FULL, 'the body is {"id":7'),
        ("headers.etag", FULL, "there are Content-Type"),
        ("rows.1.state", FULL, "it holds 1 items"),
        ("rows.0.id", FULL, "there are state"),
        ("error.class", FULL, "no error; status 200"),
        ("status", Observation(error_class="connect", error="refused", no_answer=True), "connect, refused"),
        ("body.$.id", Observation(body=b"<html>"), "no JSON"),
        ("body.$.id", Observation(body=b'{"id"', truncated=True), "cut at 5 bytes"),
        ("rows", FULL.__class__(status=200), "there is status"),
    ],
)
def test_what_is_not_there_fails_and_says_what_is(subject: str, seen: Observation, said: str) -> None:
    """Also when the operator is one that nothing at all would satisfy; `absent` alone is content."""
    for operators in ({"ne": 1}, {"not": {"eq": 1}}, {"exists": True}):
        found = ask(subject, operators, seen)
        assert not found.ok
        assert said in found.detail
    assert ask(subject, {"absent": True}, seen).ok


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*$", "(.*a){20}"])
def test_no_pattern_takes_for_ever(pattern: str) -> None:
    """RE2 is linear in the text; the test's own time limit is the proof."""
    ask("text", {"search": pattern}, Observation(body=b"a" * 100_000 + b"!"))
    ask("text", {"schema": {"pattern": pattern}}, Observation(body=b"a" * 10_000 + b"!"))


def test_a_schema_fetches_nothing() -> None:
    """What it refers to has to stand in the suite."""
    with pytest.raises(ValueError, match="write it into the suite"):
        compile_assertion("body.$", {"schema": {"$ref": "http://127.0.0.1:9/schema.json"}})
