"""A document as it stands in the text: values that know their line and column."""

from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from endpoints.edge.strict_json import MAX_INTEGER, MIN_INTEGER
from testing.errors import BadDocument, Fault

MAX_DEPTH = 64
MOST_FAULTS = 200
Mark = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Node:
    """A scalar, a list of nodes, or a dict of them; `keys` are where the keys of a dict stand."""

    value: Any
    mark: Mark
    keys: dict[str, Mark] = field(default_factory=dict)


def plain(node: Node) -> Any:
    """Return the value without its places."""
    if isinstance(node.value, dict):
        return {key: plain(child) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return [plain(child) for child in node.value]
    return node.value


def placed(value: Any, mark: Mark) -> Node:
    """Return a plain value as a node whose every part stands at `mark`."""
    if isinstance(value, dict):
        return Node({str(key): placed(child, mark) for key, child in value.items()}, mark, dict.fromkeys(value, mark))
    if isinstance(value, list):
        return Node([placed(child, mark) for child in value], mark)
    return Node(value, mark)


class Faults:
    """What is wrong with a document, collected so that a person sees all of it at once."""

    def __init__(self) -> None:
        self.found: list[Fault] = []

    def add(self, at: Node | Mark, place: str, detail: str) -> None:
        line, column = at.mark if isinstance(at, Node) else at
        if len(self.found) < MOST_FAULTS:
            self.found.append(Fault(line, column, place, detail))

    def stop(self) -> None:
        """Raise BadDocument when anything was wrong."""
        if self.found:
            raise BadDocument(self.found)


def refuse(mark: Mark, detail: str) -> BadDocument:
    """Return the error for what cannot be read any further."""
    return BadDocument([Fault(*mark, "", detail)])


def check_scalar(value: Any, mark: Mark) -> Any:
    """Return a scalar that every database and reader takes alike; raises BadDocument."""
    if isinstance(value, str):
        if "\x00" in value:
            raise refuse(mark, "a text holds the character NUL, which cannot be stored")
        if any("\ud800" <= char <= "\udfff" for char in value):
            raise refuse(mark, "a text holds half of a surrogate pair")
    elif isinstance(value, int) and not MIN_INTEGER <= value <= MAX_INTEGER:
        raise refuse(mark, "an integer does not fit in 64 bits")
    elif isinstance(value, float) and not abs(value) < float("inf"):
        raise refuse(mark, "a number must be finite")
    return value


def unknown(what: str, given: str, known: list[str]) -> str:
    """Return what to say of a word that is not one of `known`: the nearest, and all there are."""
    nearest = get_close_matches(given, known, 1)
    meant = f"; did you mean '{nearest[0]}'?" if nearest else ""
    return f"unknown {what} '{given[:60]}'{meant}{'' if meant else ';'} known are {', '.join(known) or 'none'}"
