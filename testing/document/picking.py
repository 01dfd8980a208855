"""Some cases of a suite, with those that they need."""

from collections.abc import Collection
from dataclasses import replace

from testing.document.suite import Suite


def pick(suite: Suite, names: Collection[str]) -> Suite:
    """Return the suite with the named cases only, and what they need; with no names, all of it.

    How many cases there must be is a question to the whole.
    """
    if not names:
        return suite
    needs = {case.name: case.needs for case in suite.cases}
    wanted: set[str] = set()
    waiting = [name for name in names if name in needs]
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting += needs[name]
    cases = tuple(case for case in suite.cases if case.name in wanted)
    return replace(suite, cases=cases, gate=replace(suite.gate, min_cases=0))
