"""What goes over a connection: a request's bytes on their way out, an answer on its way back."""

from collections.abc import Iterable, Mapping
from itertools import islice

KEPT_HEADERS = 64
KEPT_HEADER = 1024
BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})
DEFAULTS = {"user-agent": "integration-control-plane", "accept": "*/*", "accept-encoding": "gzip, deflate"}
_ALL_DEFAULTS = "".join(f"\r\n{name}: {value}" for name, value in DEFAULTS.items())


def head(method: str, target: str, host: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """Return the bytes of a request up to its body; the names of `headers` are in lower case.

    Whoever calls sees to it that no value holds a line break. Raises UnicodeEncodeError.
    """
    defaults = _ALL_DEFAULTS
    if "accept" in headers or "accept-encoding" in headers or "user-agent" in headers:
        defaults = "".join(f"\r\n{name}: {value}" for name, value in DEFAULTS.items() if name not in headers)
    length = f"\r\ncontent-length: {len(body or b'')}" if body or method not in BODILESS else ""
    if body and "content-type" not in headers:
        length += "\r\ncontent-type: application/octet-stream"
    start = f"{method} {target} HTTP/1.1\r\nhost: {host}{defaults}{length}"
    return ("\r\n".join([start, *map(": ".join, headers.items())]) + "\r\n\r\n").encode()


class Exchange:
    """One request on its way: its bytes, how much of the answer is wanted, and when what happened.

    `rest` is a body that is too big to stand in `head`. `limit` counts decoded bytes of
    the answer's body, of which no more is read. Times are those of `time.perf_counter`, 0.0 until they come.
    """

    __slots__ = ("connected_at", "head", "headed_at", "is_head", "limit", "rest", "until")

    def __init__(self, limit: int, until: float, *, is_head: bool = False) -> None:
        self.head, self.rest = b"", b""
        self.limit, self.until, self.is_head = limit, until, is_head
        self.connected_at = self.headed_at = 0.0


class Answer:
    """What came back, the body unpacked; `is_cut` when not all of it came, fitted or could be unpacked.

    `kept` are as many of the headers, and as much of each, as are worth recording. An
    answer may stand for several that came as the same bytes: do not change it.
    """

    __slots__ = ("body", "headers", "is_cut", "kept", "reason", "status")

    def __init__(self, status: int, reason: str, headers: list[tuple[str, str]], body: bytes, *, is_cut: bool) -> None:
        self.status, self.reason, self.headers, self.body, self.is_cut = status, reason, headers, body, is_cut
        self.kept = kept(headers)


def kept(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return of some headers what is worth recording."""
    return {name: value[:KEPT_HEADER] for name, value in islice(headers, KEPT_HEADERS)}
