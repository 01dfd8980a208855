"""What a suite comes to: every case, with each combination of the matrix and each row of data."""

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from endpoints.errors import Refused
from testing.document.suite import Case, Retry, Suite
from testing.models import Part, Run

MAX_CASE_RUNS = 20_000


@dataclass(frozen=True, slots=True)
class Instance:
    """One case to run; `number` is its place in the run."""

    number: int
    case: Case
    part: Part = Part.CASE
    matrix: Mapping[str, Any] = field(default_factory=dict)
    iteration: int = 0
    row: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[int, ...] = ()
    rows: Sequence[Mapping[str, Any]] = ()  # of a load, whose iterations take them in turn

    @property
    def label(self) -> str:
        """Return the case's name with what tells it from the others of that name."""
        parts = [f"{name}={value}" for name, value in self.matrix.items()]
        parts += [f"row {self.iteration}"] if self.row else []
        return f"{self.case.name} [{', '.join(parts)}]" if parts else self.case.name


def of_run(suite: Suite, run: Run) -> list[Instance]:
    """Return the case runs of a run: all of the suite (as picked), or those asked for with what they need."""
    found = instances(suite, run.rows, run.order or run.pk)
    return found if run.numbers is None else _chosen(found, run.numbers)


def _chosen(found: Sequence[Instance], numbers: Sequence[int]) -> list[Instance]:
    by_number = {instance.number: instance for instance in found}
    wanted = [number for number in numbers if number in by_number]
    chosen: set[int] = set()
    while wanted:
        number = wanted.pop()
        if number not in chosen:
            chosen.add(number)
            wanted += by_number[number].needs
    return [instance for instance in found if instance.number in chosen]


def instances(suite: Suite, rows: Sequence[Mapping[str, Any]], salt: uuid.UUID) -> list[Instance]:
    """Return the case runs of a suite; a case needs those of its own combination and row.

    `salt` decides how rows that are picked at random are shuffled: the same, the same way.
    Raises Refused when there would be too many.
    """
    combinations = [dict(zip(suite.matrix, chosen, strict=True)) for chosen in product(*suite.matrix.values())]
    chosen_rows = list(rows or (suite.data.rows if suite.data else ())) or [{}]
    if suite.data and suite.data.pick == "random":
        chosen_rows = _shuffled(chosen_rows, salt)
    loads = {case.name for case in suite.cases if case.load is not None}
    per_combination = len(loads) + len(chosen_rows) * (len(suite.cases) - len(loads))
    if (count := len(combinations) * per_combination) > MAX_CASE_RUNS:
        raise Refused(f"the suite comes to {count} case runs, over {MAX_CASE_RUNS}", code="too_many_cases")
    found: list[Instance] = []
    for combination in combinations:
        found += _of_combination(suite, combination, chosen_rows, loads, len(found) + 1)  # the setup is number 0
    return found


def _of_combination(
    suite: Suite, combination: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], loads: set[str], first: int
) -> list[Instance]:
    """Return each case with each row; a load is one case run, which takes the rows itself."""
    planned = [
        (iteration, case) for iteration in range(len(rows)) for case in suite.cases if not iteration or not case.load
    ]
    numbers: dict[tuple[str, int], int] = {
        (case.name, iteration): first + index for index, (iteration, case) in enumerate(planned)
    }

    def needed(need: str, iteration: int, *, by_load: bool) -> list[int]:
        if need in loads:
            return [numbers[need, 0]]
        return [numbers[need, row] for row in range(len(rows))] if by_load else [numbers[need, iteration]]

    return [
        Instance(
            number=numbers[case.name, iteration],
            case=case,
            matrix=combination,
            iteration=iteration,
            row={} if case.load else rows[iteration],
            needs=tuple(
                number for need in case.needs for number in needed(need, iteration, by_load=case.load is not None)
            ),
            rows=tuple(row for row in rows if row) if case.load else (),
        )
        for iteration, case in planned
    ]


def _shuffled(rows: Sequence[Any], salt: uuid.UUID) -> list[Any]:
    keys = [hashlib.sha256(f"{salt}:{place}".encode()).digest() for place in range(len(rows))]
    return [rows[place] for place in sorted(range(len(rows)), key=keys.__getitem__)]


def frame(suite: Suite, part: Part, number: int) -> Instance:
    """Return setup or teardown in the shape of a case."""
    steps = suite.setup if part == Part.SETUP else suite.teardown
    return Instance(number, Case(str(part), (), suite.execution.timeout_s, Retry(), steps), part)
