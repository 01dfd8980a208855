"""One assertion: a subject, its operators, and what came of asking."""

from dataclasses import dataclass
from typing import Any

from testing.assertions.compare import Difference
from testing.assertions.observation import Missing, Observation
from testing.assertions.operators import PRESENCE, Prepared, apply, prepare_operators
from testing.assertions.subjects import DURATIONS, SIZES, Read, read_subject, root_of
from testing.document.kinds import duration_s, size_bytes
from testing.document.references import Scope, fill, has_references


@dataclass(frozen=True, slots=True)
class Assertion:
    """`operators` is None while an operand holds references; those are read before each judgement."""

    subject: str
    read: Read
    written: Any
    operators: Prepared | None
    line: int = 0


@dataclass(frozen=True, slots=True)
class Check:
    """What came of an assertion: `where` is the subject with the path below it that was wrong."""

    ok: bool
    subject: str
    operators: Any
    where: str = ""
    expected: Any = None
    actual: Any = None
    detail: str = ""
    line: int = 0


def compile_assertion(subject: str, written: Any, line: int = 0) -> Assertion:
    """Return an assertion ready to be asked; raises ValueError saying what is wrong with it."""
    read = read_subject(subject)
    prepared = None if has_references(written) else _prepare(subject, written)
    return Assertion(subject, read, written, prepared, line)


def judge(assertion: Assertion, seen: Observation, scope: Scope) -> Check:
    """Return what comes of asking an observation; raises Unresolved or ValueError when an operand cannot be read."""
    written, operators = assertion.written, assertion.operators
    if operators is None:
        written = fill(written, scope)
        operators = _prepare(assertion.subject, written)
    actual = assertion.read(seen)
    if isinstance(actual, Missing):
        return _of_missing(assertion, written, operators, actual)
    wrong = apply(operators, actual)
    if wrong is None:
        return Check(True, assertion.subject, written, line=assertion.line)
    return _wrong(assertion, written, wrong)


def _prepare(subject: str, written: Any) -> Prepared:
    if root_of(subject) in DURATIONS:
        written = _in_units(written, lambda value: duration_s(value) * 1000)
    elif subject in SIZES:
        written = _in_units(written, size_bytes)
    return prepare_operators(written)


def _in_units(written: Any, read: Any) -> Any:
    """Return operators with their operands as numbers; a bare number has no unit, and is refused."""
    if isinstance(written, dict):
        return {
            name: value if name in (*PRESENCE, "type", "null", "allow_empty") else _in_units(value, read)
            for name, value in written.items()
        }
    return [_in_units(item, read) for item in written] if isinstance(written, list) else read(written)


def _of_missing(assertion: Assertion, written: Any, operators: Prepared, missing: Missing) -> Check:
    """Judge what is not there: only `exists` and `absent` may be asked of it."""
    fits = all(name in PRESENCE and (name == "absent") is operand for name, _, operand in operators.tests)
    subject = assertion.subject
    if fits:
        return Check(True, subject, written, line=assertion.line)
    detail = f"{subject} is not there: {missing.said}"
    return Check(False, subject, written, subject, written, None, detail, assertion.line)


def _wrong(assertion: Assertion, written: Any, wrong: Difference) -> Check:
    where = f"{assertion.subject}{wrong.where}"
    return Check(
        ok=False,
        subject=assertion.subject,
        operators=written,
        where=where,
        expected=wrong.expected,
        actual=wrong.actual,
        detail=f"{where}: expected {_short(wrong.expected, written)}, got {_short(wrong.actual)}",
        line=assertion.line,
    )


def _short(value: Any, written: Any = None) -> str:
    text = repr(value)
    if isinstance(written, dict) and len(written) == 1:
        [(operator, operand)] = written.items()
        if operand is value and operator != "eq":
            text = f"{operator} {text}"
    return text if len(text) <= 200 else f"{text[:200]}..."
