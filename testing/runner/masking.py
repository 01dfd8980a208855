"""Secrets are masked by value: wherever one turns up in what is kept, in whatever spelling."""

import base64
import json
import re
from collections.abc import Iterable
from html import escape
from typing import Any
from urllib.parse import quote, quote_plus

import orjson

MASK = "***"
SHORTEST = 4  # shorter ones would be found everywhere


class Masker:
    """Takes the given texts out of values; longest first, so that no part of one stays."""

    def __init__(self, secrets: Iterable[str]) -> None:
        spellings = {spelling for secret in secrets if len(secret) >= SHORTEST for spelling in _spellings(secret)}
        ordered = sorted(spellings, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def text(self, text: str) -> str:
        return self._pattern.sub(MASK, text) if self._pattern is not None and text else text

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


def _spellings(secret: str) -> Iterable[str]:
    encoded = secret.encode("utf-8", "surrogatepass")
    yield secret
    yield quote(secret, safe="")
    yield quote_plus(secret)
    yield escape(secret)
    yield orjson.dumps(secret).decode()[1:-1]
    yield json.dumps(secret)[1:-1]  # the same in ASCII
    yield repr(secret)[1:-1]
    yield base64.b64encode(encoded).decode().rstrip("=")
    yield encoded.hex()
