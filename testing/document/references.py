"""`${{ ... }}` in a document: values are read, nothing is evaluated.

Alone in a scalar a reference keeps its type; within a text it becomes text. What it
reads is never read again for references, so nothing can grow or loop.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from testing.document.nodes import Faults, Node, unknown

REFERENCE = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
PATH = re.compile(r"\s*([A-Za-z_][\w-]*)((?:\.[\w-]+)*)\s*", re.ASCII)
ROOTS = ("vars", "captures", "run", "matrix", "data", "iteration", "secret", "uuid", "now")
BARE = frozenset({"iteration", "uuid", "now"})  # these have nothing below them
RUN_FIELDS = ("id", "suite", "started_at")
LONGEST_TEXT = 1024 * 1024


class Unresolved(Exception):
    """A reference leads to nothing; the text says what there is instead."""


Scope = Mapping[str, Callable[[tuple[str, ...]], Any]]  # root -> how what is below it is read


@dataclass
class Names:
    """What may be referred to at a place of the document; None: known only when it runs."""

    vars: frozenset[str] = frozenset()
    matrix: frozenset[str] = frozenset()
    data: frozenset[str] | None = frozenset()
    captures: set[str] = field(default_factory=set)
    roots: tuple[str, ...] = ROOTS
    aliases: tuple[str, ...] = ()  # of systems
    secret: frozenset[str] = frozenset()  # those of vars that hold one


def has_references(value: Any) -> bool:
    """Say whether a plain value holds a reference anywhere."""
    if isinstance(value, str):
        return "${{" in value
    if isinstance(value, dict):
        return any(has_references(child) for child in value.values())
    return isinstance(value, list) and any(has_references(child) for child in value)


def reads(value: Any, root: str) -> bool:
    """Say whether a plain value holds a reference to something below `root`."""
    return any(inner.strip().partition(".")[0] == root for inner in REFERENCE.findall(str(value)))


def fill(value: Any, scope: Scope) -> Any:
    """Return the value with its references read; raises Unresolved."""
    if isinstance(value, str):
        return _filled(value, scope) if "${{" in value else value
    if isinstance(value, dict):
        return {key: fill(child, scope) for key, child in value.items()}
    return [fill(child, scope) for child in value] if isinstance(value, list) else value


def compiled(value: Any) -> Callable[[Scope], Any]:
    """Return what does the same as `fill` for this value, with all that does not change worked out."""
    if isinstance(value, str) and "${{" in value:
        return _compiled_text(value)
    if not has_references(value):
        return lambda _: value
    if isinstance(value, dict):
        below = {key: compiled(child) for key, child in value.items()}
        return lambda scope: {key: read(scope) for key, read in below.items()}
    items = [compiled(child) for child in value]
    return lambda scope: [read(scope) for read in items]


def _compiled_text(text: str) -> Callable[[Scope], Any]:
    alone = REFERENCE.fullmatch(text.strip())
    match = PATH.fullmatch(alone[1]) if alone else None
    if match is not None:
        root, path = match[1], tuple(match[2].split(".")[1:])
        return lambda scope: scope[root](path)
    return lambda scope: _filled(text, scope)


def _filled(text: str, scope: Scope) -> Any:
    alone = REFERENCE.fullmatch(text.strip())
    if alone and "${{" not in alone[1]:
        return _read(alone[1], scope)
    filled = REFERENCE.sub(lambda match: as_text(_read(match[1], scope)), text)
    if len(filled) > LONGEST_TEXT:
        raise Unresolved(f"the text would be longer than {LONGEST_TEXT} characters")
    return filled


def _read(inner: str, scope: Scope) -> Any:
    match = PATH.fullmatch(inner)
    if match is None or match[1] not in scope:
        raise Unresolved(f"'{inner.strip()[:60]}' is not a reference; known are {', '.join(scope)}")
    return scope[match[1]](tuple(match[2].split(".")[1:]))


def as_text(value: Any) -> str:
    """Return a value as it stands within a text: texts as they are, all else as JSON."""
    return value if isinstance(value, str) else orjson.dumps(value, default=str).decode()


def check(node: Node, place: str, names: Names, faults: Faults) -> None:
    """Note every reference below `node` that cannot lead anywhere."""
    for where, scalar in scalars(node, place):
        if "${{" not in scalar.value:
            continue
        if scalar.value.count("${{") != len(REFERENCE.findall(scalar.value)):
            faults.add(scalar, where, "a '${{' has no '}}'")
        for inner in REFERENCE.findall(scalar.value):
            if wrong := _wrong(inner, names):
                faults.add(scalar, where, wrong)


def scalars(node: Node, place: str) -> Iterator[tuple[str, Node]]:
    """Yield (place, node) of every text below `node`."""
    if isinstance(node.value, str):
        yield place, node
    elif isinstance(node.value, dict):
        for key, child in node.value.items():
            yield from scalars(child, f"{place}.{key}")
    elif isinstance(node.value, list):
        for index, child in enumerate(node.value):
            yield from scalars(child, f"{place}.{index}")


def _wrong(inner: str, names: Names) -> str:
    match = PATH.fullmatch(inner)
    if match is None:
        return f"'${{{{{inner[:60]}}}}}' is not a reference: write a name and names below it, such as vars.sku"
    root, below = match[1], match[2].split(".")[1:]
    if root not in names.roots:
        return unknown("reference", root, list(names.roots))
    if root in BARE:
        return f"'{root}' has nothing below it" if below else ""
    if not below:
        return f"'{root}' needs a name, such as {root}.name"
    known: dict[str, Any] = {
        "vars": names.vars,
        "matrix": names.matrix,
        "data": names.data,
        "captures": names.captures,
        "run": RUN_FIELDS,
    }
    there = known.get(root)
    if there is not None and below[0] not in there:
        return unknown(f"name in {root}", below[0], sorted(there))
    if root == "secret" and len(below) != 2:
        return "a secret is named by its credential and the field in it, such as secret.shop-key.token"
    return ""
