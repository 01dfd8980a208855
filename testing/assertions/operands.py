"""Operands: what stands beside an operator, read once; what does not fit raises ValueError saying what is needed."""

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from ipaddress import ip_address
from typing import Any

import jsonschema_rs
import re2
from yarl import URL

from testing.assertions.compare import is_number, same
from testing.document.kinds import named
from testing.document.nodes import unknown

Prepare = Callable[[Any], Any]


def needs(what: str, *types: type) -> Prepare:
    def prepare(operand: Any) -> Any:
        if not isinstance(operand, types) or (isinstance(operand, bool) and bool not in types):
            raise ValueError(f"needs {what}, not {named(operand)}")
        return operand

    return prepare


def telling(prepare: Prepare, nothing: Sequence[Any] = ("", [], {})) -> Prepare:
    """Refuse an operand of nothing: `contains: ""` holds whatever there is, and so has shown nothing."""

    def ready(operand: Any) -> Any:
        if any(same(operand, empty) for empty in nothing):
            raise ValueError("needs something to look for: with nothing it always holds")
        return prepare(operand)

    return ready


def ordered(operand: Any) -> Any:
    if not is_number(operand) and not isinstance(operand, str):
        raise ValueError(f"needs a number or a text, not {named(operand)}")
    return operand


def pair(operand: Any) -> Any:
    if not isinstance(operand, list) or len(operand) != 2:
        raise ValueError("needs a list of two: the least and the most")
    low, high = map(ordered, operand)
    if isinstance(low, str) != isinstance(high, str) or low > high:
        raise ValueError("needs the least before the most")
    return operand


def pattern(operand: Any) -> Any:
    """Compile with RE2, which is linear in the text whatever the pattern."""
    needs("a regular expression", str)(operand)
    try:
        return re2.compile(operand)
    except re2.error as exc:
        said = exc.args[0] if exc.args else exc
        text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        raise ValueError(f"needs a regular expression (RE2): {text}") from exc


def json_operand(operand: Any) -> tuple[str, Any, list[str]]:
    if not isinstance(operand, dict) or "value" not in operand:
        raise ValueError("needs {value: ..., mode: exact|subset|unordered, ignore: [...]}")
    if more := set(operand) - {"value", "mode", "ignore"}:
        raise ValueError(unknown("key", more.pop(), ["value", "mode", "ignore"]))
    mode, ignore = operand.get("mode", "exact"), operand.get("ignore", [])
    if mode not in ("exact", "subset", "unordered"):
        raise ValueError(unknown("mode", str(mode), ["exact", "subset", "unordered"]))
    if not isinstance(ignore, list) or not all(isinstance(name, str) for name in ignore):
        raise ValueError("ignore needs a list of names, or of paths such as $.items[0].id")
    if mode == "subset" and operand["value"] in ({}, []):
        raise ValueError("needs something to look for: nothing is a subset of everything")
    return mode, operand["value"], [name.removeprefix("$") if name.startswith("$") else name for name in ignore]


def _nowhere(uri: str) -> Any:
    raise ValueError(f"a schema refers to {uri}; write it into the suite")


def schema(operand: Any) -> Any:
    needs("a JSON Schema", dict, bool)(operand)
    try:
        return jsonschema_rs.Draft202012Validator(
            operand, retriever=_nowhere, pattern_options=jsonschema_rs.RegexOptions()
        )
    except (ValueError, jsonschema_rs.ReferencingError) as exc:
        raise ValueError(f"needs a JSON Schema: {str(exc).splitlines()[0][:200]}") from exc


def approximately(operand: Any) -> tuple[float, float]:
    if is_number(operand):
        return operand, abs(operand) * 1e-6
    if isinstance(operand, dict) and set(operand) == {"value", "tolerance"}:
        value, tolerance = operand["value"], operand["tolerance"]
        if is_number(value) and is_number(tolerance) and tolerance >= 0:
            return value, tolerance
    raise ValueError("needs a number, or {value: 3.14, tolerance: 0.01}")


def moment(value: Any) -> datetime:
    """Return an RFC 3339 time with its zone; raises ValueError."""
    needs("a time such as 2026-01-02T03:04:05Z", str)(value)
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise ValueError("needs a time such as 2026-01-02T03:04:05Z")
    return found


def type_name(operand: Any) -> str:
    if not isinstance(operand, str) or operand not in TYPES:
        raise ValueError(unknown("type", str(operand), list(TYPES)))
    return operand


def _is_shaped(read: Callable[[str], Any]) -> Callable[[Any], bool]:
    def holds(value: Any) -> bool:
        try:
            return isinstance(value, str) and bool(read(value))
        except ValueError:
            return False

    return holds


_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
TYPES: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: is_number(value) and float(value).is_integer(),
    "number": is_number,
    "boolean": lambda value: isinstance(value, bool),
    "array": lambda value: isinstance(value, (list, tuple)),
    "object": lambda value: isinstance(value, Mapping),
    "null": lambda value: value is None,
    "uuid": _is_shaped(lambda text: _UUID.fullmatch(text) and uuid.UUID(text)),
    "timestamp": _is_shaped(moment),
    "ip": _is_shaped(lambda text: ip_address(text)),
    "url": _is_shaped(lambda text: URL(text).scheme and URL(text).host),
}
