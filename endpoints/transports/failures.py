"""Where every error of a connection, ssl and the operating system becomes one TransportError."""

import errno
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from endpoints.transports.base import Advice, ErrorClass, TransportError


class NotConnected(OSError):
    """No connection could be made; `strerror` says why."""


class HungUp(ConnectionError):
    """The connection ended before an answer came."""


class Stale(HungUp):
    """A connection that had been kept alive ended before any byte of an answer came: the peer was tired of it."""


class BadAnswer(Exception):
    """What came back is not HTTP, or too much of it."""


class BadFrame(Exception):
    """What came back is not in the framing of the endpoint, or too much of it."""


# The first row whose type matches says it, so the special stand before the general.
FAILURES: tuple[tuple[type[BaseException], ErrorClass, Advice, str], ...] = (
    (TimeoutError, ErrorClass.TIMEOUT, Advice.RETRY, "no answer in time"),
    (ssl.SSLCertVerificationError, ErrorClass.TLS, Advice.RETRY, "certificate refused"),
    (ssl.SSLError, ErrorClass.TLS, Advice.RETRY, "no TLS connection"),
    (NotConnected, ErrorClass.CONNECT, Advice.RETRY, "no connection"),
    (HungUp, ErrorClass.CONNECT, Advice.RETRY, "connection closed before an answer"),
    (BadAnswer, ErrorClass.PROTOCOL, Advice.RETRY, "answer is not proper HTTP"),
    (BadFrame, ErrorClass.PROTOCOL, Advice.RETRY, "answer is not proper"),
    (OSError, ErrorClass.CONNECT, Advice.RETRY, "connection lost"),
)
# What we lack ourselves says nothing of the receiver: it spends no attempt, and shuts no breaker.
OURS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
CAUGHT = (TimeoutError, OSError, BadAnswer, BadFrame)


def translate(exc: BaseException, where: str = "") -> TransportError:
    """Return what `exc` means in the words of the outcome table."""
    if isinstance(exc, OSError) and exc.errno in OURS:
        detail = f"this host has too little to send now: {exc.strerror or exc}"
        return TransportError(detail[:500], error_class=ErrorClass.CONNECT, advice=Advice.THROTTLED, retry_after_s=1.0)
    for kind, error_class, advice, words in FAILURES:
        if isinstance(exc, kind):
            reason = "" if kind is TimeoutError else _reason(exc)
            detail = ": ".join(part for part in (where, words, reason) if part)
            return TransportError(detail[:500], error_class=error_class, advice=advice)
    raise exc


def let_go(error: BaseException) -> None:
    """Take the frames off an error and off what led to it.

    A frame that raises what it holds in a variable is a circle, and holds the payload
    with it until the garbage collector comes by.
    """
    following: list[BaseException | None] = [error]
    known: set[int] = set()
    while following:
        each = following.pop()
        if each is not None and id(each) not in known:
            known.add(id(each))
            each.__traceback__ = None
            following += each.__cause__, each.__context__


def _reason(exc: BaseException) -> str:
    """Return the innermost plain words of an error: the operating system's where there are some."""
    if isinstance(exc, NotConnected):
        return exc.strerror or ""
    return str(exc)


@contextmanager
def translated(where: str = "") -> Iterator[None]:
    """Let only TransportErrors out of the block."""
    try:
        yield
    except CAUGHT as exc:
        raise translate(exc, where) from exc
