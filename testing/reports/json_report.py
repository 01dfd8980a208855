"""The complete report: everything that was kept of a run; and how JSON is written whose list is read piece by piece."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

HERE = "-- the list stands here --"
INDENT = 2


def json_report(run: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield the run as indented JSON."""
    return in_pieces({**run, "cases": HERE}, run["cases"], depth=1)


def in_pieces(document: Mapping[str, Any], items: Iterable[Any], *, depth: int) -> Iterator[bytes]:
    """Yield a document as indented JSON, with a list of `items` for the one `HERE` in it, which is so deep."""
    written = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    head, _, tail = written.partition(b": " + orjson.dumps(HERE))
    head += b": "
    yield head
    pad, between = b" " * INDENT * (depth + 1), b"[\n"
    for item in items:
        text = orjson.dumps(item, option=orjson.OPT_INDENT_2).replace(b"\n", b"\n" + pad)
        yield between + pad + text
        between = b",\n"
    yield (b"[]" if between == b"[\n" else b"\n" + b" " * INDENT * depth + b"]") + tail
