"""The strict JSON reader: what it refuses, what it keeps, and that it stays quick about it."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endpoints.edge import strict_json
from endpoints.errors import Malformed

REFUSED = {
    "empty": b"",
    "blank": b" \n",
    "byte order mark": b"\xef\xbb\xbf{}",
    "bad utf-8": b'"\xff"',
    "raw surrogate": b'"\xed\xa0\x80"',
    "lone high surrogate": b'"\\ud800"',
    "lone low surrogate": b'"\\udc00"',
    "lone surrogate in a key": b'{"\\ud800":1}',
    "nul": b'"\\u0000"',
    "nul deep in a key": b'[{"a":{"b\\u0000":1}}]',
    "raw control": b'"\x01"',
    "duplicate keys": b'{"a":1,"a":2}',
    "duplicate keys, spelled differently": b'{"a":1,"\\u0061":2}',
    "nan": b"[NaN]",
    "infinity": b"[-Infinity]",
    "overflowing float": b"1e999",
    "overflowing float, capital and sign": b'{"a": -1E+400}',
    "overflowing float, no exponent": b"[" + b"9" * 400 + b".0]",
    "overflowing float, padded exponent": b"[1e0000400]",
    "2^64": b"18446744073709551616",
    "below -2^63": b'{"a":[-9223372036854775809]}',
    "integer of 5000 digits": b"9" * 5000,
    "65 deep": b"[" * 65 + b"]" * 65,
    "65 deep in objects": b'{"a":' * 65 + b"1" + b"}" * 65,
    "100,000 deep": b"[" * 100_000,
    "trailing comma": b"[1,]",
    "two values": b"1 2",
    "leading zero": b"[01]",
    "truncated": b'{"a":',
    "single quotes": b"{'a':1}",
    "comment": b"{} // no",
}
KEPT: dict[str, tuple[bytes, Any]] = {
    "2^64 - 1": (b"18446744073709551615", 2**64 - 1),
    "-2^63": (b"-9223372036854775808", -(2**63)),
    "64 deep": (b"[" * 64 + b"]" * 64, None),
    "many shallow lists": (b"[" + b",".join([b"[]"] * 500) + b"]", [[]] * 500),
    "many brackets in a string": (b'"' + b"[" * 500 + b'"', "[" * 500),
    "escaped backslash before u0000": (b'"\\\\u0000"', "\\u0000"),
    "surrogate pair": (b'"\\ud83d\\ude00"', "\U0001f600"),
    "digits in a string": (b'"12345678901234567890123"', "12345678901234567890123"),
    "large but finite": (b"[1e308]", [1e308]),
    "tiny": (b"[1e-999]", [0.0]),
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.parametrize("exact", [False, True])
def test_a_text_others_would_read_differently_is_refused(body: bytes, exact: bool) -> None:
    with pytest.raises(Malformed) as caught:
        strict_json.parse(body, exact_numbers=exact)

    assert len(caught.value.detail) > 10


@pytest.mark.parametrize(("body", "value"), KEPT.values(), ids=KEPT.keys())
def test_an_odd_but_sound_text_is_kept(body: bytes, value: Any) -> None:
    found = strict_json.parse(body)
    assert value is None or found == value


def test_exact_numbers_are_written_as_they_came() -> None:
    body = b'{"a":[1e2,-0.0,1.10,123456789.123456789123456789,1E+5,7]}'
    assert strict_json.dumps(strict_json.parse(body, exact_numbers=True)) == body


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda below: st.lists(below) | st.dictionaries(st.text(), below),
)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(JSON)
def test_whatever_passes_the_quick_look_would_pass_the_walk(value: Any) -> None:
    """The quick look only saves time: it never lets through what the walk refuses."""
    body = strict_json.orjson.dumps(value) if _encodable(value) else b"1e999"
    try:
        found = strict_json.parse(body)
    except Malformed:
        return
    strict_json._check(found)


def _encodable(value: Any) -> bool:
    try:
        strict_json.orjson.dumps(value)
    except TypeError:
        return False
    return not (isinstance(value, float) and math.isinf(value))
