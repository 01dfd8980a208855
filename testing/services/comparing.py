"""Two runs side by side: which cases broke, healed, came, went or took longer, and what was different."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from endpoints.access.principal import Principal
from testing.models import BAD, CaseRun, Run
from testing.services import changes
from testing.services.changes import Change

MOST_CASES = 5_000  # of each run
MOST_SHOWN = 200
SLOWER_BY, SLOWER_LEAST_MS = 1.5, 100.0
# How a case can differ, in the order it is shown; `same` is what did not.
KINDS = ("broke", "still_bad", "healed", "other", "gone", "new", "slower", "same")


@dataclass(frozen=True, slots=True)
class Pair:
    """One case in both runs; None where it did not run."""

    kind: str
    label: str
    before: CaseRun | None
    after: CaseRun | None

    @property
    def difference_ms(self) -> float | None:
        if self.before is None or self.after is None:
            return None
        return self.after.took_ms - self.before.took_ms


@dataclass(frozen=True, slots=True)
class Comparison:
    """`pairs` are those that differ, at most `MOST_SHOWN`; `counts` are of all that were read."""

    before: Run
    after: Run
    pairs: Sequence[Pair]
    counts: dict[str, int]
    changes: Sequence[Change]
    is_whole: bool


def compare(before: Run, after: Run, principal: Principal) -> Comparison:
    """Return what differs between two runs."""
    old, new = _ends(before), _ends(after)
    kinds = {key: kind_of(old.get(key), new.get(key)) for key in dict.fromkeys([*new, *old])}
    differing = sorted((key for key in kinds if kinds[key] != "same"), key=lambda key: KINDS.index(kinds[key]))
    shown = [(kinds[key], old.get(key), new.get(key)) for key in differing[:MOST_SHOWN]]
    wanted = [end.pk for _, *ends in shown for end in ends if end is not None]
    rows = CaseRun.objects.in_bulk(wanted)
    return Comparison(
        before,
        after,
        [_pair(kind, _row(rows, was), _row(rows, now)) for kind, was, now in shown],
        dict.fromkeys(KINDS, 0) | Counter(kinds.values()),
        changes.between(before, after, principal),
        is_whole=max(len(old), len(new)) < MOST_CASES,
    )


@dataclass(frozen=True, slots=True)
class End:
    """As much of a case run as tells how it differs."""

    pk: Any
    verdict: str
    took_ms: float


def _row(rows: Mapping[Any, CaseRun], end: End | None) -> CaseRun | None:
    return None if end is None else rows.get(end.pk)


def _ends(run: Run) -> dict[tuple[Any, ...], End]:
    rows = CaseRun.objects.filter(run=run).order_by("number")
    told = rows.values_list("part", "case", "matrix", "iteration", "pk", "verdict", "took_ms")[:MOST_CASES]
    return {
        (part, case, orjson.dumps(matrix, option=orjson.OPT_SORT_KEYS), iteration): End(pk, verdict, took_ms)
        for part, case, matrix, iteration, pk, verdict, took_ms in told
    }


def _pair(kind: str, before: CaseRun | None, after: CaseRun | None) -> Pair:
    return Pair(kind, str(after or before), before, after)


def kind_of(before: End | None, after: End | None) -> str:
    """Return how a case differs: pure."""
    if before is None or after is None:
        return "new" if before is None else "gone"
    was_bad, is_bad = before.verdict in BAD, after.verdict in BAD
    if was_bad != is_bad:
        return "broke" if is_bad else "healed"
    if is_bad:
        return "still_bad"
    if before.verdict != after.verdict:
        return "other"
    longer = after.took_ms - before.took_ms
    return "slower" if longer >= SLOWER_LEAST_MS and after.took_ms >= before.took_ms * SLOWER_BY else "same"
