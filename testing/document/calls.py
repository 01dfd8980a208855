"""Calls: which case a step includes, through how many, and that none includes itself."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from testing.document.suite import Step, Suite
from testing.errors import BadDocument, Fault

DEEPEST = 5
MOST = 200
MOST_LOOKED_AT = 1000  # ways to be called, where only what is touched is asked for


@dataclass(frozen=True, slots=True)
class Call:
    """A step that calls; `suite` is "" for a case of the same document. `given`: its aliases we stand in for."""

    suite: str
    case: str
    mark: tuple[int, int]
    given: frozenset[str] = frozenset()


class Outside:
    """Stands for a suite that is not looked into."""


OUTSIDE = Outside()
Find = Callable[[str], Suite | Outside | None]


def calls_in(steps: Iterable[Step]) -> Iterator[Call]:
    """Yield the calls among steps, those in groups and cleanups too."""
    for step in steps:
        if step.kind == "call":
            written = step.params if isinstance(step.params, dict) else {"case": step.params}
            given = frozenset(map(str, written.get("systems") or ()))
            yield Call(str(written.get("suite") or ""), str(written.get("case")), step.mark, given)
        yield from calls_in((*step.inner, *step.cleanup))


def check_calls(suite: Suite, find: Find) -> None:
    """Raise BadDocument for a call that leads nowhere, in a circle, or too deep; `find` gives other suites by slug."""
    walk = _Walk(suite, find)
    for case in suite.cases:
        walk.follow(calls_in(case.steps), [(suite.slug, case.name)])
    walk.follow(calls_in((*suite.setup, *suite.teardown)), [(suite.slug, "(setup)")])


def check_own_calls(suite: Suite) -> None:
    """Raise BadDocument for calls within one document that cannot be made; stored suites are looked at by each run."""
    own = [[call for call in calls_in(case.steps) if not call.suite] for case in suite.cases]
    frame = [call for call in calls_in((*suite.setup, *suite.teardown)) if not call.suite]
    if any(own) or frame:
        check_calls(suite, lambda slug: OUTSIDE)


def called_targets(own: Suite, find: Find) -> set[str]:
    """Return what the aliases of the suites called stand for, but for those that whoever calls stands in for.

    Calls that cannot be made are passed over: the run says what is wrong with them.
    """
    found: set[str] = set()
    seen: set[tuple[str, str, frozenset[str]]] = set()
    parts = (own.setup, own.teardown, *(case.steps for case in own.cases))
    waiting = [(own, frozenset[str](), steps) for steps in parts]
    while waiting and len(seen) < MOST_LOOKED_AT:
        here, given, steps = waiting.pop()
        for call in calls_in(steps):
            slug = call.suite or here.slug
            suite = here if slug == here.slug else own if slug == own.slug else find(slug)
            if not isinstance(suite, Suite):
                continue
            replaced = given if suite is here else call.given
            if (slug, call.case, replaced) not in seen:
                seen.add((slug, call.case, replaced))
                found |= {
                    target for alias, target in suite.systems.items() if suite is not own and alias not in replaced
                }
                waiting += [(suite, replaced, case.steps) for case in suite.cases if case.name == call.case]
    return found


class _Walk:
    """One look through all that is reached; what was found sound once is not looked at again."""

    def __init__(self, suite: Suite, find: Find) -> None:
        self._own, self._find = suite, find
        self._depth: dict[tuple[str, str], int] = {}

    def follow(self, calls: Iterable[Call], path: list[tuple[str, str]]) -> int:
        """Return how many calls lie one in another below here."""
        deepest = 0
        for call in calls:
            slug = call.suite or (path[-1][0] if path else self._own.slug)
            deepest = max(deepest, 1 + self._called(call, (slug, call.case), path))
        return deepest

    def _called(self, call: Call, name: tuple[str, str], path: list[tuple[str, str]]) -> int:
        if name in path:
            circle = " -> ".join("/".join(step) for step in [*path[path.index(name) :], name])
            raise self._wrong(call, f"a cycle: {circle}")
        if len(path) > DEEPEST:
            raise self._wrong(
                call, f"calls lie more than {DEEPEST} deep: {' -> '.join('/'.join(step) for step in path)}"
            )
        if name not in self._depth:
            if len(self._depth) >= MOST:
                raise self._wrong(call, f"more than {MOST} cases are called")
            suite = self._own if name[0] == self._own.slug else self._find(name[0])
            if isinstance(suite, Outside):
                return 0
            if suite is None:
                raise self._wrong(call, f"there is no suite '{name[0]}', or it is not yours to see")
            case = next((case for case in suite.cases if case.name == name[1]), None)
            if case is None:
                known = ", ".join(case.name for case in suite.cases[:20])
                raise self._wrong(call, f"suite '{suite.slug}' has no case '{name[1]}'; there are {known}")
            self._depth[name] = self.follow(calls_in(case.steps), [*path, name])
        if len(path) + self._depth[name] > DEEPEST:
            raise self._wrong(call, f"calls lie more than {DEEPEST} deep below {'/'.join(name)}")
        return self._depth[name]

    def _wrong(self, call: Call, detail: str) -> BadDocument:
        return BadDocument([Fault(*call.mark, "call", detail)])
