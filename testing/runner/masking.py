"""Secrets are masked by value: wherever one turns up in what is kept, in whatever spelling."""

import base64
import re
from collections.abc import Iterable, Iterator
from typing import Any

MASK = "***"
SHORTEST = 4  # shorter ones would be found everywhere
CERTAIN = 8  # what begins like this and runs up to a cut is taken for the rest of it
PIECES = re.compile(r"\\+|.", re.DOTALL)
NAMES = {"&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "apos"}
LETTERS = {"\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f"}
SLASH, AMPERSAND, HASH, SEMICOLON = (
    r"(?:\\|%(?:25)*5[cC])",
    "(?:&|%(?:25)*26)",
    "(?:#|%(?:25)*23)",
    "(?:;|%(?:25)*3[bB])",
)
CUT = r"""(?=['"]?\.\.\.)"""


class Masker:
    """Takes the given texts out of values; longest first, so that no part of one stays."""

    def __init__(self, secrets: Iterable[str]) -> None:
        known = sorted({secret for secret in secrets if len(secret) >= SHORTEST}, key=len, reverse=True)
        wholes = [spelling for secret in known for spelling in _spellings(secret)]
        self._pattern = re.compile("|".join(wholes)) if known else None
        self._cut = re.compile("|".join(map(_begun, known))) if known else None

    def text(self, text: str) -> str:
        return self._pattern.sub(MASK, text) if self._pattern is not None and text else text

    def told(self, text: str) -> str:
        """Return a sentence of ours as it may be kept: it may quote a secret up to where it was cut (`...`)."""
        text = self.text(text)
        return self._cut.sub(MASK, text) if self._cut is not None and "..." in text else text

    def value(self, value: Any) -> Any:
        """Return a value as it may be kept."""
        if self._pattern is None:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(key)): self.value(child) for key, child in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(child) for child in value]
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return MASK if self._pattern.fullmatch(str(value)) else value
        return value


def _spellings(secret: str) -> Iterator[str]:
    """Yield the patterns of a secret: character by character, however often it was quoted, and as a whole."""
    encoded = secret.encode("utf-8", "surrogatepass")
    yield "".join(_pieces(secret))
    for whole in {base64.b64encode(encoded), base64.urlsafe_b64encode(encoded)}:
        yield "".join(_pieces(whole.decode().rstrip("=")))
    yield encoded.hex()
    yield encoded.hex().upper()


def _begun(secret: str) -> str:
    """Return the pattern of the beginning of a secret, up to where a text was cut."""
    pieces = _pieces(secret)
    found = r"[^\n]*?" if len(pieces) > CERTAIN else ""
    for piece in reversed(pieces[SHORTEST:CERTAIN]):
        found = f"(?:{piece}{found})?"
    return "".join(pieces[:SHORTEST]) + found + CUT


def _pieces(secret: str) -> list[str]:
    first, *others = PIECES.findall(secret)
    return [_piece(first, is_first=True), *map(_piece, others)]


def _piece(text: str, *, is_first: bool = False) -> str:
    r"""Return the pattern of one character in JSON, reprs, URLs and HTML, and in those within each other.

    Quoted twice, `"` is `\\\"`: any number of backslashes stands before it. Runs of backslashes are one piece, none
    is given back, and none is looked for before the first character, so that no text takes long.
    """
    if text.isascii() and (text.isalnum() or text in "-_"):
        return text
    if text[0] == "\\":
        begin = r"(?:(?<!\\)(?=\\)|(?<!%5[cC])(?=%))" if is_first else ""
        return f"{begin}{SLASH}{{{len(text)},}}+"
    quoted, some = ("", SLASH) if is_first else (f"{SLASH}*+", f"{SLASH}++")
    encoded, code = text.encode("utf-8", "surrogatepass"), ord(text)
    entity = f"{HASH}0*{code}|{HASH}x0*{code:x}|{NAMES.get(text, 'none')}"
    units = text.encode("utf-16-be", "surrogatepass").hex()
    spelled = [
        f"{quoted}{re.escape(text)}",
        f"{quoted}{''.join(f'%(?:25)*{byte:02x}' for byte in encoded)}",
        f"{quoted}{AMPERSAND}(?:amp{SEMICOLON})*(?:{entity}){SEMICOLON}",
        f"{some}x{code:02x}" if code < 256 else f"{some}U{code:08x}",
        some + f"{SLASH}++".join(f"u{units[at : at + 4]}" for at in range(0, len(units), 4)),
        some + f"{SLASH}++".join(f"x{byte:02x}" for byte in encoded),
        *([f"{some}{LETTERS[text]}"] if text in LETTERS else []),
        *([r"\+", "%(?:25)*2b"] if text == " " else []),
    ]
    return f"(?i:{'|'.join(spelled)})"
