"""What may be wrong with the settings, and how it is told."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing wrong with the settings: a stable id, where, what, and what to do."""

    id: str
    name: str
    what: str
    do: str

    def __str__(self) -> str:
        return f"{self.id}  {self.name} (environment variable): {self.what}\n{'':20}{self.do}"


class BadEnvironment(Exception):
    """The settings do not allow a start; `problems` says why."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(f"Not started: {count} in the settings.\n\n" + "\n".join(str(p) for p in problems))
