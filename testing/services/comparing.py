"""Two runs side by side: which cases broke, healed, came, went or took longer, and what was different."""

from collections.abc import Sequence
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
    old, new = _cases(before), _cases(after)
    pairs = [_pair(old.get(key), new.get(key)) for key in dict.fromkeys([*new, *old])]
    counts = {kind: sum(pair.kind == kind for pair in pairs) for kind in KINDS}
    shown = sorted((pair for pair in pairs if pair.kind != "same"), key=lambda pair: KINDS.index(pair.kind))
    return Comparison(
        before,
        after,
        shown[:MOST_SHOWN],
        counts,
        changes.between(before, after, principal),
        is_whole=max(len(old), len(new)) < MOST_CASES,
    )


def _cases(run: Run) -> dict[tuple[Any, ...], CaseRun]:
    rows = CaseRun.objects.filter(run=run).order_by("number")[:MOST_CASES]
    return {
        (row.part, row.case, orjson.dumps(row.matrix, option=orjson.OPT_SORT_KEYS), row.iteration): row for row in rows
    }


def _pair(before: CaseRun | None, after: CaseRun | None) -> Pair:
    return Pair(kind_of(before, after), str(after or before), before, after)


def kind_of(before: CaseRun | None, after: CaseRun | None) -> str:
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
