"""From bodies to drafts: short ones at once; long ones beside the event loop, message by message, and none in vain.

To parse a MiB of numbers takes a tenth of a second, in which nobody else is served, on whatever thread: a body
is only looked into when its sender may store as much, and a long array is taken apart before it is parsed.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

from endpoints.access.principal import Principal
from endpoints.edge import strict_json
from endpoints.edge.apart import apart
from endpoints.errors import ControlPlaneError, Malformed, TooLarge
from messaging.intake.directory import find_longest
from messaging.intake.envelope import Draft, read_message

T = TypeVar("T")
Read = Callable[[Any], Draft]

AT_ONCE = 64 * 1024  # bytes
MAX_BATCH_BYTES = 16 * 1024 * 1024
MAX_BATCH_ITEMS = 1000
ESCAPED = 3  # a payload in an envelope, escaped, indented or in base64, may take so many times the bytes it has
# All that tells where a value ends. A string is skipped as a whole, whatever it holds, and one that never ends to the
# end: looked into for another beginning, a body of escaped quotes would take minutes.
_MARK = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
_ARRAY, _BETWEEN, _BLANK = (re.compile(rb"[ \t\r\n]*" + more) for more in (rb"\[", rb",[ \t\r\n]*", rb""))


def is_array(body: bytes) -> bool:
    """Say whether the body is a JSON array, if it is JSON."""
    return _ARRAY.match(body) is not None


async def read_one(body: bytes, principal: Principal, read: Callable[[bytes], T]) -> T:
    """Return what `read` makes of a body with one message; raises TooLarge where none so long can be stored."""
    if len(body) <= AT_ONCE:
        return read(body)
    _check_length(body, await _longest(principal))
    return await apart(read, body)


async def read_batch(body: bytes, principal: Principal, read: Read) -> list[Draft | ControlPlaneError]:
    """Return a draft of each message of a JSON array, or why there is none.

    Raises Malformed for what is no array of messages, TooLarge for one of too many.
    """
    if len(body) > MAX_BATCH_BYTES:
        raise _too_many()
    if len(body) > AT_ONCE:
        return await apart(_read_pieces, body, await _longest(principal), read)
    data = strict_json.parse(body, exact_numbers=True)
    if not isinstance(data, list):
        raise Malformed("a batch must be a JSON array")
    check_batch(data)
    return [_or_error(read, item) for item in data]


async def read_lines(lines: Sequence[bytes], principal: Principal) -> list[Draft | ControlPlaneError]:
    """Return a draft of each line, or why there is none."""
    if max(map(len, lines)) <= AT_ONCE:
        return [_or_error(_read_text, line) for line in lines]
    read = partial(_read_text, longest=await _longest(principal))
    return [await apart(_or_error, read, line) if len(line) > AT_ONCE else _or_error(read, line) for line in lines]


def parse_and(read: Read, text: bytes) -> Draft:
    """Return the draft of one JSON text; raises Malformed."""
    return read(strict_json.parse(text, exact_numbers=True))


def check_batch(data: Sequence[Any]) -> None:
    """Raise Malformed for an array without messages, TooLarge for one of more than it may hold."""
    if not data:
        raise Malformed("a batch has at least one message", code="invalid")
    if len(data) > MAX_BATCH_ITEMS:
        raise _too_many()


def _too_many() -> TooLarge:
    return TooLarge(f"a batch has at most {MAX_BATCH_ITEMS} messages and at most {MAX_BATCH_BYTES} bytes")


async def _longest(principal: Principal) -> int:
    """Return how many bytes a body with one message may have, if the largest one that may be stored is in it."""
    return await find_longest(principal.system_slug) * ESCAPED + AT_ONCE


def _check_length(body: bytes, longest: int) -> None:
    if len(body) > longest:
        raise TooLarge(f"the message has {len(body)} bytes; what may be sent here has at most {longest}")


def _read_pieces(body: bytes, longest: int, read: Read) -> list[Draft | ControlPlaneError]:
    pieces: list[bytes] = []
    for piece in _pieces(body):
        pieces.append(piece)
        check_batch(pieces)
    check_batch(pieces)
    return [_read_piece(read, longest, number, piece) for number, piece in enumerate(pieces, 1)]


def _read_piece(read: Read, longest: int, number: int, piece: bytes) -> Draft | ControlPlaneError:
    try:
        _check_length(piece, longest)
        value = strict_json.parse(piece, exact_numbers=True)
    except TooLarge as exc:
        return exc
    except Malformed as exc:  # then the whole is no JSON
        raise Malformed(f"message {number} of the batch: {exc.detail}", code=exc.code) from exc
    return _or_error(read, value)


def _pieces(body: bytes) -> Iterator[bytes]:
    """Yield each object of a JSON array, not parsed; raises Malformed for anything else between its brackets."""
    if opened := _ARRAY.match(body):
        depth, start, end = 0, 0, opened.end()
        for mark in _MARK.finditer(body, end):
            char = mark[0][:1]
            if depth == 0:
                gap = body[end : mark.start()]
                if char == b"]" and _BLANK.fullmatch(gap) and _BLANK.fullmatch(body, mark.end()):
                    return
                if char != b"{" or not (_BETWEEN if start else _BLANK).fullmatch(gap):
                    break
                start = mark.start()
            if char in b"[{":
                depth += 1
            elif char in b"]}":
                depth -= 1
                if depth == 0:
                    end = mark.end()
                    yield body[start:end]
    raise Malformed("not valid JSON: a batch must be an array of objects, with a comma between any two")


def _read_text(text: bytes, longest: int = AT_ONCE) -> Draft:
    _check_length(text, longest)
    return parse_and(read_message, text)


def _or_error(read: Callable[[T], Draft], item: T) -> Draft | ControlPlaneError:
    """Return a draft, or why there is none: one bad message of many must not sink the others."""
    try:
        return read(item)
    except (Malformed, TooLarge) as exc:
        return exc
