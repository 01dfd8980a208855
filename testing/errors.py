"""What can go wrong with a suite: before anything of it has run, and when what it found cannot be kept."""

from dataclasses import dataclass

from endpoints.errors import Refused

MOST_TOLD = 20


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a document: lines and columns count from 1, `place` reads `cases.0.steps.1.http`."""

    line: int
    column: int
    place: str
    detail: str

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}: {f'{self.place}: ' * bool(self.place)}{self.detail}"


class BadDocument(Refused):
    """The document is refused; `faults` are in the order of the text."""

    code, title = "bad_suite", "Suite refused"

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = sorted(faults, key=lambda fault: (fault.line, fault.column))
        more = len(self.faults) - 1
        super().__init__(
            f"{self.faults[0]}{f' (and {more} more)' * bool(more)}",
            errors=[
                {
                    "field": fault.place,
                    "code": "invalid",
                    "detail": fault.detail,
                    "line": str(fault.line),
                    "column": str(fault.column),
                }
                for fault in self.faults[:MOST_TOLD]
            ],
        )


class Unwritten(Exception):
    """Results could not be written down: the run has no verdict yet, and is another worker's once its lease is over."""
