"""Bodies that stay bytes until a reader of their own takes them."""

from collections.abc import Mapping
from typing import IO, Any, ClassVar

from rest_framework.parsers import BaseParser


class RawReport(BaseParser):
    """Hand a report on as it comes, whichever of the media types says so; what it is its first byte tells."""

    MEDIA: ClassVar[tuple[str, ...]] = ("application/xml", "text/xml", "application/json")
    media_type = "*/*"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        return stream
