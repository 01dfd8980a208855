"""The complete report: everything that was kept of a run; and how JSON is written whose list is read piece by piece."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

HERE = "-- the list stands here --"
INDENT = 2


def json_report(run: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield the run as indented JSON."""
    return in_pieces({**run, "cases": HERE}, "cases", run["cases"], depth=1)


def in_pieces(document: Mapping[str, Any], key: str, items: Iterable[Any], *, depth: int) -> Iterator[bytes]:
    """Yield a document as indented JSON, with a list of `items` for `HERE`, which is so deep in it under `key`."""
    written = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    name = orjson.dumps(key) + b": "  # no text of a run holds it: there its quotes are escaped
    head, _, tail = written.partition(name + orjson.dumps(HERE))
    yield head + name
    pad, between = b" " * INDENT * (depth + 1), b"[\n"
    for item in items:
        text = orjson.dumps(item, option=orjson.OPT_INDENT_2).replace(b"\n", b"\n" + pad)
        yield between + pad + text
        between = b",\n"
    yield (b"[]" if between == b"[\n" else b"\n" + b" " * INDENT * depth + b"]") + tail
