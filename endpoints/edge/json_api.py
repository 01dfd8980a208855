"""JSON into the REST API: DRF's parser over the strict JSON of this package."""

from collections.abc import Mapping
from typing import IO, Any

from rest_framework.parsers import BaseParser

from endpoints.edge import strict_json
from endpoints.errors import TooLarge

MAX_BODY_BYTES = 3 * 1024 * 1024 // 2


class StrictJSONParser(BaseParser):
    """Read one JSON text of at most MAX_BODY_BYTES."""

    media_type = "application/json"
    exact_numbers = False

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        body = stream.read(MAX_BODY_BYTES + 1)
        if len(body) > MAX_BODY_BYTES:
            raise TooLarge(f"the body is larger than {MAX_BODY_BYTES} bytes")
        return strict_json.parse(body, exact_numbers=self.exact_numbers)


class ExactJSONParser(StrictJSONParser):
    """The same, keeping numbers as they were written, for what is stored as bytes."""

    exact_numbers = True
