"""How a connection ends when we end it: close codes, and the error that carries one."""

from enum import IntEnum


class Code(IntEnum):
    """The close codes that clients see (RFC 6455, section 7.4.2: 4000-4999 are ours)."""

    BAD_FRAMES = 4400
    UNAUTHENTICATED = 4401
    FORBIDDEN = 4403
    SLOW = 4408
    AGAIN = 1012  # "service restart": what the server closes with when it ends, too
    FULL = 1013
    FAILED = 1011


class Closed(Exception):
    """The connection is to be closed, with this code and a reason of at most 123 bytes (RFC 6455, section 5.5)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason.encode()[:120].decode(errors="ignore")


class PeerGone(Exception):
    """The client closed the connection, or the line broke."""
