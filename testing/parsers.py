"""Bodies that stay bytes until a reader of their own takes them."""

from collections.abc import Mapping
from typing import IO, Any, ClassVar

from rest_framework.parsers import BaseParser

from testing.outside import MAX_BYTES


class RawReport(BaseParser):
    """Take a report as it came, whichever of the media types says so; what it is its first byte tells."""

    MEDIA: ClassVar[tuple[str, ...]] = ("application/xml", "text/xml", "application/json")
    media_type = "*/*"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        return stream.read(MAX_BYTES + 1)
