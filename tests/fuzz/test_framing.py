"""Frames come out as they went in, however the stream is cut up, and nothing that comes can harm the decoder."""

import json
import time
import tracemalloc
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.transports.acknowledgements import Judge, judge_hl7, judge_json, judge_reply
from endpoints.transports.base import TransportError
from endpoints.transports.framing import FRAMINGS, FrameError, Framing, Unframable, framing_faults, make_framing
from tests.contract.peers import outgoing
from tests.fuzz.examples import fuzzed

CONFIGS: dict[str, list[dict[str, Any]]] = {
    "line": [{}],
    "length": [{}],
    "fixed": [{"size": 1}, {"size": 5}],
    "delimiter": [{"delimiter": "\r\n"}, {"delimiter": "aba"}, {"delimiter": "hex:ff00"}],
    "raw": [{}],
    "mllp": [{}],
}
# Bytes that mean something to some framing come often.
BYTES = st.lists(
    st.one_of(
        st.sampled_from([b"\n", b"\r\n", b"\x0b", b"\x1c\x0d", b"\x1c", b"\xff\x00", b"aba", b"ab", b"\0\0\0\3", b""]),
        st.binary(max_size=8),
    ),
    max_size=12,
).map(b"".join)


@st.composite
def framings(draw: st.DrawFn, *names: str) -> Framing:
    name = draw(st.sampled_from(names or sorted(FRAMINGS)))
    return make_framing(name, draw(st.sampled_from(CONFIGS[name])))


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return [stream[start:end] for start, end in pairwise(places)]


def decoded(framing: Framing, parts: list[bytes], cap: int) -> tuple[list[bytes], str, bool]:
    """Return the bodies, the code of the fault if any, and whether the stream ends inside of a frame."""
    decoder = framing.decoder(cap)
    frames: list[bytes] = []
    try:
        for part in parts:
            frames += decoder.feed(part)
    except FrameError as exc:
        with pytest.raises(FrameError):
            decoder.feed(b"x")
        return frames + exc.frames, exc.code, False
    return frames, "", decoder.is_inside


CUTS = st.lists(st.integers(0, 10_000), max_size=8)


@fuzzed
@given(framings(*sorted(set(FRAMINGS) - {"raw"})), BYTES, CUTS, st.integers(1, 40))
def test_any_stream_gives_the_same_however_it_is_cut(
    framing: Framing, stream: bytes, cuts: list[int], cap: int
) -> None:
    """What comes out depends on the bytes alone; no body is over the cap."""
    whole = decoded(framing, [stream], cap)
    assert decoded(framing, pieces(stream, cuts), cap) == whole
    assert decoded(framing, [stream[at : at + 1] for at in range(len(stream))], cap) == whole
    assert all(len(body) <= cap for body in whole[0])


@fuzzed
@given(framings(*sorted(set(FRAMINGS) - {"raw"})), st.lists(BYTES, max_size=6), CUTS)
def test_what_can_be_encoded_comes_out_as_it_went_in(framing: Framing, bodies: list[bytes], cuts: list[int]) -> None:
    carried, stream = [], b""
    for body in bodies:
        try:
            stream += framing.encode(body)
        except Unframable:
            continue
        carried.append(body)

    assert decoded(framing, pieces(stream, cuts), cap=1000) == (carried, "", False)


@fuzzed
@given(BYTES, CUTS, st.integers(1, 40))
def test_raw_bytes_stay_what_they_are(stream: bytes, cuts: list[int], cap: int) -> None:
    framing = make_framing("raw")
    frames, fault, is_inside = decoded(framing, pieces(framing.encode(stream), cuts), cap)
    assert (b"".join(frames), fault, is_inside) == (stream, "", False)
    assert all(0 < len(piece) <= cap for piece in frames)


SAID = st.one_of(
    BYTES,
    st.dictionaries(
        st.sampled_from(["type", "message_id", "delivery_id", "code", "detail", "retry_after_s"]),
        st.one_of(st.sampled_from(["nack", "error", "ack", "m-1"]), st.none(), st.floats(), st.lists(st.integers())),
    ).map(lambda said: json.dumps(said).encode()),
    st.lists(st.sampled_from([b"MSH|^~\\&|a|b", b"MSA|AE|1|no", b"MSA|AA", b"MSA", b"\r", b"\n", b"\xff"])).map(
        b"".join
    ),
)


@fuzzed
@given(SAID, BYTES)
def test_whatever_a_peer_says_is_an_acknowledgement_or_an_error_of_ours(said: bytes, sent: bytes) -> None:
    """No words of a peer are a fault of the judge."""
    faults = [fault for judge in JUDGES if (fault := fault_of(judge, said, sent)) is not None]
    assert all(fault.detail for fault in faults)
    assert all(0 <= (fault.retry_after_s or 0) <= 3600 for fault in faults)


JUDGES = (judge_json, judge_reply, judge_hl7)


def fault_of(judge: Judge, said: bytes, sent: bytes) -> TransportError | None:
    try:
        judge(said, sent, outgoing(message_id="m-1"))
    except TransportError as exc:
        return exc
    return None


@pytest.mark.parametrize(
    ("name", "config", "stream", "frames", "code"),
    [
        ("line", {}, b'{"a":1}\n\nb\r\nc', [b'{"a":1}', b"", b"b\r"], ""),
        ("line", {}, b"ok\n" + b"x" * 101, [b"ok"], "too_big"),
        ("line", {}, b"x" * 100 + b"\n", [b"x" * 100], ""),
        ("length", {}, b"\0\0\0\2hi\0\0\0\0", [b"hi", b""], ""),
        ("length", {}, b"\0\0\0\2hi\0\0\0\x65", [b"hi"], "too_big"),
        ("length", {}, b"GET / HTTP/1.1\r\n", [], "bad_length"),
        ("length", {}, b"\x16\x03\x01\x02\x00\x01", [], "bad_length"),
        ("fixed", {"size": 3}, b"abcdefg", [b"abc", b"def"], ""),
        ("fixed", {"size": 101}, b"a", [], "too_big"),
        ("delimiter", {"delimiter": "hex:1e"}, b"a\x1e\x1eb", [b"a", b""], ""),
        ("mllp", {}, b"\x0bMSH|1\rPID\x1c\r\x0bMSH|2\x1c\r\r\n", [b"MSH|1\rPID", b"MSH|2"], ""),
        ("mllp", {}, b"\x0bone\x1c\rGET / HTTP/1.1", [b"one"], "bad_frame"),
        ("mllp", {}, b"\x0bhalf\x0bwhole\x1c\r", [], "bad_frame"),
        ("mllp", {}, b"\x0b" + b"x" * 102 + b"\x1c", [], "too_big"),
    ],
)
def test_a_stream_is_read_as_its_framing_says(
    name: str, config: dict[str, Any], stream: bytes, frames: list[bytes], code: str
) -> None:
    found = decoded(make_framing(name, config), [stream], cap=100)
    assert found[:2] == (frames, code)


@pytest.mark.parametrize(
    ("name", "config", "body"),
    [
        ("line", {}, b"two\nlines"),
        ("fixed", {"size": 3}, b"four"),
        ("delimiter", {"delimiter": "aba"}, b"xab"),  # "xab" + "aba" would end after "x"
        ("delimiter", {"delimiter": "\r\n"}, b"a\r\nb"),
        ("mllp", {}, b"a\x1cb"),
        ("mllp", {}, b"a\x0bb"),
    ],
)
def test_a_body_that_would_not_come_out_again_is_refused(name: str, config: dict[str, Any], body: bytes) -> None:
    with pytest.raises(Unframable):
        make_framing(name, config).encode(body)


@pytest.mark.parametrize(
    ("name", "config", "field"),
    [
        ("fixed", {}, "size"),
        ("fixed", {"size": 0}, "size"),
        ("line", {"size": 3}, "size"),
        ("delimiter", {}, "delimiter"),
        ("delimiter", {"delimiter": "hex:f"}, "delimiter"),
        ("delimiter", {"delimiter": "x" * 17}, "delimiter"),
        ("mllp", {"delimiter": "x"}, "delimiter"),
    ],
)
def test_a_config_that_describes_no_framing_is_named(name: str, config: dict[str, Any], field: str) -> None:
    assert [fault[0] for fault in framing_faults(name, config)] == [field]


@pytest.mark.parametrize("name", ["line", "length", "fixed", "delimiter", "mllp"])
@pytest.mark.parametrize("piece", [1, 1460])
def test_decoding_takes_linear_time_and_bounded_memory(name: str, piece: int) -> None:
    """Four times the bytes take about four times as long, in one frame or in many, and no more memory than one."""
    config = CONFIGS[name][0] if name != "fixed" else {"size": 50_000}
    framing = make_framing(name, config)

    def took_s(bodies: list[bytes]) -> float:
        stream = b"".join(map(framing.encode, bodies))
        parts = [stream[at : at + piece] for at in range(0, len(stream), piece)]
        best = float("inf")
        for _ in range(3):
            decoder, count = framing.decoder(10_000_000), 0
            started = time.process_time()
            for part in parts:
                count += len(decoder.feed(part))
            best = min(best, time.process_time() - started)
            assert count == len(bodies)
        return best

    small, large = (1, 4) if name == "fixed" else (50_000, 200_000)
    make = (lambda size: [b"x" * 50_000] * size) if name == "fixed" else (lambda size: [b"x" * size])
    assert took_s(make(large)) < 12 * took_s(make(small)) + 0.005


@pytest.mark.parametrize("name", ["line", "length", "delimiter", "mllp"])
def test_a_frame_without_end_takes_no_more_memory_than_the_cap(name: str) -> None:
    framing = make_framing(name, CONFIGS[name][0])
    decoder = framing.decoder(100_000)
    start = {"mllp": b"\x0b", "length": (100_001).to_bytes(4, "big")}.get(name, b"")
    parts = [start, *[b"x" * 10_000] * 100]
    tracemalloc.start()
    try:
        with pytest.raises(FrameError):
            sum(len(decoder.feed(part)) for part in parts)
        assert tracemalloc.get_traced_memory()[1] < 400_000
    finally:
        tracemalloc.stop()
