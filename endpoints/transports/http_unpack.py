"""Unpacks the body of an answer piece by piece, and never more of it than is wanted."""

import zlib
from collections.abc import Iterable

MOST_MEMBERS = 64  # a gzip body may hold several; each costs a copy of all that follows it


class Unpacker:
    """One body packed as gzip or deflate (RFC 9110, 8.4.1); deflate without its zlib wrapping is taken as well."""

    def __init__(self, window_bits: int) -> None:
        self._window_bits = window_bits
        self._members = 0
        self._member = zlib.decompressobj(window_bits) if window_bits else None

    @property
    def is_finished(self) -> bool:
        """Say whether the packed data ended where it says it ends."""
        return self._member is not None and self._member.eof

    def unpack(self, data: bytes, room: int) -> bytes:
        """Return at most `room` more bytes, and then no more; raises zlib.error."""
        parts: list[bytes] = []
        while data and room > 0:
            if self._member is None or self._member.eof:
                self._member = self._next(data)
            part = self._member.decompress(data, room)
            room -= len(part)
            parts.append(part)
            data = self._member.unused_data
        return b"".join(parts)

    def _next(self, data: bytes) -> "zlib._Decompress":
        self._members += 1
        if self._members > MOST_MEMBERS:
            raise zlib.error("too many members")
        wrapped = self._window_bits or (zlib.MAX_WBITS if data[0] & 0x0F == 8 else -zlib.MAX_WBITS)
        return zlib.decompressobj(wrapped)


GZIP, DEFLATE = 16 + zlib.MAX_WBITS, 0  # window bits for zlib; 0: the first byte tells
PACKINGS = {b"gzip": GZIP, b"x-gzip": GZIP, b"deflate": DEFLATE}


def unpacker(headers: Iterable[tuple[bytes, bytes]]) -> Unpacker | None:
    """Return what unpacks the body under these headers, None when it is not packed, or in a way we did not ask for."""
    named = b",".join(value for name, value in headers if len(name) == 16 and name.lower() == b"content-encoding")
    bits = PACKINGS.get(named.strip().lower()) if named else None
    return None if bits is None else Unpacker(bits)
