"""Write an attempt as a shell line that sends the same thing again, with secrets left as `$NAME`."""

import base64
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from endpoints.access.principal import Principal
from endpoints.errors import Conflict
from endpoints.models import Endpoint
from messaging.models import Attempt
from messaging.services import lookup

MAX_ARGUMENT_BYTES = 100_000  # Linux takes 128 KiB in one argument
# curl writes these itself, from the URL and the body.
OWN_HEADERS = frozenset({"host", "content-length", "transfer-encoding", "connection"})
# Characters curl would read as a pattern of several URLs.
GLOBS = frozenset("[]{}")


def line_for(attempt: Attempt, *, by: Principal) -> str:
    """Return the line for whoever may read payloads, after writing down that they did; raises Forbidden, Conflict."""
    message = attempt.delivery.message
    return curl_line(attempt, lookup.view_payload(message, by=by, attempt=str(attempt.pk)))


def secret_names(endpoint: Endpoint | None) -> list[str]:
    """Return the `$NAME`s that records of this endpoint may hold, without the `$`.

    Only these are left for the shell to fill in: a sender may put `$HOME` in a
    header, and whoever runs the line must not send the peer a variable of theirs.
    """
    if endpoint is None:
        return []
    tls = endpoint.config.get("tls")
    names = [
        endpoint.credential.name if endpoint.credential else None,
        endpoint.config.get("signing_credential"),
        tls.get("client_credential") if isinstance(tls, Mapping) else None,
    ]
    return [name.upper().replace("-", "_") for name in names if isinstance(name, str)]


def curl_line(attempt: Attempt, payload: bytes | None) -> str:
    """Return the line; raises Conflict when there is nothing left to send again.

    `payload` is what the message holds; the attempt's own body, where one was
    recorded, goes first. Binary and large bodies come through `base64 -d`, since an
    argument can hold neither NUL nor much.
    """
    request: Mapping[str, Any] = attempt.request
    if not str(request.get("url") or "").startswith(("http:", "https:")):
        raise Conflict("this attempt made no HTTP request", code="no_request")
    body = _body(request, payload)
    if body is None:
        raise Conflict("the payload was removed by retention", code="payload_removed")
    names = secret_names(attempt.endpoint)
    url = str(request["url"])
    words = [
        "curl",
        *(["--globoff"] if GLOBS & set(url) else []),
        "-X",
        shlex.quote(str(request.get("method", "POST"))),
    ]
    words.append(quote(url, names))
    words += [f"-H {quote(line, names)}" for line in _header_lines(request.get("headers") or {})]
    if not body:
        return " ".join(words)
    if _fits_argument(body):
        return " ".join([*words, "--data-binary", quote(body.decode(), names if "body" in request else [])])
    encoded = base64.b64encode(body).decode("ascii")
    return f"printf %s {encoded} | base64 -d | {' '.join([*words, '--data-binary', '@-'])}"


def quote(text: str, secrets: Iterable[str] = ()) -> str:
    """Return `text` as one shell word in which only `$NAME`s of `secrets` are left to the shell."""
    names = sorted(secrets, key=len, reverse=True)
    if not names:
        return shlex.quote(text)
    parts = re.split(rf"(\$(?:{'|'.join(map(re.escape, names))})(?![A-Za-z0-9_]))", text)
    return "".join(f'"{part}"' if index % 2 else shlex.quote(part) for index, part in enumerate(parts) if part)


def _body(request: Mapping[str, Any], payload: bytes | None) -> bytes | None:
    if request.get("body_base64") is not None:
        return base64.b64decode(request["body_base64"])
    recorded = request.get("body")
    return str(recorded).encode() if recorded is not None else payload


def _header_lines(headers: Mapping[str, Any]) -> list[str]:
    """Return `-H` arguments by name; an empty value takes `name;`, since `name:` would remove the header."""
    return [
        f"{name}: {value}" if value else f"{name};"
        for name, value in sorted(headers.items())
        if name.lower() not in OWN_HEADERS
    ]


def _fits_argument(body: bytes) -> bool:
    """Say whether `--data-binary` can take the body as its argument ("@..." would name a file)."""
    if len(body) > MAX_ARGUMENT_BYTES or b"\0" in body or body.startswith(b"@"):
        return False
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True
