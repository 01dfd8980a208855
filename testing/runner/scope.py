"""What `${{ ... }}` reads while a suite runs."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from testing.document.references import REFERENCE, Scope, Unresolved, fill, has_references

OF_A_CASE = ("matrix.", "data.", "iteration")
SHOWN = 20


@dataclass
class Values:
    """Everything there is to read at a place of a run."""

    run: Mapping[str, Any]
    secrets: Mapping[tuple[str, ...], str]
    vars: Mapping[str, Any] = field(default_factory=dict)
    matrix: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    iteration: int = 0
    captures: dict[str, Any] = field(default_factory=dict)

    def scope(self) -> Scope:
        return {
            "vars": _below("vars", lambda: self.vars),
            "captures": _below("captures", lambda: self.captures),
            "run": _below("run", lambda: self.run),
            "matrix": _below("matrix", lambda: self.matrix),
            "data": _below("data", lambda: self.data),
            "iteration": lambda _: self.iteration,
            "secret": self._secret,
            "uuid": lambda _: str(uuid.uuid4()),
            "now": lambda _: datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }

    def _secret(self, path: tuple[str, ...]) -> str:
        if path not in self.secrets:
            raise Unresolved(f"there is no secret '{'.'.join(path)}', or it is not yours to use")
        return self.secrets[path]


def _below(root: str, there: Callable[[], Mapping[str, Any]]) -> Callable[[tuple[str, ...]], Any]:
    def read(path: tuple[str, ...]) -> Any:
        found: Any = there()
        for depth, name in enumerate(path):
            if isinstance(found, Mapping) and name in found:
                found = found[name]
            elif isinstance(found, list) and name.isdigit() and int(name) < len(found):
                found = found[int(name)]
            else:
                at = ".".join([root, *path[:depth]])
                names = ", ".join(list(found)[:SHOWN]) if isinstance(found, Mapping) else "nothing below it"
                raise Unresolved(f"{at} has no '{name}'; there is {names or 'none'}")
        return found

    return read


def fill_vars(given: Mapping[str, Any], values: Values) -> dict[str, Any]:
    """Return the variables with their references read once: all that read them see the same."""
    scope = values.scope()
    return {name: fill(value, scope) for name, value in given.items()}


def is_of_a_case(value: Any) -> bool:
    """Say whether a variable differs between the cases of a run."""
    return has_references(value) and any(inner.strip().startswith(OF_A_CASE) for inner in REFERENCE.findall(str(value)))


def secrets_named(text: str) -> set[tuple[str, ...]]:
    """Return the secrets that a document names, as (credential, field)."""
    named = {tuple(inner.strip().split(".")[1:]) for inner in REFERENCE.findall(text) if "secret." in inner}
    return {path for path in named if len(path) == 2}
