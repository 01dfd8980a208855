"""Operators: one row each, a pure function of what was found and what was expected.

`prepare` reads the operand once and raises ValueError when it does not fit; `judge`
returns None when it holds, or what is wrong and where.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from testing.assertions import operands
from testing.assertions.compare import Difference, difference, is_nan, is_number, same
from testing.assertions.operands import Prepare
from testing.document.kinds import duration_s, named
from testing.document.nodes import unknown

Judge = Callable[[Any, Any], "Difference | None"]


@dataclass(frozen=True, slots=True)
class Operator:
    """How an operand is read and how a value is judged by it."""

    judge: Judge
    prepare: Prepare = lambda operand: operand


def simple(holds: Callable[[Any, Any], bool], prepare: Prepare = lambda operand: operand) -> Operator:
    """Return the operator of a plain yes or no."""
    return Operator(
        lambda actual, operand: None if holds(actual, operand) else Difference("", operand, actual), prepare
    )


def _length(operand: Any) -> Any:
    if isinstance(operand, dict):
        return prepare_operators(operand)
    if isinstance(operand, bool) or not isinstance(operand, int) or operand < 0:
        raise ValueError("needs a whole number, or operators such as {gte: 1}")
    return operand


def _list_of_operators(operand: Any) -> list[Any]:
    if not isinstance(operand, list) or not operand:
        raise ValueError("needs a list of operators, such as [{gte: 1}, {lt: 5}]")
    return [prepare_operators(item) for item in operand]


# --- judging -------------------------------------------------------------------


def _ordered(compare: Callable[[Any, Any], bool]) -> Operator:
    def holds(actual: Any, operand: Any) -> bool:
        both_numbers = is_number(actual) and is_number(operand)
        both_texts = isinstance(actual, str) and isinstance(operand, str)
        return (both_numbers or both_texts) and compare(actual, operand)

    return simple(holds, operands.ordered)


def _between(actual: Any, pair: list[Any]) -> bool:
    fits = (is_number(actual) and is_number(pair[0])) or (isinstance(actual, str) and isinstance(pair[0], str))
    return fits and pair[0] <= actual <= pair[1]


def _contains(actual: Any, operand: Any) -> bool:
    if isinstance(actual, str):
        return isinstance(operand, str) and operand in actual
    return isinstance(actual, (list, tuple, dict)) and any(same(item, operand) for item in actual)


def _may_contain(actual: Any, operand: Any) -> bool:
    """Say that it is not contained: of what can contain nothing, that says nothing."""
    return isinstance(actual, (str, list, tuple, dict)) and not _contains(actual, operand)


def _texts(holds: Callable[[str, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda actual, operand: isinstance(actual, str) and holds(actual, operand)


def _matches(find: str) -> Callable[[Any, Any], Difference | None]:
    def judge(actual: Any, pattern: Any) -> Difference | None:
        # RE2 takes text only; an answer may hold bytes that are none.
        if isinstance(actual, str) and getattr(pattern, find)(actual.encode("utf-8", "replace").decode()) is not None:
            return None
        return Difference("", pattern.pattern, actual)

    return judge


def _len(actual: Any, operand: Any) -> Difference | None:
    if not isinstance(actual, (str, list, tuple, dict)):
        return Difference("", "something with a length", actual)
    if isinstance(operand, int):
        return None if len(actual) == operand else Difference("", f"{operand} items", f"{len(actual)} items")
    return apply(operand, len(actual))


def _each(actual: Any, operators: "Prepared") -> Difference | None:
    if not isinstance(actual, (list, tuple)):
        return Difference("", "a list", actual)
    for index, item in enumerate(actual):
        if wrong := apply(operators, item):
            return Difference(f"[{index}]{wrong.where}", wrong.expected, wrong.actual)
    return _not_empty(actual, operators)


def _any(actual: Any, operators: "Prepared") -> Difference | None:
    if not isinstance(actual, (list, tuple)):
        return Difference("", "a list", actual)
    if any(apply(operators, item) is None for item in actual):
        return None
    return Difference("", f"any of which {operators.written}", actual)


def _none(actual: Any, operators: "Prepared") -> Difference | None:
    if not isinstance(actual, (list, tuple)):
        return Difference("", "a list", actual)
    for index, item in enumerate(actual):
        if apply(operators, item) is None:
            return Difference(f"[{index}]", f"not {operators.written}", item)
    return _not_empty(actual, operators)


OF_ITEMS = frozenset({"each", "any", "none"})


def _not_empty(actual: Any, operators: "Prepared") -> Difference | None:
    """A statement about every item of nothing is no statement."""
    return None if actual or operators.allow_empty else Difference("", "at least one item (or allow_empty: true)", [])


def _all(actual: Any, several: list["Prepared"]) -> Difference | None:
    return next((wrong for operators in several if (wrong := apply(operators, actual))), None)


def _any_of(actual: Any, several: list["Prepared"]) -> Difference | None:
    if any(apply(operators, actual) is None for operators in several):
        return None
    return Difference("", f"any of {[operators.written for operators in several]}", actual)


def _not(actual: Any, operators: "Prepared") -> Difference | None:
    if actual in ([], ()) and _speaks_of_items(operators):
        return _not_empty(actual, operators)
    return None if apply(operators, actual) else Difference("", f"not {operators.written}", actual)


def _speaks_of_items(operators: "Prepared") -> bool:
    """Say whether operators are about every item, or those within them that were not told that there may be none."""
    within = [operand if isinstance(operand, list) else [operand] for _, _, operand in operators.tests]
    nested = (one for several in within for one in several if isinstance(one, Prepared) and not one.allow_empty)
    return any(name in OF_ITEMS for name, _, _ in operators.tests) or any(map(_speaks_of_items, nested))


def _json(actual: Any, operand: tuple[str, Any, list[str]]) -> Difference | None:
    mode, expected, ignore = operand
    return difference(actual, expected, mode, "", ignore)


def _fits_schema(actual: Any, validator: Any) -> Difference | None:
    error = next(iter(validator.iter_errors(actual)), None)
    if error is None:
        return None
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.instance_path)
    return Difference(where, error.message, error.instance)


def _time(compare: Callable[[datetime, Any], bool]) -> Callable[[Any, Any], bool]:
    def holds(actual: Any, operand: Any) -> bool:
        try:
            return compare(operands.moment(actual), operand)
        except ValueError:
            return False

    return holds


def _within(actual: datetime, seconds: float) -> bool:
    return abs((datetime.now(UTC) - actual).total_seconds()) <= seconds


_TRUTH = operands.needs("true or false", bool)
_TEXT = operands.needs("a text", str)
_LIST = operands.needs("a list", list)

OPERATORS: dict[str, Operator] = {
    "eq": Operator(lambda actual, operand: difference(actual, operand)),
    "ne": simple(lambda actual, operand: not same(actual, operand)),
    "lt": _ordered(lambda actual, operand: actual < operand),
    "lte": _ordered(lambda actual, operand: actual <= operand),
    "gt": _ordered(lambda actual, operand: actual > operand),
    "gte": _ordered(lambda actual, operand: actual >= operand),
    "between": simple(_between, operands.pair),
    "in": simple(lambda actual, choices: any(same(actual, item) for item in choices), _LIST),
    "not_in": simple(lambda actual, choices: not any(same(actual, item) for item in choices), operands.telling(_LIST)),
    "contains": simple(_contains, operands.telling(lambda operand: operand, ("",))),
    "not_contains": simple(_may_contain),
    "starts_with": simple(_texts(lambda actual, operand: actual.startswith(operand)), operands.telling(_TEXT)),
    "ends_with": simple(_texts(lambda actual, operand: actual.endswith(operand)), operands.telling(_TEXT)),
    "matches": Operator(_matches("fullmatch"), operands.pattern),
    "search": Operator(_matches("search"), operands.telling(operands.pattern)),
    "null": simple(lambda actual, operand: (actual is None) is operand, _TRUTH),
    "empty": simple(
        lambda actual, operand: isinstance(actual, (str, list, tuple, dict)) and (not actual) is operand, _TRUTH
    ),
    "type": simple(lambda actual, name: operands.TYPES[name](actual), operands.type_name),
    "len": Operator(_len, _length),
    "each": Operator(_each, lambda operand: prepare_operators(operand)),
    "any": Operator(_any, lambda operand: prepare_operators(operand)),
    "none": Operator(_none, lambda operand: prepare_operators(operand)),
    "all": Operator(_all, _list_of_operators),
    "any_of": Operator(_any_of, _list_of_operators),
    "not": Operator(_not, lambda operand: prepare_operators(operand)),
    "json": Operator(_json, operands.json_operand),
    "schema": Operator(_fits_schema, operands.telling(operands.schema, ({}, True))),
    "approx": simple(
        lambda actual, operand: is_number(actual) and abs(actual - operand[0]) <= operand[1], operands.approximately
    ),
    "before": simple(_time(lambda actual, operand: actual < operand), operands.moment),
    "after": simple(_time(lambda actual, operand: actual > operand), operands.moment),
    "within": simple(_time(_within), duration_s),
}
PRESENCE = ("exists", "absent")  # the only ones that may be asked of what is not there
NAMES = (*OPERATORS, *PRESENCE)


@dataclass(frozen=True, slots=True)
class Prepared:
    """Operators with their operands read; `written` is how they stand in the document."""

    tests: tuple[tuple[str, Judge, Any], ...]
    written: Mapping[str, Any]
    allow_empty: bool = False


def prepare_operators(written: Any) -> Prepared:
    """Read `{operator: operand, ...}`; raises ValueError naming what does not fit."""
    if not isinstance(written, dict):
        raise ValueError(f"needs operators, such as {{eq: 1}}, not {named(written)}")
    given = {name: operand for name, operand in written.items() if name != "allow_empty"}
    allow_empty = written.get("allow_empty", False)
    if not isinstance(allow_empty, bool):
        raise ValueError("allow_empty needs true or false")
    if not given:
        raise ValueError("needs at least one operator, such as {eq: 1}")
    return Prepared(tuple(_prepared(name, operand, allow_empty) for name, operand in given.items()), given, allow_empty)


def _prepared(name: str, operand: Any, allow_empty: bool) -> tuple[str, Judge, Any]:
    if name in PRESENCE:
        return name, _never, operands.needs("true or false", bool)(operand)
    operator = OPERATORS.get(name)
    if operator is None:
        raise ValueError(unknown("operator", str(name), [*NAMES, "allow_empty"]))
    try:
        prepared = operator.prepare(operand)
    except ValueError as exc:
        raise ValueError(f"{name}: {exc}") from exc
    if allow_empty and isinstance(prepared, Prepared):
        prepared = Prepared(prepared.tests, prepared.written, allow_empty=True)
    return name, operator.judge, prepared


def _never(actual: Any, operand: Any) -> Difference | None:
    return Difference("", operand, actual)


def apply(operators: Prepared, actual: Any) -> Difference | None:
    """Return what is wrong with a value that is there, None when all holds; NaN never passes."""
    if is_nan(actual):
        return Difference("", operators.written, "NaN")
    for name, judge, operand in operators.tests:
        if name in PRESENCE:
            if (name == "exists") is not operand:
                return Difference("", "nothing there", actual)
        elif wrong := judge(actual, operand):
            return wrong
    return None
