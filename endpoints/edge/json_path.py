"""JSONPath (RFC 9535) as far as it ends in time, whatever the path and whatever the document.

Paths are asked of every message or answer, in a loop that serves everybody. So the
functions `match` and `search` are left out, whose regular expressions may take for
ever, one descendant segment (`..`) is allowed, since each more would multiply the
work by the depth of the document, and so is a bounded number of ways to walk it:
each bracket that names two multiplies them by two. And `first` counts what it looks
at, and gives up where that is too much.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from math import prod
from typing import Any

from jsonpath import JSONPath, JSONPathEnvironment, JSONPathError, JSONPathMatch
from jsonpath.filter import FilterQuery
from jsonpath.segments import JSONPathRecursiveDescentSegment

__all__ = ["Allowance", "JSONPathError", "compile_path", "first", "path_fault"]

MOST_WAYS = 100
MOST_VISITS = 10_000  # values looked at on the way to the first that is meant: some ten milliseconds
_PATHS = JSONPathEnvironment(strict=True)
for _name in ("match", "search"):
    del _PATHS.function_extensions[_name]


class Allowance(dict[str, Any]):
    """How many values may still be looked at; the library hands it on to all that takes part in a walk."""

    __slots__ = ("left", "weight")

    def __init__(self, left: int = MOST_VISITS) -> None:
        super().__init__(left=left)  # not empty: the library puts another in the place of an empty one
        self.left, self.weight = left, 1

    def spend(self) -> None:
        """Count one value; raises JSONPathError when that is too many."""
        self.left -= self.weight
        if self.left < 0:
            raise JSONPathError("it leads through too many values of this document")


class Path(JSONPath):
    """A compiled path that keeps to an allowance, where it is given one."""

    __slots__ = ("has_filter", "is_single", "weight")

    def __init__(self, path: JSONPath) -> None:
        filters: list[Any] = [found for segment in path.segments for found in segment.selectors if _is_filter(found)]
        queries = [query for found in filters for query in _queries(found.expression)]
        for query in queries:
            query.path = Path(query.path)
        super().__init__(env=path.env, segments=map(_counted, path.segments), pseudo_root=path.pseudo_root)
        self.is_single = path.singular_query()
        self.has_filter = bool(filters)
        self.weight = 1 + sum(_size(found.expression) for found in filters)

    def finditer(self, data: Any, *, filter_context: Any = None) -> Iterable[JSONPathMatch]:
        if not isinstance(filter_context, Allowance):
            return super().finditer(data, filter_context=filter_context)
        nodes: Iterable[JSONPathMatch] = [_Node(filter_context, data, data)]
        for segment in self.segments:
            nodes = segment.resolve(nodes)
        return nodes


class _Node(JSONPathMatch):
    """A value on the way, counted; where it stands is not kept."""

    __slots__ = ()

    def __init__(self, allowance: Allowance, value: Any, root: Any) -> None:
        super().__init__(filter_context=allowance, obj=value, parent=None, path="", parts=(), root=root)

    def new_child(self, obj: Any, key: int | str) -> "_Node":
        return _Node(self.filter_context(), obj, self.root)

    def add_child(self, *children: JSONPathMatch) -> None:
        """Keep none: they would all be held until the walk is over."""

    def filter_context(self) -> Any:
        """Return the allowance: asked for each child that is made, and each that a filter judges."""
        self._filter_context.spend()  # type: ignore[attr-defined]
        return self._filter_context


class _Descent(JSONPathRecursiveDescentSegment):
    """`..`, which counts what it passes, too, and stands on no stack."""

    def _visit(self, node: JSONPathMatch, depth: int = 1) -> Iterable[JSONPathMatch]:
        if not isinstance(node, _Node):
            yield from super()._visit(node, depth)
            return
        yield node
        open_ones = [_containers(node)]
        while open_ones:
            if (child := next(open_ones[-1], None)) is None:
                open_ones.pop()
            else:
                yield child
                open_ones.append(_containers(child))


def _containers(node: _Node) -> Iterator[_Node]:
    value = node.obj
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        allowance = node.filter_context()
        if isinstance(item, (dict, list)):
            yield _Node(allowance, item, node.root)


@lru_cache(maxsize=1024)
def compile_path(text: str) -> Path:
    """Return the compiled path; raises JSONPathError for what is none, or could take too long."""
    if text.count("..") > 1:
        raise JSONPathError("only one '..' is allowed")
    try:
        path = _PATHS.compile(text)
    except (ValueError, OverflowError) as exc:  # 1e400, or 1e2 for an index
        raise JSONPathError(f"it holds a number that cannot be read: {exc}") from exc
    if not isinstance(path, JSONPath) or _ways(path) > MOST_WAYS:
        raise JSONPathError(f"it leads along more than {MOST_WAYS} ways, by brackets that name several")
    return Path(path)


def first(path: Path, value: Any, allowance: Allowance) -> JSONPathMatch | None:
    """Return the first that `path` leads to, None when there is nothing; raises JSONPathError beyond `allowance`.

    Comparing with numbers works on plain ones only: a path that `has_filter` needs a value without exact numbers.
    """
    allowance.weight = path.weight
    return next(iter(path.finditer(value, filter_context=allowance)), None)


def _counted(segment: Any) -> Any:
    if not isinstance(segment, JSONPathRecursiveDescentSegment):
        return segment
    return _Descent(env=segment.env, token=segment.token, selectors=segment.selectors)


def _queries(expression: Any) -> Iterator[FilterQuery]:
    """Yield the paths that a filter asks, not those within them."""
    if isinstance(expression, FilterQuery):
        yield expression
        return
    for child in expression.children():
        yield from _queries(child)


def _size(expression: Any) -> int:
    """Return of how many parts a filter consists: each is work for each value that it judges."""
    return 1 + sum(map(_size, expression.children()))


def path_fault(text: str, place: str) -> str:
    """Return in one line what is wrong with a path after `place`, "" when it can be used."""
    try:
        compile_path(text)
    except JSONPathError as exc:
        meant = f"$.{text}"
        if not text.startswith("$") and text and not path_fault(meant, place):
            return f"write {place}{meant[:100]}"
        return f"'{text[:100]}' is not a JSONPath (RFC 9535): {exc.args[0]}"
    return ""


def _ways(path: Any) -> int:
    """Return how often a path may lead to one place, what its filters ask included."""
    segments = [segment.selectors for segment in getattr(path, "segments", ())]
    asked = (_ways_of(selector.expression) for several in segments for selector in several if _is_filter(selector))
    return prod(map(len, segments)) * prod(asked)


def _ways_of(expression: Any) -> int:
    return _ways(getattr(expression, "path", None)) * prod(map(_ways_of, expression.children()))


def _is_filter(selector: Any) -> bool:
    return hasattr(selector, "expression")
