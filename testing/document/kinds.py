"""What stands at a place of the document: each kind reads a node, says what is wrong with it, and has its JSON Schema.

The checker and the published schema come from the same tables, so they cannot differ.
`read` notes every fault and returns something in any case; whoever asked for the
document stops when there were any.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from testing.document.nodes import Faults, Node, plain, unknown
from testing.document.references import has_references

SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")
TARGET = re.compile(f"{SLUG.pattern}(?:/{SLUG.pattern})?")
DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)(B|KB|MB|KiB|MiB)")
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
BYTES = {"B": 1, "KB": 1000, "MB": 1000**2, "KiB": 1024, "MiB": 1024**2}
LONGEST_S = 7 * 86400.0


class Kind:
    """Anything JSON can say; the base of the others."""

    def read(self, node: Node, place: str, faults: Faults) -> Any:
        """Return the value; notes what is wrong."""
        return plain(node)

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema (2020-12) of what `read` takes."""
        return {}


@dataclass(frozen=True)
class Scalar(Kind):
    """One value: `parse` returns it ready for use, or raises ValueError with what is needed.

    A `fixed` one decides how the suite runs, and so may not be a reference.
    """

    parse: Callable[[Any], Any]
    json: Mapping[str, Any]
    fixed: bool = False

    def read(self, node: Node, place: str, faults: Faults) -> Any:
        if isinstance(node.value, str) and has_references(node.value):
            if self.fixed:
                faults.add(node, place, "must be written out; references are not read here")
            return node.value
        try:
            return self.parse(plain(node))
        except ValueError as exc:
            faults.add(node, place, str(exc))
            return None

    def schema(self) -> dict[str, Any]:
        if self.fixed or (self.json.get("type") == "string" and not {"pattern", "enum"} & set(self.json)):
            return dict(self.json)
        return {"anyOf": [dict(self.json), {"type": "string", "pattern": r"\$\{\{"}]}


@dataclass(frozen=True)
class ListOf(Kind):
    """A list; with `or_one`, a single item may stand for a list of it."""

    item: Kind
    at_least: int = 0
    at_most: int = 1000
    or_one: bool = False

    def read(self, node: Node, place: str, faults: Faults) -> Any:
        if not isinstance(node.value, list):
            if self.or_one:
                return [self.item.read(node, place, faults)]
            faults.add(node, place, f"must be a list, not {named(node.value)}")
            return []
        if not self.at_least <= len(node.value) <= self.at_most:
            faults.add(node, place, f"must hold {self.at_least} to {self.at_most} items, not {len(node.value)}")
            return []
        return [self.item.read(child, f"{place}.{index}", faults) for index, child in enumerate(node.value)]

    def schema(self) -> dict[str, Any]:
        item = self.item.schema()
        found = {"type": "array", "items": item, "minItems": self.at_least, "maxItems": self.at_most}
        return {"anyOf": [item, found]} if self.or_one else found


@dataclass(frozen=True)
class MapOf(Kind):
    """An object with names of the author's own."""

    item: Kind
    name: re.Pattern[str] = NAME
    at_most: int = 200

    def read(self, node: Node, place: str, faults: Faults) -> Any:
        if not isinstance(node.value, dict):
            faults.add(node, place, f"must be an object, not {named(node.value)}")
            return {}
        if len(node.value) > self.at_most:
            faults.add(node, place, f"must have at most {self.at_most} names, not {len(node.value)}")
            return {}
        for name, mark in node.keys.items():
            if not self.name.fullmatch(name):
                faults.add(mark, place, f"'{name[:60]}' is not a name: it must match {self.name.pattern}")
        return {name: self.item.read(child, f"{place}.{name}", faults) for name, child in node.value.items()}

    def schema(self) -> dict[str, Any]:
        names = {"pattern": f"^(?:{self.name.pattern})$"}
        return {
            "type": "object",
            "propertyNames": names,
            "additionalProperties": self.item.schema(),
            "maxProperties": self.at_most,
        }


@dataclass(frozen=True)
class Field:
    """One key of a Shape."""

    kind: Kind
    help: str = ""
    required: bool = False
    default: Any = None


@dataclass(frozen=True)
class Shape(Kind):
    """An object with known keys; a value that is none may stand for its key `short`."""

    fields: Mapping[str, Field]
    short: str = ""
    one_of: tuple[str, ...] = field(default=())

    def read(self, node: Node, place: str, faults: Faults) -> Any:
        if self.short and not isinstance(node.value, dict):
            node = Node({self.short: node}, node.mark, {self.short: node.mark})
        if not isinstance(node.value, dict):
            faults.add(node, place, f"must be an object with {', '.join(self.fields)}, not {named(node.value)}")
            return dict.fromkeys(self.fields)
        for name, mark in node.keys.items():
            if name not in self.fields:
                faults.add(mark, place, unknown("key", name, list(self.fields)))
        for name, wanted in self.fields.items():
            if wanted.required and name not in node.value:
                faults.add(node, place, f"'{name}' is missing")
        if self.one_of and len(set(self.one_of) & set(node.value)) != 1:
            faults.add(node, place, f"needs exactly one of {', '.join(self.one_of)}")
        return {name: self._field(name, wanted, node, place, faults) for name, wanted in self.fields.items()}

    def _field(self, name: str, wanted: Field, node: Node, place: str, faults: Faults) -> Any:
        if name not in node.value:
            return wanted.default
        return wanted.kind.read(node.value[name], f"{place}.{name}" if place else name, faults)

    def schema(self) -> dict[str, Any]:
        properties = {}
        for name, wanted in self.fields.items():
            properties[name] = wanted.kind.schema() | ({"description": wanted.help} if wanted.help else {})
        required = [name for name, wanted in self.fields.items() if wanted.required]
        found: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
        if required:
            found["required"] = required
        if self.one_of:
            found["oneOf"] = [{"required": [name]} for name in self.one_of]
        return {"anyOf": [found, self.fields[self.short].kind.schema()]} if self.short else found


def named(value: Any) -> str:
    """Return what a value is, in words."""
    names = {dict: "an object", list: "a list", bool: "a boolean", type(None): "nothing"}
    return names.get(type(value)) or ("a text" if isinstance(value, str) else "a number")


def duration_s(value: Any) -> float:
    """Return seconds of `300ms`, `5s`, `2m`, `1h`, `1d`; raises ValueError."""
    match = DURATION.fullmatch(value) if isinstance(value, str) and len(value) < 30 else None
    if match is None:
        raise ValueError(f"must be a duration with its unit, such as 300ms, 5s or 2m, not {value!r:.60}")
    found = float(match[1]) * SECONDS[match[2]]
    if found > LONGEST_S:
        raise ValueError("must be at most 7d")
    return found


def size_bytes(value: Any) -> int:
    """Return bytes of `12B`, `4KB`, `1MiB`; raises ValueError."""
    match = SIZE.fullmatch(value) if isinstance(value, str) and len(value) < 30 else None
    if match is None:
        raise ValueError(f"must be a size with its unit, such as 512B, 4KiB or 1MiB, not {value!r:.60}")
    return int(float(match[1]) * BYTES[match[2]])


def text(at_most: int = 1000, pattern: re.Pattern[str] | None = None, *, fixed: bool = False) -> Scalar:
    """Return the kind of a text of bounded length."""

    def parse(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError(f"must be a text, not {named(value)}{_quoted(value)}")
        if len(value) > at_most:
            raise ValueError(f"must be at most {at_most} characters long")
        if pattern is not None and not pattern.fullmatch(value):
            raise ValueError(f"'{value[:60]}' does not match {pattern.pattern}")
        return value

    json: dict[str, Any] = {"type": "string", "maxLength": at_most}
    return Scalar(parse, json | ({"pattern": f"^(?:{pattern.pattern})$"} if pattern else {}), fixed)


def integer(low: int, high: int, *, fixed: bool = False) -> Scalar:
    """Return the kind of a whole number within low..high."""

    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"must be a whole number of {low} to {high}, not {value!r:.60}")
        return value

    return Scalar(parse, {"type": "integer", "minimum": low, "maximum": high}, fixed)


def number(low: float, high: float, *, fixed: bool = False) -> Scalar:
    """Return the kind of a number within low..high."""

    def parse(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise ValueError(f"must be a number of {low:g} to {high:g}, not {value!r:.60}")
        return value

    return Scalar(parse, {"type": "number", "minimum": low, "maximum": high}, fixed)


def choice(*choices: str, fixed: bool = True) -> Scalar:
    """Return the kind of one word out of some."""

    def parse(value: Any) -> str:
        if value not in choices or not isinstance(value, str):
            raise ValueError(unknown("value", str(value), list(choices)))
        return value

    return Scalar(parse, {"enum": list(choices)}, fixed)


def _text_or_null(value: Any) -> str | None:
    if value is not None and (not isinstance(value, str) or len(value) > 1000):
        raise ValueError(f"must be a text or null, not {named(value)}")
    return value


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {value!r:.60}")
    return value


def _plain_value(value: Any) -> Any:
    if isinstance(value, (dict, list)):
        raise ValueError(f"must be a text, number, boolean or null, not {named(value)}")
    return value


def _quoted(value: Any) -> str:
    return f'; write "{value}"' if isinstance(value, (int, float)) and not isinstance(value, bool) else ""


ANYTHING = Kind()
BOOLEAN = Scalar(_boolean, {"type": "boolean"})
FIXED_BOOLEAN = Scalar(_boolean, {"type": "boolean"}, fixed=True)
TEXT_OR_NULL = Scalar(_text_or_null, {"type": ["string", "null"]})
VALUE = Scalar(_plain_value, {"type": ["string", "number", "boolean", "null"]})
_DURATION = {"type": "string", "pattern": f"^{DURATION.pattern}$"}
DURATION_S = Scalar(duration_s, _DURATION)
FIXED_DURATION_S = Scalar(duration_s, _DURATION, fixed=True)
SIZE_BYTES = Scalar(size_bytes, {"type": "string", "pattern": f"^{SIZE.pattern}$"})
