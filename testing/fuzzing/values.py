"""Values of a JSON Schema, at random but bounded: some that fit, some at the edges, and some that are wrong."""

import base64
import random
import string
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from testing.fuzzing.operations import Document

DEEPEST = 5
MOST_ITEMS = 4
LONGEST = 200
ODD = ("", " ", "0", "null", "ä€😀", "\u202e", "%00", "'\"--;", "../../x", "${{x}}", "<b>", "a" * LONGEST, "1e999")
WRONG: tuple[Any, ...] = (None, True, -1, 2**63, 1.5, "", "x" * 5000, [], {}, [[]], {"": None})
LARGE = 2**31
ANY: tuple[Any, ...] = (None, True, 0, 1.5, "text", [], {})


class Maker:
    """Makes values of schemas; the same seed makes the same ones."""

    def __init__(self, document: Document, seed: str) -> None:
        self.random = random.Random(seed)  # noqa: S311 - nothing secret is made of it
        self._document = document

    def fit(self, schema: Any, depth: int = 0) -> Any:
        """Return a value that is meant to fit; with a pattern and no example it may not."""
        found = self._document.resolve(schema)
        if not isinstance(found, dict) or not found:
            return self.random.choice(ANY)
        for name, choices in (("const", [found.get("const")]), ("enum", found.get("enum"))):
            if name in found and choices:
                return self.random.choice(choices)
        given = [found[name] for name in ("example", "default") if name in found] + list(found.get("examples") or [])
        if given and (self.random.random() < 0.3 or "pattern" in found):
            return self.random.choice(given)
        for name in ("oneOf", "anyOf"):
            if found.get(name):
                return self.fit(self.random.choice(found[name]), depth + 1) if depth < 2 * DEEPEST else None
        if found.get("allOf"):
            found = self._merged(found, depth)
        if found.get("nullable") and self.random.random() < 0.1:
            return None
        return KINDS.get(self._type(found), _any)(self, found, depth)

    def spoil(self, schema: Any, value: Any) -> Any:
        """Return a value with something wrong about it: of another type, too long, or lacking what is required."""
        found = self._document.resolve(schema)
        if isinstance(value, dict) and value and self.random.random() < 0.7:
            changed, name = dict(value), self.random.choice(sorted(value))
            if self.random.random() < 0.4:
                del changed[name]
            else:
                inner = (found.get("properties") or {}).get(name, {}) if isinstance(found, dict) else {}
                changed[name] = self.spoil(inner, changed[name])
            return changed
        if isinstance(value, list) and value and self.random.random() < 0.5:
            return [self.random.choice(WRONG), *value[1:]]
        return self.random.choice([*WRONG, *ODD])

    def _merged(self, found: Mapping[str, Any], depth: int) -> dict[str, Any]:
        merged = {name: value for name, value in found.items() if name != "allOf"}
        for part in found["allOf"]:
            inner = self._document.resolve(part)
            if isinstance(inner, dict) and inner.get("allOf") and depth < DEEPEST:
                inner = self._merged(inner, depth + 1)
            for name, value in (inner if isinstance(inner, dict) else {}).items():
                if name == "properties":
                    merged[name] = {**merged.get(name, {}), **value}
                elif name == "required":
                    merged[name] = [*merged.get(name, []), *value]
                else:
                    merged.setdefault(name, value)
        return merged

    def _type(self, found: Mapping[str, Any]) -> str:
        kind = found.get("type")
        if isinstance(kind, list):
            return str(self.random.choice(kind)) if kind else ""
        if kind is None:
            return "object" if "properties" in found else "array" if "items" in found else ""
        return str(kind)


def _any(maker: Maker, found: Mapping[str, Any], depth: int) -> Any:
    return maker.random.choice(ANY)


def _text(maker: Maker, found: Mapping[str, Any], depth: int) -> str:
    make = FORMATS.get(str(found.get("format")))
    if make is not None:
        return make(maker.random)
    least = min(int(found.get("minLength", 0)), LONGEST)
    most = max(least, min(int(found.get("maxLength", 20)), LONGEST))
    if maker.random.random() < 0.2:
        odd = [text for text in ODD if least <= len(text) <= most]
        if odd:
            return maker.random.choice(odd)
    length = maker.random.choice((least, most, maker.random.randint(least, most)))
    return "".join(maker.random.choices(string.ascii_letters + string.digits, k=length))


def _bounds(found: Mapping[str, Any], step: float) -> tuple[float, float]:
    """Return the least and the most; of 3.0 an exclusive bound is a boolean, of 3.1 a number."""
    low, high = found.get("minimum", -LARGE), found.get("maximum", LARGE)
    for name, sign in (("exclusiveMinimum", 1), ("exclusiveMaximum", -1)):
        given = found.get(name)
        if given is True:
            low, high = (low + step, high) if sign > 0 else (low, high - step)
        elif isinstance(given, (int, float)) and given is not False:
            low, high = (given + step, high) if sign > 0 else (low, given - step)
    return low, max(low, high)


def _integer(maker: Maker, found: Mapping[str, Any], depth: int) -> int:
    low, high = (int(bound) for bound in _bounds(found, 1))
    near = [value for value in (low, low + 1, 0, 1, high - 1, high) if low <= value <= high]
    value = maker.random.choice([*near, maker.random.randint(low, high)])
    step = found.get("multipleOf")
    return value - value % int(step) if isinstance(step, (int, float)) and step >= 1 else value


def _number(maker: Maker, found: Mapping[str, Any], depth: int) -> float:
    low, high = _bounds(found, 0.5)
    return maker.random.choice([low, high, round(maker.random.uniform(low, high), 3)])


def _list(maker: Maker, found: Mapping[str, Any], depth: int) -> list[Any]:
    least = min(int(found.get("minItems", 0)), 20)
    most = max(least, min(int(found.get("maxItems", MOST_ITEMS)), MOST_ITEMS))
    count = least if depth >= DEEPEST else maker.random.randint(least, most)
    return [maker.fit(found.get("items", {}), depth + 1) for _ in range(count)]


def _object(maker: Maker, found: Mapping[str, Any], depth: int) -> dict[str, Any]:
    properties, required = found.get("properties") or {}, set(found.get("required") or [])
    chance = 0.6 if depth < DEEPEST else 0.0
    made = {}
    for name, inner in properties.items():
        known = maker._document.resolve(inner)
        is_ours = not (isinstance(known, dict) and known.get("readOnly"))
        if is_ours and (name in required or maker.random.random() < chance):
            made[name] = maker.fit(inner, depth + 1) if depth < 2 * DEEPEST else None
    return made


def _moment(source: random.Random) -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=source.randint(-(10**9), 10**9))


FORMATS: dict[str, Callable[[random.Random], str]] = {
    "date": lambda source: _moment(source).date().isoformat(),
    "date-time": lambda source: _moment(source).isoformat().replace("+00:00", "Z"),
    "time": lambda source: _moment(source).time().isoformat() + "Z",
    "uuid": lambda source: str(uuid.UUID(int=source.getrandbits(128), version=4)),
    "email": lambda source: f"u{source.randint(0, 999)}@example.org",
    "uri": lambda source: f"https://example.org/{source.randint(0, 999)}",
    "hostname": lambda source: f"h{source.randint(0, 999)}.example.org",
    "ipv4": lambda source: f"192.0.2.{source.randint(1, 254)}",
    "ipv6": lambda source: f"2001:db8::{source.randint(1, 9999):x}",
    "byte": lambda source: base64.b64encode(source.randbytes(source.randint(0, 12))).decode(),
}
KINDS: dict[str, Callable[[Maker, Mapping[str, Any], int], Any]] = {
    "string": _text,
    "integer": _integer,
    "number": _number,
    "boolean": lambda maker, found, depth: maker.random.random() < 0.5,
    "array": _list,
    "object": _object,
    "null": lambda maker, found, depth: None,
}
