"""Where one message ends and the next begins on a stream of bytes: pure codecs, one row and one small class each.

A framing puts a body into a frame; its decoder (frames.py) finds the bodies again in
whatever pieces the bytes come. No I/O.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from endpoints.transports.frames import (
    ABSURD_LENGTH,
    END,
    LENGTH_BYTES,
    START,
    Decoder,
    DelimiterDecoder,
    FixedDecoder,
    FrameError,
    LengthDecoder,
    MllpDecoder,
    RawDecoder,
)

__all__ = ["FRAMINGS", "Decoder", "FrameError", "Framing", "Unframable", "framing_faults", "make_framing"]

MAX_SIZE = 25 * 1024 * 1024
MAX_DELIMITER = 16
HEX = "hex:"


class Unframable(ValueError):
    """This body cannot be carried in this framing."""


class Framing(ABC):
    """One way to put bodies on a stream."""

    FIELDS: tuple[str, ...] = ()  # which fields of `config` it needs

    @classmethod
    def make(cls, config: Mapping[str, Any]) -> "Framing":
        """Return the framing that `config` describes; raises ValueError."""
        return cls()

    @abstractmethod
    def encode(self, body: bytes) -> bytes:
        """Return `body` as a frame; raises Unframable."""

    @abstractmethod
    def decoder(self, cap: int) -> Decoder:
        """Return a decoder for one connection that takes bodies of at most `cap` bytes."""


class Delimited(Framing):
    """Every body is followed by the delimiter, which stands in none."""

    FIELDS: tuple[str, ...] = ("delimiter",)

    def __init__(self, end: bytes) -> None:
        self._end = end

    @classmethod
    def make(cls, config: Mapping[str, Any]) -> Framing:
        return cls(_delimiter(config.get("delimiter")))

    def encode(self, body: bytes) -> bytes:
        frame = body + self._end
        if frame.find(self._end) != len(body):  # not `in`: a body may end with the beginning of the delimiter
            raise Unframable(f"the body holds the delimiter {self._end!r} that ends a frame")
        return frame

    def decoder(self, cap: int) -> Decoder:
        return DelimiterDecoder(cap, self._end)


class Line(Delimited):
    """Every body is one line, ended by LF; a CR before it belongs to the body."""

    FIELDS: tuple[str, ...] = ()

    @classmethod
    def make(cls, config: Mapping[str, Any]) -> Framing:
        return cls(b"\n")


class Length(Framing):
    """Every body follows its length in four bytes, the highest first."""

    def encode(self, body: bytes) -> bytes:
        if len(body) > ABSURD_LENGTH:
            raise Unframable(f"a body of {len(body)} bytes is too long for a frame")
        return len(body).to_bytes(LENGTH_BYTES, "big") + body

    def decoder(self, cap: int) -> Decoder:
        return LengthDecoder(cap)


class Fixed(Framing):
    """Every body has the same size; nothing stands between."""

    FIELDS = ("size",)

    def __init__(self, size: int) -> None:
        self._size = size

    @classmethod
    def make(cls, config: Mapping[str, Any]) -> Framing:
        size = config.get("size")
        if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= MAX_SIZE:
            raise ValueError(f"must be a whole number from 1 to {MAX_SIZE}")
        return cls(size)

    def encode(self, body: bytes) -> bytes:
        if len(body) != self._size:
            raise Unframable(f"the body has {len(body)} bytes, and a frame has exactly {self._size}")
        return body

    def decoder(self, cap: int) -> Decoder:
        return FixedDecoder(cap, self._size)


class Raw(Framing):
    """No frames at all: bytes after bytes, and only what they say themselves tells where one body ends."""

    def encode(self, body: bytes) -> bytes:
        return body

    def decoder(self, cap: int) -> Decoder:
        return RawDecoder(cap)


class Mllp(Framing):
    """HL7's block: 0x0B, the body, 0x1C 0x0D. The body holds neither of the two that mark a block."""

    def encode(self, body: bytes) -> bytes:
        if START in body or END[:1] in body:
            raise Unframable("the body holds a byte (0x0B or 0x1C) that marks a block of MLLP")
        return START + body + END

    def decoder(self, cap: int) -> Decoder:
        return MllpDecoder(cap)


FRAMINGS: dict[str, type[Framing]] = {
    "line": Line,
    "length": Length,
    "fixed": Fixed,
    "delimiter": Delimited,
    "raw": Raw,
    "mllp": Mllp,
}


def make_framing(name: str, config: Mapping[str, Any] | None = None) -> Framing:
    """Return the framing called `name` as `config` (`size`, `delimiter`) says; raises ValueError."""
    return FRAMINGS[name].make(config or {})


def framing_faults(name: str, config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (field, fault) for what keeps `config` from describing this framing."""
    fields = FRAMINGS[name].FIELDS
    faults = [
        (field, f"only the framing '{other}' has one")
        for other, field in (("fixed", "size"), ("delimiter", "delimiter"))
        if field in config and field not in fields
    ]
    if not faults and fields:
        try:
            make_framing(name, config)
        except ValueError as exc:
            return [(fields[0], str(exc))]
    return faults


def _delimiter(given: Any) -> bytes:
    """Return the bytes of a delimiter: a text, or `hex:` and bytes as hexadecimal digits; raises ValueError."""
    if not isinstance(given, str) or not given:
        raise ValueError("must be a text, or 'hex:' and hexadecimal digits")
    if given.startswith(HEX):
        try:
            end = bytes.fromhex(given.removeprefix(HEX))
        except ValueError as exc:
            raise ValueError("must have pairs of hexadecimal digits after 'hex:'") from exc
    else:
        end = given.encode()
    if not 1 <= len(end) <= MAX_DELIMITER:
        raise ValueError(f"must have 1 to {MAX_DELIMITER} bytes")
    return end
