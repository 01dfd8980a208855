"""JSONPath (RFC 9535) as far as it ends in time, whatever the path and whatever the document.

Paths are asked of every message or answer, in a loop that serves everybody. So the
functions `match` and `search` are left out, whose regular expressions may take for
ever, one descendant segment (`..`) is allowed, since each more would multiply the
work by the depth of the document, and so is a bounded number of ways to walk it:
each bracket that names two multiplies them by two.
"""

from functools import lru_cache
from math import prod
from typing import Any

from jsonpath import CompoundJSONPath, JSONPath, JSONPathEnvironment, JSONPathError

__all__ = ["JSONPathError", "compile_path"]

MOST_WAYS = 100
_PATHS = JSONPathEnvironment(strict=True)
for _name in ("match", "search"):
    del _PATHS.function_extensions[_name]


@lru_cache(maxsize=1024)
def compile_path(text: str) -> JSONPath | CompoundJSONPath:
    """Return the compiled path; raises JSONPathError for what is none, or could take too long."""
    if text.count("..") > 1:
        raise JSONPathError("only one '..' is allowed")
    try:
        path = _PATHS.compile(text)
    except (ValueError, OverflowError) as exc:  # 1e400, or 1e2 for an index
        raise JSONPathError(f"it holds a number that cannot be read: {exc}") from exc
    if _ways(path) > MOST_WAYS:
        raise JSONPathError(f"it leads along more than {MOST_WAYS} ways, by brackets that name several")
    return path


def _ways(path: Any) -> int:
    """Return how often a path may lead to one place, what its filters ask included."""
    segments = [segment.selectors for segment in getattr(path, "segments", ())]
    asked = (_ways_of(selector.expression) for several in segments for selector in several if _is_filter(selector))
    return prod(map(len, segments)) * prod(asked)


def _ways_of(expression: Any) -> int:
    return _ways(getattr(expression, "path", None)) * prod(map(_ways_of, expression.children()))


def _is_filter(selector: Any) -> bool:
    return hasattr(selector, "expression")
