"""Comparison with types kept: `"1"` is not `1`, `true` is not `1`, `1` is `1.0`, and NaN is nothing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Difference:
    """The first place in which two values differ; `where` is a path below the subject."""

    where: str
    expected: Any
    actual: Any


ABSENT = "(absent)"


def is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not is_nan(value)


def same(actual: Any, expected: Any) -> bool:
    """Say whether two values are equal, all the way down."""
    return difference(actual, expected) is None


def difference(
    actual: Any, expected: Any, mode: str = "exact", where: str = "", ignore: Sequence[str] = ()
) -> Difference | None:
    """Return where `actual` first differs from `expected`, None when it does not.

    `subset`: objects may have more keys than expected; `unordered`: lists may be in any
    order. `ignore` are names of keys, or paths such as `.items[0].id`, that are not looked at.
    """
    if isinstance(actual, dict) and isinstance(expected, dict):
        return _of_objects(actual, expected, mode, where, ignore)
    if isinstance(actual, (list, tuple)) and isinstance(expected, (list, tuple)):
        return _of_lists(actual, expected, mode, where, ignore)
    return None if _same_scalar(actual, expected) else Difference(where, expected, actual)


def _same_scalar(actual: Any, expected: Any) -> bool:
    if is_number(actual) and is_number(expected):
        return bool(actual == expected)
    return type(actual) is type(expected) and bool(actual == expected)


def _of_objects(
    actual: dict[str, Any], expected: dict[str, Any], mode: str, where: str, ignore: Sequence[str]
) -> Difference | None:
    more = [] if mode == "subset" else [key for key in actual if key not in expected]
    for key in [*expected, *more]:
        at = f"{where}.{key}"
        if key in ignore or at in ignore:
            continue
        if key not in actual:
            return Difference(at, expected[key], ABSENT)
        if key not in expected:
            return Difference(at, ABSENT, actual[key])
        if found := difference(actual[key], expected[key], mode, at, ignore):
            return found
    return None


def _of_lists(
    actual: Sequence[Any], expected: Sequence[Any], mode: str, where: str, ignore: Sequence[str]
) -> Difference | None:
    if mode == "unordered":
        return _of_bags(actual, expected, where, ignore)
    for index, (one, other) in enumerate(zip(actual, expected, strict=False)):
        at = f"{where}[{index}]"
        if at not in ignore and (found := difference(one, other, mode, at, ignore)):
            return found
    if len(actual) != len(expected):
        return Difference(where, f"{len(expected)} items", f"{len(actual)} items")
    return None


def _of_bags(actual: Sequence[Any], expected: Sequence[Any], where: str, ignore: Sequence[str]) -> Difference | None:
    left = list(actual)
    for wanted in expected:
        found = next(
            (at for at, item in enumerate(left) if not difference(item, wanted, "unordered", "", ignore)), None
        )
        if found is None:
            return Difference(where, wanted, f"not among {len(actual)} items")
        del left[found]
    return Difference(where, f"{len(expected)} items", f"{len(actual)} items") if left else None
