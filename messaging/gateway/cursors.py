"""Cursors of event streams: a position, and a check that the message there is the one the reader saw.

A cursor is text that means something only here. It holds across processes and restarts,
since positions do; the check finds one that another database gave, or the same database
before it was set back to an older copy.
"""

import base64
import binascii
import hashlib
import struct
from dataclasses import dataclass

from endpoints.errors import ControlPlaneError, Malformed

CHECK_BYTES = 5
_FORM = struct.Struct(f">Q{CHECK_BYTES}s")
NOTHING = bytes(CHECK_BYTES)  # the check of a place without a message
MOST_CHARS = 32
HIGHEST = 2**63 - 1  # what a position can be


class CursorExpired(ControlPlaneError):
    """What follows the cursor may have been removed by retention; `oldest` is the first that misses nothing."""

    code, status, title = "cursor_expired", 410, "Cursor expired"

    def __init__(self, oldest: str) -> None:
        super().__init__("messages after this cursor were removed by retention; go on from `oldest`, or from now")
        self.oldest = oldest


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the order of commit: behind the message at `position`."""

    position: int
    check: bytes = NOTHING

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(_FORM.pack(self.position, self.check)).rstrip(b"=").decode()


def cursor_of(position: int, source_id: int, message_id: str) -> Cursor:
    """Return the cursor behind a message."""
    named = hashlib.blake2b(f"{position}:{source_id}:{message_id}".encode(), digest_size=CHECK_BYTES)
    return Cursor(position, named.digest())


def read_cursor(text: str) -> Cursor:
    """Return what `str(cursor)` was made of; raises Malformed `bad_cursor`."""
    try:
        if len(text) > MOST_CHARS:
            raise ValueError
        position, check = _FORM.unpack(base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True))
    except (ValueError, binascii.Error, struct.error) as exc:
        raise Malformed(
            "`after` is no cursor: give one as an event had it, or start, or null", code="bad_cursor"
        ) from exc
    if position > HIGHEST:
        raise Malformed("`after` is no cursor of ours", code="bad_cursor")
    return Cursor(position, check)
