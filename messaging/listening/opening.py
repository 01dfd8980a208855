"""The first frame of a connection, read before it is known who speaks: small, and told apart from other protocols."""

import re
from collections.abc import Callable

from endpoints.transports.framing import FrameError
from messaging.listening.limits import BEFORE_AUTH_BYTES

_HTTP = re.compile(rb"(?:GET|POST|PUT|HEAD|DELETE|OPTIONS|PATCH|CONNECT|TRACE|PRI) ")
_TLS = b"\x16\x03"
_TOLD = b"This port takes messages over TCP; HTTP is served on another port.\n"
HTTP_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s"
    % (len(_TOLD), _TOLD)
)
# A fatal alert, protocol_version (RFC 8446, section 6.2): a TLS client prints it.
TLS_ANSWER = b"\x15\x03\x03\x00\x02\x02\x46"


class OtherProtocol(Exception):
    """Somebody took this port for another one's; `answer` tells them in their own protocol."""

    def __init__(self, name: str, answer: bytes) -> None:
        super().__init__(f"this is {name}, which this port does not speak")
        self.name, self.answer = name, answer


def other_protocol(data: bytes | bytearray) -> None:
    """Raise OtherProtocol if these first bytes are HTTP or TLS."""
    if data.startswith(_TLS):
        raise OtherProtocol("TLS", TLS_ANSWER)
    if _HTTP.match(data):
        raise OtherProtocol("HTTP", HTTP_ANSWER)


def _end_of_line(data: bytearray) -> tuple[int, int] | None:
    end = data.find(b"\n")
    return None if end < 0 else (0, end + 1)


def _end_of_length(data: bytearray) -> tuple[int, int] | None:
    if len(data) < 4:
        return None
    size = int.from_bytes(data[:4], "big")
    if size > BEFORE_AUTH_BYTES:
        raise FrameError("too_big", f"the first frame may have {BEFORE_AUTH_BYTES} bytes, not {size}")
    return None if len(data) < 4 + size else (4, 4 + size)


ENDS: dict[str, Callable[[bytearray], tuple[int, int] | None]] = {"line": _end_of_line, "length": _end_of_length}


class Opening:
    """Collects the first frame alone; what follows in the same bytes is given back untouched."""

    def __init__(self, framing: str) -> None:
        self._end_of = ENDS[framing]
        self._data = bytearray()

    def feed(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Return the first frame's body and what came behind it, None while it is incomplete.

        Raises FrameError for one that is too big, OtherProtocol for HTTP and TLS.
        """
        self._data += data
        other_protocol(self._data)
        found = self._end_of(self._data)
        if (len(self._data) if found is None else found[1]) > BEFORE_AUTH_BYTES + 4:
            raise FrameError("too_big", f"the first frame may have {BEFORE_AUTH_BYTES} bytes")
        if found is None:
            return None
        begin, end = found
        return bytes(self._data[begin:end]), bytes(self._data[end:])
