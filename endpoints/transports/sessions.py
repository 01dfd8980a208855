"""The connections of one endpoint to a database: so many at most, lent to one asker at a time, used while sound."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from endpoints.transports.base import ErrorClass, TransportError

S = TypeVar("S")
IDLE_S = 60.0


class Refusal(TransportError):
    """The peer understood what it was asked, and said no; the connection is as good as before.

    `code` is the peer's own word for it (an SQLSTATE, `WRONGTYPE`).
    """

    def __init__(self, detail: str, *, error_class: ErrorClass, code: str) -> None:
        super().__init__(detail, error_class=error_class)
        self.code = code


class Sessions(Generic[S]):
    """Lends sessions. One whose asker was cut off, or met more than a Refusal, is closed: who knows how it stands."""

    def __init__(
        self,
        most: int,
        connect: Callable[[], Awaitable[S]],
        close: Callable[[S], Awaitable[None]],
        is_sound: Callable[[S], bool],
    ) -> None:
        self._connect, self._close, self._is_sound = connect, close, is_sound
        self._room = asyncio.Semaphore(most)
        self._idle: list[tuple[float, S]] = []
        self._is_open = True

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[S]:
        """Yield a session of one's own; raises TransportError when none can be made."""
        async with self._room:
            session = await self._take()
            is_good = False
            try:
                yield session
                is_good = True
            except Refusal:
                is_good = True
                raise
            finally:
                if is_good and self._is_open:
                    self._idle.append((time.monotonic(), session))
                else:
                    await self._close(session)

    async def aclose(self) -> None:
        """Close those that nobody has; one that is lent is closed when it comes back."""
        self._is_open = False
        idle, self._idle = self._idle, []
        for _, session in idle:
            await self._close(session)

    async def _take(self) -> S:
        """Return an idle session that is still sound, the last used first, or a new one."""
        while self._idle:
            since, session = self._idle.pop()
            if time.monotonic() - since < IDLE_S and self._is_sound(session):
                return session
            await self._close(session)
        if not self._is_open:
            raise TransportError("the connection is closed", error_class=ErrorClass.CONNECT)
        return await self._connect()
