"""An endpoint's own rules for what an answer means: `outcomes`, first match wins.

A rule is {"when": {subject: {operator: expected}}, "is": verdict}; all subjects
of a rule must hold. Subjects and operators are those of suites: typed ("1" is
not 1), and a subject that cannot be found matches nothing but `absent`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import re2

from endpoints.edge import strict_json
from endpoints.edge.apart import LONG, apart
from endpoints.edge.json_path import MOST_VISITS, Allowance, JSONPathError, Path, compile_path, first
from endpoints.errors import Malformed
from endpoints.transports.base import Reply, TransportError

VERDICTS = ("delivered", "retry", "dead", "throttled")
MAX_RULES = 50
MOST_LOOKS = 5 * MOST_VISITS  # by all rules together


class Missing:
    """Stands for a subject that is not there; equal to nothing."""


MISSING = Missing()


class Seen:
    """What came back, as an endpoint's rules look at it: they share one reading of its body, and one allowance."""

    __slots__ = ("_allowance", "_body", "error_class", "reply")

    def __init__(self, reply: Reply, error_class: str) -> None:
        self.reply, self.error_class = reply, error_class
        self._body: Any = None
        self._allowance = Allowance(MOST_LOOKS)

    def at(self, path: Path) -> Any:
        """Return what stands in the body at `path`; MISSING, too, where that cannot be found out in reasonable time."""
        try:
            if self._body is None:
                self._body = (strict_json.parse(self.reply.body),)
            found = first(path, self._body[0], self._allowance) if self._body else None
        except Malformed:
            self._body = ()
            return MISSING
        except JSONPathError:
            return MISSING
        return found.obj if found else MISSING


Subject = Callable[[Seen], Any]


@dataclass(frozen=True, slots=True)
class Rule:
    """One compiled rule."""

    conditions: tuple[tuple[Subject, Callable[[Any], bool]], ...]
    verdict: str

    def matches(self, seen: Seen) -> bool:
        return all(holds(read(seen)) for read, holds in self.conditions)


def compile_rules(outcomes: Sequence[Any]) -> tuple[Rule, ...]:
    """Return the rules of an endpoint ready to be asked; raises Malformed saying which one is wrong and how."""
    if not isinstance(outcomes, list) or len(outcomes) > MAX_RULES:
        raise _wrong("outcomes", f"must be a list of at most {MAX_RULES} rules")
    return tuple(_compile(f"outcomes.{index}", rule) for index, rule in enumerate(outcomes))


def first_match(rules: Sequence[Rule], result: Reply | TransportError) -> str | None:
    """Return the verdict of the first rule that matches what came back, None when none does."""
    if not rules:
        return None
    reply = result if isinstance(result, Reply) else result.reply
    error_class = "" if isinstance(result, Reply) else result.error_class.value
    seen = Seen(reply or _NOTHING, error_class)
    return next((rule.verdict for rule in rules if rule.matches(seen)), None)


async def judged(rules: Sequence[Rule], result: Reply | TransportError) -> str | None:
    """Return what `first_match` does; an answer that takes long to look through is none for the loop."""
    reply = result if isinstance(result, Reply) else result.reply
    if reply is not None and len(reply.body) * _looks(rules) > LONG:
        return await apart(first_match, rules, result)
    return first_match(rules, result)


def _looks(rules: Sequence[Rule]) -> int:
    """Return how often a body is gone through for its rules, its parsing included."""
    reads = [read for rule in rules for read, _ in rule.conditions if isinstance(read, _Body)]
    return len({read.path for read in reads if not read.path.is_single}) + bool(reads)


_NOTHING = Reply(ack_level=None, took_ms=0.0)  # type: ignore[arg-type]  # no answer came: every subject is missing


def _compile(place: str, rule: Any) -> Rule:
    if not isinstance(rule, dict) or rule.keys() != {"when", "is"}:
        raise _wrong(place, 'must be {"when": {...}, "is": ...}')
    if rule["is"] not in VERDICTS:
        raise _wrong(f"{place}.is", f"must be one of {', '.join(VERDICTS)}")
    when = rule["when"]
    if not isinstance(when, dict) or not when:
        raise _wrong(f"{place}.when", "must name at least one subject")
    conditions = []
    for subject, test in when.items():
        if not isinstance(test, dict) or not test:
            raise _wrong(f"{place}.when.{subject}", 'must be {operator: value}, such as {"eq": 409}')
        read = _subject(f"{place}.when", subject)
        for operator, expected in test.items():
            conditions.append((read, _operator(f"{place}.when.{subject}", operator, expected)))
    return Rule(tuple(conditions), rule["is"])


def _wrong(field: str, detail: str) -> Malformed:
    return Malformed(
        f"{field}: {detail}", code="invalid", errors=[{"field": field, "code": "invalid", "detail": detail}]
    )


# --- subjects ------------------------------------------------------------------

PLAIN_SUBJECTS: dict[str, Subject] = {
    "status": lambda seen: MISSING if seen.reply.status_code is None else seen.reply.status_code,
    "text": lambda seen: seen.reply.body.decode("utf-8", "replace"),
    "size": lambda seen: len(seen.reply.body),
    "latency": lambda seen: seen.reply.took_ms,
    "error.class": lambda seen: seen.error_class or MISSING,
}


def _subject(place: str, name: str) -> Subject:
    if name in PLAIN_SUBJECTS:
        return PLAIN_SUBJECTS[name]
    if name.startswith("headers.") and len(name) > len("headers."):
        return _header(name.removeprefix("headers.").lower())
    if name.startswith("body.$"):
        return _body(place, name)
    raise _wrong(
        f"{place}.{name}", f"is not a subject; known are {', '.join(PLAIN_SUBJECTS)}, headers.<name>, body.$..."
    )


def _header(wanted: str) -> Subject:
    def read(seen: Seen) -> Any:
        return next((value for name, value in seen.reply.headers.items() if name.lower() == wanted), MISSING)

    return read


@dataclass(frozen=True, slots=True)
class _Body:
    """Reads what stands at a path of the body."""

    path: Path

    def __call__(self, seen: Seen) -> Any:
        return seen.at(self.path)


def _body(place: str, name: str) -> Subject:
    try:
        return _Body(compile_path(name.removeprefix("body.")))
    except JSONPathError as exc:
        raise _wrong(f"{place}.{name}", f"is not a JSONPath (RFC 9535): {exc}") from exc


# --- operators -----------------------------------------------------------------


def _same(actual: Any, expected: Any) -> bool:
    """Compare with types kept: 1 is not True and not "1", though 1 is 1.0."""
    if isinstance(actual, bool) or isinstance(expected, bool):
        return actual is expected
    return bool(actual == expected)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def holds(actual: Any, expected: Any) -> bool:
        both_numbers = _is_number(actual) and _is_number(expected)
        both_texts = isinstance(actual, str) and isinstance(expected, str)
        return (both_numbers or both_texts) and compare(actual, expected)

    return holds


def _contains(actual: Any, expected: Any) -> bool:
    if isinstance(actual, str):
        return isinstance(expected, str) and expected in actual
    return isinstance(actual, (list, dict)) and any(_same(item, expected) for item in actual)


def _text(holds: Callable[[str, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda actual, expected: isinstance(actual, str) and isinstance(expected, str) and holds(actual, expected)


OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": _same,
    "ne": lambda actual, expected: not _same(actual, expected),
    "lt": _ordered(lambda actual, expected: actual < expected),
    "lte": _ordered(lambda actual, expected: actual <= expected),
    "gt": _ordered(lambda actual, expected: actual > expected),
    "gte": _ordered(lambda actual, expected: actual >= expected),
    "between": lambda actual, pair: (
        _ordered(lambda a, b: a >= b)(actual, pair[0]) and _ordered(lambda a, b: a <= b)(actual, pair[1])
    ),
    "in": lambda actual, choices: any(_same(actual, choice) for choice in choices),
    "not_in": lambda actual, choices: not any(_same(actual, choice) for choice in choices),
    "contains": _contains,
    "not_contains": lambda actual, expected: not _contains(actual, expected),
    "starts_with": _text(lambda actual, expected: actual.startswith(expected)),
    "ends_with": _text(lambda actual, expected: actual.endswith(expected)),
    "null": lambda actual, expected: (actual is None) is expected,
    "empty": lambda actual, expected: isinstance(actual, (str, list, dict)) and (len(actual) == 0) is expected,
    "len": lambda actual, expected: isinstance(actual, (str, list, dict)) and len(actual) == expected,
}
# What an operator needs of the value beside it.
OPERANDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "between": (lambda value: isinstance(value, list) and len(value) == 2, "a list of two"),
    "in": (lambda value: isinstance(value, list), "a list"),
    "not_in": (lambda value: isinstance(value, list), "a list"),
    "null": (lambda value: isinstance(value, bool), "true or false"),
    "empty": (lambda value: isinstance(value, bool), "true or false"),
    "exists": (lambda value: isinstance(value, bool), "true or false"),
    "absent": (lambda value: isinstance(value, bool), "true or false"),
    "matches": (lambda value: isinstance(value, str), "a regular expression"),
    "search": (lambda value: isinstance(value, str), "a regular expression"),
}


def _operator(place: str, name: str, expected: Any) -> Callable[[Any], bool]:
    """Return the test `actual -> bool`; raises Malformed."""
    is_fit, needed = OPERANDS.get(name, (lambda _: True, ""))
    if not is_fit(expected):
        raise _wrong(f"{place}.{name}", f"needs {needed}")
    if name in ("exists", "absent"):
        return lambda actual: (actual is not MISSING) is (expected is (name == "exists"))
    if name in ("matches", "search"):
        return _regex(f"{place}.{name}", name, expected)
    compare = OPERATORS.get(name)
    if compare is None:
        known = ", ".join(sorted({*OPERATORS, *OPERANDS}))
        raise _wrong(f"{place}.{name}", f"is not an operator; known are {known}")
    return lambda actual: actual is not MISSING and compare(actual, expected)


def _regex(place: str, name: str, pattern: str) -> Callable[[Any], bool]:
    """Compile with RE2: linear in the text, whatever the pattern."""
    try:
        compiled = re2.compile(pattern)
    except re2.error as exc:
        raise _wrong(place, f"is not a regular expression: {orjson.dumps(str(exc)).decode()}") from exc
    find = compiled.fullmatch if name == "matches" else compiled.search

    def holds(actual: Any) -> bool:
        # A header may hold bytes that are no text; RE2 takes text only.
        return isinstance(actual, str) and find(actual.encode("utf-8", "replace").decode()) is not None

    return holds
