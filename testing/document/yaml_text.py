"""YAML into nodes: the 1.2 core schema, and of the rest only what a person can read without surprises.

PyYAML speaks YAML 1.1 (`on` is true, `1:20` is 80), so only its event stream is used
and scalars are resolved here. Anchors, aliases and tags are refused as they come, before
anything is built from them.
"""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from testing.document.nodes import MAX_DEPTH, Mark, Node, check_scalar, refuse

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
LONGEST_NUMBER = 400
NULLS = frozenset({"", "null", "Null", "NULL", "~"})
BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
DECIMAL = re.compile(r"[-+]?[0-9]+")
OTHER_BASE = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def read_yaml(text: str) -> Node:
    """Return the one document in `text`; raises BadDocument at the first thing that cannot be read."""
    try:
        events = yaml.parse(text, Loader=LOADER)
        return _document(iter(events))
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        raise refuse((mark.line + 1, mark.column + 1) if mark else (1, 1), f"not valid YAML: {exc.problem}") from exc
    except yaml.YAMLError as exc:  # a character that YAML does not allow
        raise refuse(
            _place_of(text, getattr(exc, "position", 0)), f"not valid YAML: {str(exc).splitlines()[0][:200]}"
        ) from exc


def _document(events: Iterator[Any]) -> Node:
    found: Node | None = None
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            if found is not None:
                raise refuse(_mark(event), "a second document begins; a file holds one suite")
            found = _node(next(events), events, 1)
    if found is None:
        raise refuse((1, 1), "the document is empty")
    return found


def _node(event: Any, events: Iterator[Any], depth: int) -> Node:
    mark = _mark(event)
    if isinstance(event, yaml.AliasEvent):
        raise refuse(mark, f"aliases are not allowed (*{event.anchor})")
    if event.anchor is not None:
        raise refuse(mark, f"anchors are not allowed (&{event.anchor})")
    if event.tag is not None:
        raise refuse(mark, f"tags are not allowed ({event.tag})")
    if isinstance(event, yaml.ScalarEvent):
        return Node(check_scalar(_scalar(event, mark), mark), mark)
    if depth > MAX_DEPTH:
        raise refuse(mark, f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(event, yaml.SequenceStartEvent):
        return Node(list(_items(events, depth)), mark)
    return _mapping(events, mark, depth)


def _items(events: Iterator[Any], depth: int) -> Iterator[Node]:
    while not isinstance(event := next(events), yaml.SequenceEndEvent):
        yield _node(event, events, depth + 1)


def _mapping(events: Iterator[Any], mark: Mark, depth: int) -> Node:
    children: dict[str, Node] = {}
    keys: dict[str, Mark] = {}
    while not isinstance(event := next(events), yaml.MappingEndEvent):
        at = _mark(event)
        key = _node(event, events, depth + 1)
        is_name = isinstance(event, yaml.ScalarEvent) and (key.value is not None or event.value == "null")
        if not is_name:  # `null` is an operator, and as it is written a name like any other
            raise refuse(at, "a key must be a text")
        name = str(event.value)  # as it is written: `200:` is the key "200"
        if name in children:
            raise refuse(at, f"duplicate key '{name[:60]}', first in line {keys[name][0]}")
        children[name] = _node(next(events), events, depth + 1)
        keys[name] = at
    return Node(children, mark, keys)


def _scalar(event: Any, mark: Mark) -> Any:
    """Return what a scalar means: only a plain one may be anything but a text."""
    text: str = event.value
    if event.style:
        return text
    if text in NULLS:
        return None
    if text in BOOLEANS:
        return BOOLEANS[text]
    if text[0] not in "+-.0123456789":
        return text
    if NOT_FINITE.fullmatch(text):
        raise refuse(mark, "a number must be finite")
    is_integer = DECIMAL.fullmatch(text) or OTHER_BASE.fullmatch(text)
    if not is_integer and not FLOAT.fullmatch(text):
        return text
    if len(text) > LONGEST_NUMBER:
        raise refuse(mark, "a number is too long")
    if not is_integer:
        return float(text)
    return int(text, 10 if DECIMAL.fullmatch(text) else 0)


def _mark(event: Any) -> Mark:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _place_of(text: str, position: int) -> Mark:
    before = text[:position]
    return before.count("\n") + 1, position - before.rfind("\n")
