"""Finds the bodies in a stream of bytes: one decoder per framing.

Decoding takes time linear in the input however that is cut up, and holds no more than
one unfinished frame of at most `cap` bytes beside the piece that came last.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable

LENGTH_BYTES = 4
# No limit here ever allows this much, so it is no length but something else: "GET ", the first bytes of TLS.
ABSURD_LENGTH = 256 * 1024 * 1024
START, END = b"\x0b", b"\x1c\x0d"  # HL7 "Minimal Lower Layer Protocol", release 1
BETWEEN = frozenset(b"\r\n")  # what some put between blocks of MLLP


class FrameError(ValueError):
    """What came is not in this framing, or too big; nothing after it can be read.

    `code` is `too_big`, `bad_length` or `bad_frame`; `frames` are the bodies that were
    complete before it, in the same piece of bytes.
    """

    def __init__(self, code: str, detail: str, frames: Iterable[bytes] = ()) -> None:
        super().__init__(detail)
        self.code, self.detail, self.frames = code, detail, list(frames)


class Decoder(ABC):
    """Finds the bodies in the bytes of one connection; of no use any more once it has raised."""

    __slots__ = ("_buffer", "_cap", "_fault")
    HEAD = 0  # how many bytes of a frame come before its body

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._buffer = bytearray()
        self._fault: FrameError | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """Return the bodies that these bytes complete, in order; raises FrameError."""
        if self._fault is not None:
            raise FrameError(self._fault.code, self._fault.detail)
        self._buffer += data
        frames: list[bytes] = []
        try:
            taken = self._take(frames)
        except FrameError as exc:
            exc.frames = frames
            self._fault = exc
            self._buffer = bytearray()
            raise
        if taken:
            del self._buffer[:taken]
        return frames

    @property
    def is_inside(self) -> bool:
        """Say whether a frame has begun and is not complete."""
        return bool(self._buffer)

    @property
    def size_inside(self) -> int:
        """Return how many bytes there are of the body of an unfinished frame; where it ends may be among them."""
        return len(self._buffer) - self.HEAD

    def begun(self, limit: int) -> bytes:
        """Return the first bytes of the body of an unfinished frame."""
        return bytes(self._buffer[self.HEAD : self.HEAD + limit])

    @abstractmethod
    def _take(self, frames: list[bytes]) -> int:
        """Append the bodies that are complete, and return how many bytes they took."""

    def _too_big(self, size: str) -> FrameError:
        return FrameError("too_big", f"a frame of {size} bytes is over the {self._cap} that are taken")


class DelimiterDecoder(Decoder):
    """Bodies that end with `end`."""

    __slots__ = ("_end", "_scanned")

    def __init__(self, cap: int, end: bytes) -> None:
        super().__init__(cap)
        self._end = end
        self._scanned = 0  # no delimiter begins before this place in the buffer

    def _take(self, frames: list[bytes]) -> int:
        buffer, end, width, cap = self._buffer, self._end, len(self._end), self._cap
        start, scanned = 0, self._scanned
        while (at := buffer.find(end, scanned, start + cap + width)) >= 0:
            frames.append(bytes(buffer[start:at]))
            start = scanned = at + width
        left = len(buffer) - start
        if left >= cap + width:
            raise self._too_big(f"{cap + 1} or more")
        self._scanned = max(left - width + 1, 0)
        return start


class LengthDecoder(Decoder):
    """Bodies after their length."""

    __slots__ = ()
    HEAD = LENGTH_BYTES

    def _take(self, frames: list[bytes]) -> int:
        buffer, start, there = self._buffer, 0, len(self._buffer)
        while there - start >= LENGTH_BYTES:
            body = start + LENGTH_BYTES
            size = int.from_bytes(buffer[start:body], "big")
            if size > ABSURD_LENGTH:
                raise FrameError("bad_length", f"{bytes(buffer[start:body])!r} is no length of a frame")
            if size > self._cap:
                raise self._too_big(str(size))
            if there - body < size:
                break
            frames.append(bytes(buffer[body : body + size]))
            start = body + size
        return start


class FixedDecoder(Decoder):
    """Bodies of one size."""

    __slots__ = ("_size",)

    def __init__(self, cap: int, size: int) -> None:
        super().__init__(cap)
        self._size = size

    def _take(self, frames: list[bytes]) -> int:
        buffer, size = self._buffer, self._size
        if size > self._cap and buffer:
            raise self._too_big(str(size))
        whole = len(buffer) - len(buffer) % size
        frames += [bytes(buffer[start : start + size]) for start in range(0, whole, size)]
        return whole


class RawDecoder(Decoder):
    """Whatever comes, as it comes, in pieces of at most the cap."""

    __slots__ = ()

    def _take(self, frames: list[bytes]) -> int:
        buffer = self._buffer
        frames += [bytes(buffer[start : start + self._cap]) for start in range(0, len(buffer), self._cap)]
        return len(buffer)


class MllpDecoder(Decoder):
    """HL7 blocks. Line ends between them are skipped; a block that begins inside of another has cut that off."""

    __slots__ = ("_scanned",)
    HEAD = len(START)

    def __init__(self, cap: int) -> None:
        super().__init__(cap)
        self._scanned = 0  # no end of a block begins before this place in the buffer

    def _take(self, frames: list[bytes]) -> int:
        buffer, there, start, scanned = self._buffer, len(self._buffer), 0, self._scanned
        while True:
            while start < there and buffer[start] in BETWEEN:
                start += 1
            if start == there:
                self._scanned = 0
                return start
            if buffer[start] != START[0]:
                raise FrameError("bad_frame", f"{bytes(buffer[start : start + 8])!r} does not begin a block of MLLP")
            body = start + 1
            at = buffer.find(END, max(scanned, body), body + self._cap + len(END))
            if at < 0:
                break
            frames.append(self._body(bytes(buffer[body:at])))
            start = scanned = at + len(END)
        if there - body >= self._cap + len(END):
            raise self._too_big(f"{self._cap + 1} or more")
        self._scanned = max(there - 1, body) - start
        return start

    @staticmethod
    def _body(body: bytes) -> bytes:
        if START in body:
            raise FrameError("bad_frame", "a block of MLLP begins inside of another")
        return body
