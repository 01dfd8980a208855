"""Answers that are written while they are made: their parts come from synchronous code, one by one."""

from collections.abc import AsyncIterator, Iterator

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse


def streamed(request: HttpRequest, parts: Iterator[bytes], content_type: str) -> StreamingHttpResponse:
    """Return an answer of these parts, of which it holds one at a time."""
    is_async = isinstance(request, ASGIRequest)  # it would make a list of what comes one by one
    return StreamingHttpResponse(_one_by_one(parts) if is_async else parts, content_type=content_type)


async def _one_by_one(parts: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Make each part in the thread of the request, which holds its connection to the database."""
    take = sync_to_async(lambda: next(parts, None))
    while (part := await take()) is not None:
        yield part
