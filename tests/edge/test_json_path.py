"""Paths that an editor stores and every message is asked."""

import time
from typing import Any

import pytest

from endpoints.edge.json_path import JSONPathError, compile_path
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
