"""Where every error of aiohttp, ssl and the operating system becomes one TransportError."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp

from endpoints.transports.base import Advice, ErrorClass, TransportError

# The first row whose type matches says it, so the special stand before the general.
FAILURES: tuple[tuple[type[BaseException], ErrorClass, Advice, str], ...] = (
    (TimeoutError, ErrorClass.TIMEOUT, Advice.RETRY, "no answer in time"),
    (aiohttp.ClientConnectorDNSError, ErrorClass.DNS, Advice.RETRY, "no address"),
    (aiohttp.ClientConnectorCertificateError, ErrorClass.TLS, Advice.RETRY, "certificate refused"),
    (aiohttp.ClientConnectorSSLError, ErrorClass.TLS, Advice.RETRY, "no TLS connection"),
    (ssl.SSLError, ErrorClass.TLS, Advice.RETRY, "no TLS connection"),
    (aiohttp.ClientConnectorError, ErrorClass.CONNECT, Advice.RETRY, "no connection"),
    (aiohttp.ServerDisconnectedError, ErrorClass.CONNECT, Advice.RETRY, "connection closed before an answer"),
    (aiohttp.InvalidURL, ErrorClass.BLOCKED_ADDRESS, Advice.DEAD, "address refused"),
    (aiohttp.ClientResponseError, ErrorClass.PROTOCOL, Advice.RETRY, "answer is not proper HTTP"),
    (aiohttp.ClientPayloadError, ErrorClass.PROTOCOL, Advice.RETRY, "answer broke off or is not as announced"),
    (aiohttp.ClientConnectionError, ErrorClass.CONNECT, Advice.RETRY, "connection lost"),
    (aiohttp.ClientError, ErrorClass.PROTOCOL, Advice.RETRY, "request failed"),
    (OSError, ErrorClass.CONNECT, Advice.RETRY, "connection lost"),
)
CAUGHT = (TimeoutError, aiohttp.ClientError, OSError)


def translate(exc: BaseException, where: str = "") -> TransportError:
    """Return what `exc` means in the words of the outcome table."""
    for kind, error_class, advice, words in FAILURES:
        if isinstance(exc, kind):
            reason = "" if kind is TimeoutError else _reason(exc)
            detail = ": ".join(part for part in (where, words, reason) if part)
            return TransportError(detail[:500], error_class=error_class, advice=advice)
    raise exc


def _reason(exc: BaseException) -> str:
    """Return the innermost plain words of an error: the operating system's where there are some."""
    if isinstance(exc, aiohttp.ClientConnectorCertificateError):
        return str(exc.certificate_error)
    if isinstance(exc, aiohttp.ClientConnectorError):
        return str(exc.os_error.strerror or exc.os_error)
    if isinstance(exc, aiohttp.ClientResponseError):
        return " ".join(exc.message.split())
    return str(exc)


@contextmanager
def translated(where: str = "") -> Iterator[None]:
    """Let only TransportErrors out of the block."""
    try:
        yield
    except CAUGHT as exc:
        raise translate(exc, where) from exc
