"""How stored bytes are shown: JSON indented but otherwise as it was sent, other text as it is, the rest as hex."""

import re
from dataclasses import dataclass

import orjson

from endpoints.edge import strict_json
from endpoints.errors import Malformed
from endpoints.transports.bodies import is_json

MOST_SHOWN = 64 * 1024
MOST_HEX = 1024
HEX_WIDTH = 16
INDENT = "  "
# Strings, the six structural characters, and whatever else (numbers, literals).
PIECE = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


@dataclass(frozen=True, slots=True)
class Shown:
    """`kind` is json, text, binary or empty; `text` what to print; `cut` says that there is more."""

    kind: str
    text: str
    size: int
    cut: bool = False


def shown(body: bytes, content_type: str = "") -> Shown:
    """Return `body` as a person can read it; never more than 64 KiB of it."""
    if not body:
        return Shown("empty", "", 0)
    cut = len(body) > MOST_SHOWN
    try:
        # A cut may fall within a character; `body` itself decides whether this is text.
        text = body[:MOST_SHOWN].decode("utf-8", "ignore" if cut else "strict")
    except UnicodeDecodeError:
        text = ""
    if not text or "\0" in text:
        return Shown("binary", hex_dump(body[:MOST_HEX]), len(body), len(body) > MOST_HEX)
    if not cut and ("json" in content_type or text.lstrip()[:1] in "{["):
        return Shown("json", indented(text), len(body))
    return Shown("text", text, len(body), cut)


def verbatim_json(body: bytes, content_type: str) -> orjson.Fragment | None:
    """Return a payload as JSON to be written as it was sent, or None when it is not JSON.

    A raw body may call itself JSON and not be; shown unchecked, it would break
    every answer that it is part of.
    """
    if not is_json(content_type):
        return None
    try:
        strict_json.parse(body)
    except Malformed:
        return None
    return orjson.Fragment(body)


def indented(text: str) -> str:
    """Return JSON text with line breaks, every number and string spelled as it was.

    Parsing and writing it again would show 1e2 as 100.0 and lose digits of long numbers.
    """
    depth, parts, previous = 0, [], ""
    for piece in PIECE.findall(text):
        if piece in "}]":
            depth = max(0, depth - 1)
            parts.append(piece if previous in ("{", "[") else f"\n{INDENT * depth}{piece}")
        elif previous in ("{", "[", ","):
            parts.append(f"\n{INDENT * depth}{piece}")
        else:
            parts.append(piece)
        if piece in "{[":
            depth += 1
        elif piece == ":":
            parts.append(" ")
        previous = piece
    return "".join(parts)


def hex_dump(body: bytes) -> str:
    """Return bytes as rows of offset, hex and printable characters."""
    rows = []
    for start in range(0, len(body), HEX_WIDTH):
        row = body[start : start + HEX_WIDTH]
        printable = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        rows.append(f"{start:06x}  {row.hex(' '):<{HEX_WIDTH * 3}} {printable}")
    return "\n".join(rows)
