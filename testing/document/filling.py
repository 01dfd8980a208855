"""Params whose references are read many times: what does not change is read by its kind once, the rest each time.

The result is what `Kind.read` gives for the filled value, or ValueError saying what is wrong with it.
"""

from collections.abc import Callable
from typing import Any

from testing.document.kinds import ANYTHING, Kind, MapOf, Scalar, Shape
from testing.document.nodes import Faults, placed
from testing.document.references import Scope, compiled, has_references

Fill = Callable[[Scope], Any]


def filler(kind: Kind, value: Any, place: str) -> Fill:
    """Return what fills a value in and reads it; raises ValueError for what is wrong in any case."""
    if not has_references(value):
        ready = _read(kind, value, place)
        return lambda _: ready
    if kind is ANYTHING:
        return compiled(value)
    return FILLERS.get(type(kind), _anything)(kind, value, place)


def _read(kind: Kind, value: Any, place: str) -> Any:
    faults = Faults()
    ready = kind.read(placed(value, (0, 0)), place, faults)
    if faults.found:
        raise ValueError("; ".join(f"{fault.place}: {fault.detail}" for fault in faults.found))
    return ready


def _anything(kind: Kind, value: Any, place: str) -> Fill:
    fill = compiled(value)
    return lambda scope: _read(kind, fill(scope), place)


def _scalar(kind: Any, value: Any, place: str) -> Fill:
    fill, parse = compiled(value), kind.parse

    def read(scope: Scope) -> Any:
        try:
            return parse(fill(scope))
        except ValueError as exc:
            raise ValueError(f"{place}: {exc}") from exc

    return read


def _map(kind: Any, value: Any, place: str) -> Fill:
    if not isinstance(value, dict):
        return _anything(kind, value, place)
    items = {name: filler(kind.item, child, f"{place}.{name}") for name, child in value.items()}
    return lambda scope: {name: fill(scope) for name, fill in items.items()}


def _shape(kind: Any, value: Any, place: str) -> Fill:
    if not isinstance(value, dict):
        return _anything(kind, value, place)
    _read(kind, value, place)  # its keys
    fields = {
        name: filler(wanted.kind, value[name], f"{place}.{name}") if name in value else _always(wanted.default)
        for name, wanted in kind.fields.items()
    }
    return lambda scope: {name: fill(scope) for name, fill in fields.items()}


def _always(value: Any) -> Fill:
    return lambda _: value


FILLERS: dict[type[Kind], Callable[[Any, Any, str], Fill]] = {Scalar: _scalar, MapOf: _map, Shape: _shape}
