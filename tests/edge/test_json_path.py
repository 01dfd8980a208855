"""Paths that an editor stores and every message is asked."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from endpoints.edge.json_path import Allowance, JSONPathError, compile_path, first
from endpoints.errors import Malformed
from endpoints.transports.outcomes import compile_rules


@pytest.mark.parametrize(
    "path",
    [
        "$[?match(@.a, '(a+)+b')]",
        "$[?search(@.a, '(a+)+b')]",
        "$[?@.a =~ /(a+)+b/]",
        "$..*..*",
        "$[?@..a][?@..b]",
        "$.a | $.b",
        "$" + "[*,*]" * 30,
        "$[?@" + "[0,0]" * 30 + "]",
        "$[",
        "$[?@.total == 1e400]",
        "$[1e2]",
    ],
)
def test_a_path_that_could_take_for_ever_is_refused(path: str) -> None:
    """No path of one team's may hold up the messages of the others."""
    with pytest.raises(JSONPathError):
        compile_path(path)
    with pytest.raises(Malformed):
        compile_rules([{"when": {f"body.{path}": {"exists": True}}, "is": "dead"}])


@pytest.mark.parametrize(
    ("path", "found"), [("$.order.id", 7), ("$['order']['id']", 7), ("$..id", 7), ("$.none", None)]
)
def test_an_ordinary_path_finds_its_value(path: str, found: int | None) -> None:
    match = compile_path(path).match({"order": {"id": 7}})

    assert (match.obj if match else None) == found


def test_the_widest_path_over_the_deepest_document_ends_soon() -> None:
    document: Any = list(range(20_000))
    for _ in range(60):
        document = {"a": document}
    begun = time.process_time()

    assert compile_path("$..zz").match(document) is None
    assert time.process_time() - begun < 2


def _deep() -> Any:
    document: Any = list(range(20_000))
    for _ in range(60):
        document = {"a": document}
    return document


DOCUMENTS: dict[str, Callable[[], Any]] = {
    "a list of numbers": lambda: [1] * 200_000,
    "a list of small objects": lambda: [{"a": n} for n in range(40_000)],
    "lists of lists": lambda: [[{"a": 1, "b": [1, 2]}] * 10] * 3000,
    "a deep one": _deep,
}
LONG_WAYS = ("$..zz", "$..*.zz", "$..*[0,1,2].zz", "$..[?@.a==-1]", "$.*[?$..x].zz", "$[?count(@.*) > 9999999]")


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize("path", LONG_WAYS)
def test_a_path_asked_of_a_large_document_gives_up_soon(path: str, document: str) -> None:
    """Whatever the path, and whatever the document, some ten thousand values are looked at."""
    value = DOCUMENTS[document]()
    begun = time.process_time()

    with suppress(JSONPathError):
        assert first(compile_path(path), value, Allowance()) is None
    assert time.process_time() - begun < 0.5


@pytest.mark.parametrize("path", ["$.a.b[1].x", "$..x", "$..[?@.x==2].x", "$.a.b[?@.x>1].x", "$.a.b[?@.x==$.a.two].x"])
def test_what_comes_first_is_found_as_ever(path: str) -> None:
    document = {"a": {"two": 2, "b": [{"y": 1}, {"x": 2}, {"x": 3}]}, "more": [1] * 100_000}
    found = compile_path(path).findall({"a": document["a"]})

    match = first(compile_path(path), document, Allowance())

    assert match is not None
    assert match.obj == found[0] == 2
