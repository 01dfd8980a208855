"""What lists of runs can be filtered by: one row per query parameter, for the API and the pages alike."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Q

from endpoints.edge.filters import Filter, boolean, choice, custom, member, moment, one_of, words
from endpoints.ids import first_id_at
from endpoints.models import SLUG
from testing.document.shapes import TYPES
from testing.models import Part, RunState, Verdict


def by_system(slug: str) -> Q:
    """Select runs in which an alias stood for this system, through whichever interface."""
    try:
        SLUG(slug)
    except ValidationError as exc:
        raise ValueError("must be the slug of a system.") from exc
    return Q(systems__icontains=f': "{slug}"') | Q(systems__icontains=f': "{slug}/')


def _along_ids(lookup: str, description: str) -> Filter:
    """Compare times as ids, which carry them: the list is in their order."""
    found = moment(lookup, description)
    condition: Callable[[datetime], Any] = lambda at: Q(**{lookup: first_id_at(at)})  # noqa: E731
    return Filter(found.parse, condition, description, found.schema)


RUNS: dict[str, Filter] = {
    "suite": one_of("slug", "The suite's slug."),
    "state": choice("state", RunState.values),
    "verdict": choice("verdict", Verdict.values, "How it ended."),
    "flaky": boolean("flaky", "Runs in which a retry rescued a case, or the others."),
    "dirty": boolean("dirty", "Runs in which a cleanup failed, or the others."),
    "system": custom(by_system, "Runs that used this system."),
    "created_after": _along_ids("pk__gte", "Made at or after this time."),
    "created_before": _along_ids("pk__lt", "Made before this time."),
}


SUITES: dict[str, Filter] = {
    "type": choice("type", list(TYPES), "What kind of test it is."),
    "label": member("labels", "One of its labels."),
    "q": words("slug", "title"),
}

CASES: dict[str, Filter] = {
    "verdict": choice("verdict", Verdict.values, "How it ended."),
    "case": one_of("case", "The case's name."),
    "part": choice("part", Part.values, "Cases, or the setup or teardown around them."),
    "flaky": boolean("flaky", "Those that a retry rescued, or the others."),
    "dirty": boolean("dirty", "Those whose cleanup failed, or the others."),
}
