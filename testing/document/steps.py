"""A step in the document: the keys that every step has, and exactly one that names its kind."""

from collections.abc import Mapping
from typing import Any

from testing.assertions.judge import Assertion, compile_assertion
from testing.assertions.subjects import read_subject, root_of
from testing.document.kinds import (
    FIXED_DURATION_S,
    NAME,
    Field,
    Kind,
    ListOf,
    MapOf,
    Shape,
    named,
    text,
)
from testing.document.nodes import Faults, Node, plain, unknown
from testing.document.references import has_references
from testing.document.suite import Poll, Step
from testing.steps import STEPS, step_class

POLL = Shape(
    {
        "within": Field(FIXED_DURATION_S, "How long to go on asking.", required=True),
        "every": Field(FIXED_DURATION_S, "How long to wait in between.", default=0.25),
    }
)
SHORTEST_POLL_S = 0.01


class Assertions(Kind):
    """`none`, or a list of `{subject: {operator: operand}}`."""

    def read(self, node: Node, place: str, faults: Faults) -> list[Assertion] | None:
        if node.value == "none":
            return None
        if not isinstance(node.value, list) or not node.value:
            faults.add(node, place, "must be a list of {subject: {operator: ...}}, or none")
            return []
        return [
            found for index, item in enumerate(node.value) for found in self._item(item, f"{place}.{index}", faults)
        ]

    def _item(self, node: Node, place: str, faults: Faults) -> list[Assertion]:
        if not isinstance(node.value, dict) or not node.value:
            faults.add(node, place, f"must be {{subject: {{operator: ...}}}}, not {named(node.value)}")
            return []
        found = []
        for subject, operators in node.value.items():
            try:
                found.append(compile_assertion(subject, plain(operators), node.keys[subject][0]))
            except (ValueError, RecursionError) as exc:
                faults.add(node.keys[subject], f"{place}.{subject}", str(exc))
        return found

    def schema(self) -> dict[str, Any]:
        operators = {"type": "object", "minProperties": 1}
        item = {"type": "object", "minProperties": 1, "additionalProperties": operators}
        return {"anyOf": [{"const": "none"}, {"type": "array", "minItems": 1, "items": item}]}


class Subject(Kind):
    """The name of what is captured."""

    def read(self, node: Node, place: str, faults: Faults) -> Any:
        try:
            return str(node.value), read_subject(str(node.value))
        except ValueError as exc:
            faults.add(node, place, str(exc))
            return None

    def schema(self) -> dict[str, Any]:
        return {"type": "string"}


class StepKind(Kind):
    """One step; the kinds there are come from the table `STEPS`."""

    def __init__(self, *, is_cleanup: bool = False) -> None:
        self.is_cleanup = is_cleanup

    @property
    def own(self) -> Mapping[str, Field]:
        fields = {
            "id": Field(text(63, NAME, fixed=True), "The step's name in results."),
            "timeout": Field(FIXED_DURATION_S, "The longest one attempt may take.", default=30.0),
            "assert": Field(Assertions(), "What must hold; `none` to say that nothing is asserted."),
        }
        if not self.is_cleanup:
            fields |= {
                "capture": Field(MapOf(Subject()), "Names for what later steps read with ${{ captures.name }}."),
                "poll": Field(POLL, "Ask again until all assertions hold."),
                "cleanup": Field(ListOf(CLEANUP, or_one=True), "Runs at the end of the case, in reverse order."),
            }
        return fields

    def read(self, node: Node, place: str, faults: Faults) -> Step | None:
        if not isinstance(node.value, dict):
            faults.add(node, place, f"must be an object such as {{http: {{...}}}}, not {named(node.value)}")
            return None
        own = self.own
        kinds = [name for name in node.value if name in STEPS]
        for name in node.value:
            if name not in own and name not in STEPS:
                faults.add(node.keys[name], place, _unknown(name, list(own), bool(kinds)))
                return None
        if len(kinds) != 1:
            faults.add(node, place, f"needs exactly one step kind; known are {', '.join(STEPS)}")
            return None
        rest = Node({key: child for key, child in node.value.items() if key in own}, node.mark, node.keys)
        values = Shape(own).read(
            Node(rest.value, node.mark, {key: node.keys[key] for key in rest.value}), place, faults
        )
        return self._step(kinds[0], values, node, place, faults)

    def _step(self, kind: str, values: dict[str, Any], node: Node, place: str, faults: Faults) -> Step:
        found = step_class(kind)
        at = node.value[kind]
        params = plain(at)
        fills = found.FILLS and has_references(params)
        ready = found.SHAPE.read(at, f"{place}.{kind}", faults)
        poll = values.get("poll")
        self._check_assert(kind, values, node, place, faults)
        if poll and (poll["within"] is None or poll["every"] is None or poll["every"] < SHORTEST_POLL_S):
            faults.add(node.value["poll"], f"{place}.poll", "every must be at least 10ms")
            poll = None
        return Step(
            kind=kind,
            id=values["id"] or "",
            params=params,
            ready=None if fills else ready,
            assertions=tuple(values["assert"] or ()),
            asserts_nothing="assert" in node.value and values["assert"] is None,
            captures={name: subject for name, subject in (values.get("capture") or {}).items() if subject},
            poll=Poll(poll["within"], poll["every"]) if poll else None,
            timeout_s=values["timeout"] or 30.0,
            cleanup=tuple(step for step in values.get("cleanup") or () if step),
            mark=node.mark,
        )

    def _check_assert(self, kind: str, values: dict[str, Any], node: Node, place: str, faults: Faults) -> None:
        subjects = step_class(kind).SUBJECTS
        if not subjects:
            for name in ("assert", "capture", "poll"):
                if name in node.value:
                    faults.add(node.keys[name], place, f"a {kind} step has nothing to look at, so no {name}")
            return
        if "assert" not in node.value and not self.is_cleanup and not step_class(kind).JUDGES:
            faults.add(node, place, "asserts nothing; add assert, or say `assert: none`")
        if "poll" in node.value and not values["assert"]:
            faults.add(node.keys["poll"], f"{place}.poll", "needs assertions to wait for")
        asked = [(f"{place}.assert", assertion.subject) for assertion in values["assert"] or ()]
        captured = (values.get("capture") or {}).items()
        asked += [(f"{place}.capture.{name}", subject[0]) for name, subject in captured if subject]
        for where, subject in asked:
            if root_of(subject) not in subjects:
                said = f"a {kind} step has no '{subject}'; it has {', '.join(subjects)}"
                faults.add(node.value["assert" if where.endswith("assert") else "capture"], where, said)

    def schema(self) -> dict[str, Any]:
        return {"$ref": "#/$defs/cleanup" if self.is_cleanup else "#/$defs/step"}

    def definition(self) -> dict[str, Any]:
        """Return the schema of a step; others refer to it, since steps hold steps."""
        kinds = {name: Field(step_class(name).SHAPE) for name in STEPS}
        return Shape({**self.own, **kinds}, one_of=tuple(STEPS)).schema()


def _unknown(name: str, own: list[str], has_kind: bool) -> str:
    return unknown("key", name, [*own, *STEPS]) if has_kind else unknown("step kind", name, list(STEPS))


CLEANUP = StepKind(is_cleanup=True)
STEP = StepKind()
