"""How answers are written: JSON that leaves numbers and embedded JSON texts as they were given, and plain text."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import orjson
from django.utils.functional import Promise
from rest_framework.renderers import BaseRenderer

from endpoints.edge import strict_json


class ExactJSONRenderer(BaseRenderer):
    """Compact UTF-8 JSON: `orjson.Fragment` is written verbatim, so a stored payload reads back byte for byte."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        return b"" if data is None else orjson.dumps(data, default=_plain)


class PlainTextRenderer(BaseRenderer):
    """Text as it is; a problem (always a mapping) is JSON whatever was asked for."""

    media_type = "text/plain"
    format = "txt"
    charset = "utf-8"

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        if isinstance(data, Mapping):
            return orjson.dumps(data, default=_plain)
        return b"" if data is None else str(data).encode()


def _plain(value: Any) -> Any:
    """Return what orjson has no word for in words that it has."""
    if isinstance(value, Promise | Decimal):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    return orjson.Fragment(strict_json.dumps(value))
