"""What can stand where, in words: made from the tables that the checker reads by, so that it cannot be out of date."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from testing.assertions.operators import NAMES as OPERATORS
from testing.assertions.subjects import BELOW, PLAIN
from testing.document.kinds import DURATION_S, FIXED_DURATION_S, SIZE_BYTES, Field, Kind, ListOf, MapOf, Scalar, Shape
from testing.document.references import ROOTS, RUN_FIELDS
from testing.document.shapes import CASE, RETRY, SUITE
from testing.document.steps import POLL, STEP, Assertions, StepKind, Subject
from testing.steps import STEPS, step_class

MOST_CHOICES = 12


@dataclass(frozen=True, slots=True)
class Key:
    """One key: what may stand there, what for, and what holds without it."""

    name: str
    takes: str
    help: str
    required: bool


@dataclass(frozen=True, slots=True)
class StepGuide:
    """One kind of step: `short` says what may stand in place of its keys."""

    kind: str
    title: str
    more: str
    keys: tuple[Key, ...]
    short: str
    subjects: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Guide:
    """All of it."""

    steps: tuple[StepGuide, ...]
    of_suite: tuple[Key, ...]
    of_case: tuple[Key, ...]
    of_step: tuple[Key, ...]
    of_retry: tuple[Key, ...]
    of_poll: tuple[Key, ...]
    subjects: tuple[str, ...]
    operators: tuple[str, ...]
    references: tuple[str, ...]


@cache
def guide() -> Guide:
    """Return the reference of the format."""
    return Guide(
        steps=tuple(_step(kind) for kind in STEPS),
        of_suite=_deep(SUITE.fields),
        of_case=_keys(CASE.fields),
        of_step=_keys(STEP.own),
        of_retry=_keys(RETRY.fields),
        of_poll=_keys(POLL.fields),
        subjects=(*PLAIN, *(f"{root}.{what}" for root, (what, _) in BELOW.items())),
        operators=OPERATORS,
        references=tuple(f"run.{name}" for name in RUN_FIELDS) + tuple(name for name in ROOTS if name != "run"),
    )


def _step(kind: str) -> StepGuide:
    found = step_class(kind)
    shape = found.SHAPE
    module = inspect.getmodule(found)
    return StepGuide(
        kind=kind,
        title=_first_line(inspect.getdoc(module) if module else ""),
        more=_plain(" ".join((found.__dict__.get("__doc__") or "").split())),
        keys=_keys(shape.fields) if isinstance(shape, Shape) else (),
        short=takes(shape.fields[shape.short].kind) if isinstance(shape, Shape) and shape.short else _alone(shape),
        subjects=found.SUBJECTS,
    )


def _alone(shape: Kind) -> str:
    return "" if isinstance(shape, Shape) else takes(shape)


def _first_line(text: str | None) -> str:
    return _plain(text.splitlines()[0]) if text else ""


def _plain(text: str) -> str:
    """Return what our own source says, without the marks of its code."""
    return text.replace("`", "")


def _keys(fields: Mapping[str, Field]) -> tuple[Key, ...]:
    return tuple(Key(name, takes(field.kind), _plain(field.help), field.required) for name, field in fields.items())


def _deep(fields: Mapping[str, Field]) -> tuple[Key, ...]:
    """Return keys with those below them: `execution.mode`; cases and steps have places of their own."""
    found: list[Key] = []
    for name, field in fields.items():
        kind = field.kind.item if isinstance(field.kind, ListOf) else field.kind
        found += _keys({name: field})
        if isinstance(kind, Shape) and kind is not CASE:
            found += _keys({f"{name}.{below}": inner for below, inner in kind.fields.items()})
    return tuple(found)


def takes(kind: Kind) -> str:
    """Return in a few words what a kind of place takes."""
    if kind in (DURATION_S, FIXED_DURATION_S):
        return "duration"
    if kind is SIZE_BYTES:
        return "size"
    return next((said(kind) for of, said in WORDS if isinstance(kind, of)), "anything")


NAMED = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true | false"}


def _scalar(kind: Scalar) -> str:
    if choices := kind.json.get("enum"):
        return " | ".join(map(str, choices[:MOST_CHOICES])) + " | …" * (len(choices) > MOST_CHOICES)
    return NAMED.get(str(kind.json.get("type")), "value")


def _list(kind: ListOf) -> str:
    item = takes(kind.item)
    return f"{item}, or a list" if kind.or_one else f"list of {item}"


def _shape(kind: Shape) -> str:
    return "{" + ", ".join(kind.fields) + "}"


WORDS: tuple[tuple[type[Kind], Callable[[Any], str]], ...] = (
    (Scalar, _scalar),
    (ListOf, _list),
    (MapOf, lambda kind: f"{{name: {takes(kind.item)}}}"),
    (Shape, _shape),
    (StepKind, lambda kind: "step"),
    (Assertions, lambda kind: "list of {subject: {operator: …}} | none"),
    (Subject, lambda kind: "subject"),
)
