"""How doors without a framework read and answer, in the words of ASGI."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from endpoints.edge.problem import problem
from endpoints.errors import ControlPlaneError, UnsupportedMediaType

Header = tuple[bytes, bytes]
Send = Callable[[dict[str, Any]], Awaitable[None]]

JSON_HEADER: Header = (b"content-type", b"application/json")
TEXT_HEADER: Header = (b"content-type", b"text/plain; charset=utf-8")


def headers_of(scope: Mapping[str, Any]) -> dict[bytes, bytes]:
    """Return a request's headers by name; one that comes several times is all of its values (RFC 9110, 5.3)."""
    pairs: list[Header] = scope["headers"]
    headers = dict(pairs)
    if len(headers) == len(pairs):
        return headers
    values: dict[bytes, list[bytes]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return {name: b", ".join(given) for name, given in values.items()}


def require_plain(headers: Mapping[bytes, bytes]) -> None:
    """Raise UnsupportedMediaType for a body that is encoded, which nobody here decodes."""
    if headers.get(b"content-encoding", b"identity").strip().lower() not in (b"", b"identity"):
        raise UnsupportedMediaType("send the body as it is, without Content-Encoding")


def text_of(value: bytes) -> str:
    """Return a header's value as text: UTF-8, as we write it, else Latin-1, which anything is (RFC 9110, 5.5)."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def refusal(error: ControlPlaneError) -> tuple[int, list[Header], bytes]:
    """Return status, headers and body of the answer to `error`."""
    status, named, body = problem(error)
    return status, [(name.lower().encode(), value.encode()) for name, value in named.items()], body


async def answer(send: Send, status: int, headers: list[Header], body: bytes) -> None:
    """Answer the request, with the length of the body."""
    headers = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
