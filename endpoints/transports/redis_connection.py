"""One connection to Redis: the protocol is redis-py's, the way there is egress's, and an answer has a bound."""

import asyncio
import ssl
from collections.abc import Mapping
from typing import Any

from redis import exceptions
from redis.asyncio.connection import Connection
from redis.exceptions import RedisError

from endpoints.egress import default_egress
from endpoints.transports.base import ErrorClass, TransportError
from endpoints.transports.failures import HungUp, translated
from endpoints.transports.sessions import Refusal

CUT = "the answer is longer than may be looked at"
# The first that fits says it; redis-py takes the code off those it knows.
ERRORS: tuple[tuple[type[RedisError], ErrorClass, str], ...] = (
    (exceptions.NoPermissionError, ErrorClass.AUTH, "NOPERM"),
    (exceptions.AuthenticationError, ErrorClass.AUTH, "WRONGPASS"),
    (exceptions.AuthorizationError, ErrorClass.AUTH, "NOPERM"),
    (exceptions.MaxConnectionsError, ErrorClass.THROTTLED, "ERR"),
    (exceptions.BusyLoadingError, ErrorClass.SERVER_ERROR, "LOADING"),
    (exceptions.OutOfMemoryError, ErrorClass.SERVER_ERROR, "OOM"),
    (exceptions.ReadOnlyError, ErrorClass.CLIENT_ERROR, "READONLY"),
    (exceptions.NoScriptError, ErrorClass.CLIENT_ERROR, "NOSCRIPT"),
    (exceptions.ResponseError, ErrorClass.CLIENT_ERROR, "ERR"),
)


class TooLong(Exception):
    """The answer is over the bound."""


class _Bounded(asyncio.StreamReaderProtocol):
    """Lets `left` more bytes in, and cuts the line at the next."""

    left = 0

    def data_received(self, data: bytes) -> None:
        self.left -= len(data)
        if self.left >= 0:
            super().data_received(data)
            return
        stream, transport = self._stream_reader, self._transport  # type: ignore[attr-defined]
        if stream is not None:
            stream.set_exception(TooLong(CUT))
        if transport is not None:
            transport.abort()


class RedisConnection(Connection):
    """Connects through egress; use `ask` alone."""

    def __init__(
        self, host: str, port: int, *, tls: ssl.SSLContext | None, server_name: str | None, **more: Any
    ) -> None:
        super().__init__(host=host, port=port, protocol=3, driver_info=None, **more)
        self._tls, self._server_name = tls, server_name
        self._bound: _Bounded | None = None

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=2**16, loop=loop)
        bound = await default_egress().connect(
            lambda: _Bounded(reader, loop=loop), self.host, self.port, tls=self._tls, server_name=self._server_name
        )
        bound.left = 2**16  # a greeting is short
        self._bound = bound
        self._reader = reader
        self._writer = asyncio.StreamWriter(bound._transport, bound, reader, loop)  # type: ignore[attr-defined]

    async def begin(self) -> None:
        """Connect and show who we are; raises TransportError."""
        with translated(f"{self.host}:{self.port}"):
            try:
                # Past redis-py's own `connect`, which knows no way but its own to say what went wrong.
                await self._connect()
                await self.on_connect_check_health(check_health=False)
            except RedisError as exc:
                raise translate(exc) from exc

    async def ask(self, words: list[Any], most_bytes: int) -> Any:
        """Return what is said to a command; raises TransportError, a Refusal for an error that is the answer."""
        assert self._bound is not None
        self._bound.left = most_bytes
        with translated(f"{self.host}:{self.port}"):
            try:
                await self.send_packed_command(self.pack_command(*words), check_health=False)
                return await self.read_response(disconnect_on_error=False)
            except TooLong as exc:
                raise TransportError(f"{CUT}, {most_bytes} bytes", error_class=ErrorClass.PROTOCOL) from exc
            except RedisError as exc:
                raise translate(exc) from exc

    async def hang_up(self) -> None:
        """Cut the line. There is no farewell: over TLS it waits for the peer's, and may outlive the loop."""
        if self._writer is not None:
            self._writer.transport.abort()
        await self.disconnect(nowait=True)

    @property
    def is_sound(self) -> bool:
        """Say whether the line still stands."""
        return self._reader is not None and not self._reader.at_eof() and self._reader.exception() is None


def translate(exc: RedisError) -> TransportError | HungUp:
    """Return what an error of redis-py means; what is no answer broke the line."""
    said = " ".join(str(exc).split())[:500]
    for kind, error_class, code in ERRORS:
        if isinstance(exc, kind):
            first = said.partition(" ")[0]
            own = first if first.isupper() and first.isalpha() else code
            return Refusal(said, error_class=error_class, code=own)
    return HungUp(said)


def plain(value: Any) -> Any:
    """Return an answer as JSON can say it; bytes that are no UTF-8 as hex."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.hex()
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(child) for key, child in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(child) for child in value]
    return str(value) if isinstance(value, Exception) else value
