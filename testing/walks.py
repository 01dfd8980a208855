"""Which index leads to what a list of runs is asked for; the first row that applies is taken, the narrowest first."""

from collections.abc import Callable, Mapping
from typing import Any

from django.db.models import Q

from endpoints.access.principal import Principal
from endpoints.edge.walks import MOST_WAYS, Order, Walk, Way, said
from testing.models import NOT_PASSED, RunState, Verdict

Given = Mapping[str, Any]


def _of_suites(slugs: list[str]) -> list[Way]:
    return [Way(Q(slug=slug)) for slug in slugs]


def _with_verdicts(verdicts: list[str]) -> list[Way] | None:
    if Verdict.PASSED in verdicts:
        return None
    return [Way(Q(verdict=verdict) & said(NOT_PASSED)) for verdict in verdicts]


def _in_states(states: list[str]) -> list[Way] | None:
    if RunState.ENDED in states:
        return None
    return [Way(Q(state=state) & said(~Q(state="ended"))) for state in states]


TABLE: tuple[tuple[str, Callable[[list[str]], list[Way] | None]], ...] = (
    ("state", _in_states),
    ("suite", _of_suites),
    ("verdict", _with_verdicts),
)


def runs(given: Given, principal: Principal, order: Order) -> Walk:
    """Return how to read a list of runs."""
    is_scoped = principal.team_ids is not None
    for name, ways in TABLE:
        found = ways(given[name]) if name in given else None
        if found is not None and len(found) <= MOST_WAYS:
            return Walk(found, checks=is_scoped or len(given) > 1)
    return Walk(checks=is_scoped or bool(given))
