"""Business keys that the sending system declared, taken out of a message: its headers, or places in its payload."""

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from endpoints.edge.json_path import Allowance, JSONPathError, compile_path, first
from messaging.intake.envelope import Draft

Keys = Iterable[tuple[str, str]]  # (name, from) as a system declares them


class Document:
    """A payload that is asked for values by their paths; read again at most once, whatever is asked."""

    def __init__(self, value: Any, text: bytes) -> None:
        """`value` is what `text` says, maybe with exact numbers; None is no document."""
        self._value, self._text = value, text
        self._plain: Any = None

    def find(self, path: str) -> str | None:
        """Return the first that stands at `path` as text; None when there is none, or nothing that could be a key."""
        if self._value is None:
            return None
        compiled = compile_path(path)
        try:
            match = first(compiled, self._numbers() if compiled.has_filter else self._value, Allowance())
        except JSONPathError:
            return None
        found = match.obj if match else None
        return str(found) if isinstance(found, (str, int)) and not isinstance(found, bool) else None

    def _numbers(self) -> Any:
        """Return the value with numbers that a filter can compare."""
        if self._plain is None:
            self._plain = orjson.loads(self._text)
        return self._plain


def effort(text: bytes, paths: Sequence[str]) -> int:
    """Return how many bytes must be looked through for what stands at `paths`; those that lead straight cost none."""
    return len(text) * sum(not compile_path(path).is_single for path in paths)


def effort_of(draft: Draft, keys: Keys) -> int:
    """Return what it takes to find the declared keys of a message."""
    if draft.value is None:
        return 0
    places = [place.partition(".") for name, place in keys if name not in draft.search_keys]
    return effort(draft.payload, [path for kind, _, path in places if kind == "payload"])


def take_keys(draft: Draft, keys: Keys) -> None:
    """Index the declared keys of a message that its sender did not give; one without them is no error."""
    document = Document(draft.value, draft.payload)
    found: dict[str, str] = {}
    for name, place in keys:
        kind, _, rest = place.partition(".")
        if name in draft.search_keys:
            continue
        text = _header(draft, rest) if kind == "headers" else document.find(rest)
        if text is not None and 1 <= len(text) <= 200:
            found[name] = text
    if found:
        draft.search_keys = {**draft.search_keys, **found}


def _header(draft: Draft, wanted: str) -> str | None:
    return next((text for name, text in draft.headers.items() if name.lower() == wanted.lower()), None)
