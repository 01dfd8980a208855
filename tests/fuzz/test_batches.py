"""A long array is taken apart before it is parsed: into what parsing it as a whole would give, or not at all."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from endpoints.errors import Malformed
from messaging.intake.reading import _pieces
from tests.fuzz.examples import fuzzed

TEXTS = st.one_of(st.sampled_from(['"', "\\", '\\"', "[{", "}]", "],", "\u2028", "\U0001f600"]), st.text(max_size=5))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
BATCHES = st.lists(st.dictionaries(TEXTS, VALUES, max_size=3), max_size=4)


def taken_apart(body: bytes) -> Any:
    """Return the parsed pieces, or None where the array, or one of its pieces, is refused."""
    try:
        return [json.loads(piece) for piece in _pieces(body)]
    except (Malformed, ValueError):
        return None


@fuzzed
@given(BATCHES, st.sampled_from([None, 0, 2]), st.booleans())
def test_an_array_of_objects_is_its_pieces(batch: list[Any], indent: int | None, escaped: bool) -> None:
    assert taken_apart(json.dumps(batch, indent=indent, ensure_ascii=escaped).encode()) == batch


@fuzzed
@given(BATCHES, st.data())
def test_a_spoilt_one_is_never_taken_for_another(batch: list[Any], data: st.DataObject) -> None:
    body = bytearray(json.dumps(batch).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.sampled_from(b'[]{},"\\ 1'))
    found = taken_apart(bytes(body))

    try:
        whole = json.loads(bytes(body))
    except ValueError:
        whole = None
    is_batch = isinstance(whole, list) and all(isinstance(item, dict) for item in whole)
    assert found == (whole if is_batch else None)
