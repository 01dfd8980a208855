"""The one way JSON comes in and goes out: strict, quick, and the same on every database.

jiter refuses most of what no reader downstream agrees on (duplicate keys, lone
surrogates, NaN, bad UTF-8). What it lets through is checked here: NUL, which
PostgreSQL cannot store; nesting and integers that other libraries refuse; floats
that overflow to infinity. Cheap searches over the raw body decide whether the
value has to be walked at all, so an ordinary message costs the parse alone.
"""

import math
import re
from typing import Any

import jiter
import orjson

from endpoints.errors import Malformed

MAX_DEPTH = 64
MIN_INTEGER = -(2**63)
MAX_INTEGER = 2**64 - 1

_BOM = b"\xef\xbb\xbf"
_ESCAPED_NUL = b"\\u0000"
# Digits all become "0", so that a plain substring search finds "many digits".
_DIGITS = bytes.maketrans(b"123456789E", b"000000000e")
_MANY_DIGITS = b"0" * 19
_BIG_EXPONENT = b"0e000"
# Outside of a string a number follows one of these. It rules out the UUIDs, hashes and timestamps in strings that the
# quick search stumbles over: a few by looking at what stands before them, many by a regular expression.
_BEFORE_NUMBER = b" \t\n\r[:,"
_FEW, _LONGEST_NUMBER = 4, 100
_ODD_NUMBER = re.compile(rb"(?:\A|[\s\[:,])-?(?:[0-9]{19}|[0-9.]+[eE]\+?[0-9]{3})")


def parse(body: bytes, *, exact_numbers: bool = False) -> Any:
    """Return the value of one JSON text; raises Malformed saying what is wrong and where.

    With `exact_numbers`, floats come back as jiter's LosslessFloat, which `dumps`
    writes as they were given (`1e2` stays `1e2`).
    """
    try:
        value = jiter.from_json(
            body,
            allow_inf_nan=False,
            catch_duplicate_keys=True,
            float_mode="lossless-float" if exact_numbers else "float",
        )
    except ValueError as exc:
        raise Malformed(_explain(body, str(exc))) from exc
    if _is_suspicious(body):
        _check(value)
    return value


def dumps(value: Any) -> bytes:
    """Return `value` as compact JSON; exact numbers of `parse` are written verbatim."""
    return orjson.dumps(value, default=_default)


def _default(value: Any) -> orjson.Fragment:
    if isinstance(value, jiter.LosslessFloat):
        return orjson.Fragment(bytes(value))
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _explain(body: bytes, problem: str) -> str:
    """Return what jiter found wrong, in words a caller can act on."""
    if not body.strip():
        return "the body is empty, expected JSON"
    if body.startswith(_BOM):
        return "the body starts with a byte order mark, remove it (RFC 8259, section 8.1)"
    if problem.startswith("recursion limit"):
        return f"not valid JSON: nested deeper than {MAX_DEPTH} levels"
    return f"not valid JSON: {problem[:1].lower()}{problem[1:300]}"


def _is_suspicious(body: bytes) -> bool:
    """Say whether the parsed value may hold what `_check` refuses; never misses, seldom cries wolf."""
    if _ESCAPED_NUL in body or body.count(b"[") + body.count(b"{") > MAX_DEPTH:
        return True
    digits = body.translate(_DIGITS, b"+")
    if _MANY_DIGITS not in digits and _BIG_EXPONENT not in digits:
        return False
    found = (_is_in_number(digits, _MANY_DIGITS), _is_in_number(digits, _BIG_EXPONENT))
    return True in found or (None in found and _ODD_NUMBER.search(body) is not None)


def _is_in_number(digits: bytes, mark: bytes) -> bool | None:
    """Say whether `mark` may stand in a number outside of a string; None when there are too many to look at."""
    at = -1
    for _ in range(_FEW):
        at = digits.find(mark, at + 1)
        if at < 0:
            return False
        start = max(0, at - _LONGEST_NUMBER)
        before = digits[start:at].rstrip(b"0.").removesuffix(b"-")
        if not before or before[-1] in _BEFORE_NUMBER:
            return True
    return None


def _check(value: Any) -> None:
    """Walk the whole value, level by level; raises Malformed at the first thing we refuse."""
    level, depth = [value], 0
    while level:
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                for key in item:
                    _check_scalar(key)
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
            else:
                _check_scalar(item)
        # A level of scalars below the last container does not count as nesting.
        depth += any(isinstance(item, (dict, list)) for item in level)
        if depth > MAX_DEPTH:
            raise Malformed(f"not valid JSON: nested deeper than {MAX_DEPTH} levels")
        level = below


def _check_scalar(item: Any) -> None:
    if isinstance(item, str):
        if "\x00" in item:
            raise Malformed("a string holds the character NUL (\\u0000), which cannot be stored")
    elif isinstance(item, (float, jiter.LosslessFloat)):
        if not math.isfinite(float(item)):
            raise Malformed(f"the number {item} is too large for a 64 bit float")
    elif isinstance(item, int) and not MIN_INTEGER <= item <= MAX_INTEGER:
        raise Malformed(f"the integer {str(item)[:40]} does not fit in 64 bits")
